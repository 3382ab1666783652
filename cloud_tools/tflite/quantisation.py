"""Owns the pictures that an int8 backbone takes its scales from, and their digest. Refuses to choose twice.

A release with a base keeps the base's backbone file, so that its scales are frozen for good: other scales are other
bytes in every layer. Labels are not used: which crops they are depends on the dataset's train side alone, strangers
included. A few of them decide; the test side is never among them.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_tools.cache import digest_of
from cloud_tools.datasets.dataset import Dataset
from cloud_tools.datasets.labels import load_labels
from cloud_tools.datasets.splits import TRAIN
from cloud_tools.inputs import LABELS, sample_video
from cloud_tools.tflite.selftest_inputs import selftest_inputs
from contract.errors import InputError
from contract.manifest import Preprocess
from contract.preprocess import Box, Image, crop, prepare
from contract.video.reader import pictures

MOST = 100  # pictures; a backbone of 160 pixels takes 5 s of CPU for them
LEAST = 20  # with fewer, the public pictures help


@dataclass(frozen=True)
class Calibration:
    """Pictures (n x height x width x 3, uint8, RGB) and what they are of, for the provenance."""

    source: str
    pictures: NDArray[np.uint8]

    @property
    def digest(self) -> str:
        """SHA-256 of their number, size and pixels."""
        return digest_of(repr(self.pictures.shape), np.ascontiguousarray(self.pictures).tobytes())


def household_calibration(dataset: Dataset, how: Preprocess) -> Calibration:
    """Return the calibration of a household: at most MOST crops, evenly over the train side in the order of time.

    Raises:
        InputError: a picture is missing or was changed.
    """
    crops = sorted(
        (*dataset.side(TRAIN), *dataset.side(TRAIN, strangers=True)), key=lambda c: (c.time_s, c.frame, c.pixels)
    )
    return calibration("household", (dataset.image(crops[i]) for i in evenly(len(crops), MOST)), how)


def sample_calibration(how: Preprocess) -> Calibration:
    """Return the calibration of the sample video's people: the same backbone for every household, less fitting.

    Raises:
        InputError, PeerError: as ``inputs.sample_video``.
    """
    labels = load_labels(LABELS)
    boxes = sorted((frame, name, box) for name, rows in labels.household.items() for frame, box in rows.items())
    wanted = [boxes[i] for i in evenly(len(boxes), MOST)]
    return calibration("sample", _cut(sample_video(), wanted, how), how)


def _cut(video: Path, wanted: list[tuple[int, str, Box]], how: Preprocess) -> Iterator[Image]:
    for number, frame in frames_of(video, {number for number, _, _ in wanted}):
        yield from (crop(frame, box, how.context) for at, _, box in wanted if at == number)


def frames_of(video: Path, wanted: Collection[int]) -> Iterator[tuple[int, Image]]:
    """Return the frames of ``video`` that have the ``wanted`` numbers, in order.

    Raises:
        InputError: it ends before one of them.
    """
    last = max(wanted)
    for picture in pictures(video):
        if picture.number in wanted:
            yield picture.number, picture.pixels
        if picture.number >= last:
            return
    raise InputError(f"{video}: ends before frame {last}, which is wanted of it")


def calibration(source: str, images: Iterable[Image], how: Preprocess) -> Calibration:
    """Return the calibration from crops (BGR), with the self-test's pictures where they are under LEAST."""
    rows = [prepare(image, how) for image in images]
    if rows:
        rows.append(_full_range(rows[0]))
    if len(rows) <= LEAST:
        source += " and public pictures"
        rows += list(selftest_inputs(how.size))
    return Calibration(source, np.stack(rows))


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the numbers from 0 to ``count`` - 1, evenly spread, the first among them."""
    return sorted({i * count // most for i in range(most)}) if count else []


def _full_range(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch a picture to 0..255: then the scale of the input is 1 and a pixel is its own quantised value."""
    values = rgb.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    return np.asarray(np.rint((values - low) * (255.0 / max(high - low, 1.0))), np.uint8)
