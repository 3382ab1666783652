"""Owns variants of train crops: mirrored, brighter or darker, cut a little closer. Refuses to touch the files.

A variant is made when its features are asked for, and its features are cached like any crop's: the recipe depends on
the seed, the crop and the number of the variant alone. The cost is one run of the backbone a variant (11 ms of
CPU measured for MobileNetV2 at 160 pixels, float32) and as much more to train on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cloud_tools.cache import digest_of
from cloud_tools.datasets.dataset import Crop, Dataset
from contract.preprocess import Image

MOST_CUT = 0.08  # of the height or width, on each side: a detector's box is off by about as much
GAIN = (0.75, 1.25)  # of the brightness: a lamp, or a cloud
KIND = "flip, gain, cut; 1"  # changes when the variants do, so that cached features are not taken for theirs


@dataclass(frozen=True)
class Recipe:
    """What is done to a picture; ``cut`` are shares: top, bottom, left, right."""

    flip: bool
    gain: float
    cut: tuple[float, float, float, float]


@dataclass(frozen=True)
class VariedDataset(Dataset):
    """A dataset of variants: ``origins`` gives the crop and the recipe of each by its ``pixels``."""

    origins: dict[str, tuple[Crop, Recipe]] = field(default_factory=dict)

    def image(self, crop: Crop) -> Image:
        """Make the variant ``crop``; InputError when its picture is missing or was changed."""
        origin, recipe = self.origins[crop.pixels]
        return apply_recipe(super().image(origin), recipe)


def vary(dataset: Dataset, crops: Sequence[Crop], times: int, seed: int) -> VariedDataset:
    """Return ``times`` variants of each crop: first one of every crop, then the second of every crop, ..."""
    origins: dict[str, tuple[Crop, Recipe]] = {}
    varied = []
    for number in range(times):
        for crop in crops:
            key = digest_of(KIND, crop.pixels, str(seed), str(number))
            origins[key] = crop, draw_recipe(key)
            varied.append(replace(crop, pixels=key))
    return VariedDataset(dataset.folder, dataset.source, tuple(varied), dataset.names, origins)


def draw_recipe(key: str) -> Recipe:
    """Return the recipe that belongs to ``key`` (hexadecimal)."""
    random = np.random.default_rng(int(key[:16], 16))
    top, bottom, left, right = random.uniform(0, MOST_CUT, 4).tolist()
    return Recipe(bool(random.integers(2)), float(random.uniform(*GAIN)), (top, bottom, left, right))


def apply_recipe(image: Image, recipe: Recipe) -> Image:
    """Return ``image`` (BGR, uint8) varied; at least one pixel stays."""
    height, width = image.shape[:2]
    top, bottom, left, right = recipe.cut
    rows = slice(int(top * height), max(int(top * height) + 1, height - int(bottom * height)))
    columns = slice(int(left * width), max(int(left * width) + 1, width - int(right * width)))
    part = image[rows, columns]
    varied = np.clip(np.rint(part.astype(np.float32) * recipe.gain), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(varied[:, ::-1] if recipe.flip else varied)
