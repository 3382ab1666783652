"""Owns which of the boxes that a detector finds is which labelled person's; refuses to guess where none fits.

A device cuts crops where its detector sees people, and its boxes are not those that somebody drew: a head that
learned from drawn boxes meets other margins, other feet and other backgrounds at home.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.detection.decode import overlaps
from contract.detection.runner import DetectorRunner
from contract.preprocess import Box, Image

LEAST_OVERLAP = 0.5  # intersection over union; under it a box may be another person's who stands near

Item = TypeVar("Item")


def as_found(image: Image, items: Sequence[tuple[Item, Box]], detector: DetectorRunner) -> list[tuple[Item, Box]]:
    """Return ``items`` with the boxes that ``detector`` finds in ``image``, without those that it does not find.

    Raises:
        ReleaseError: the detector does not run.
    """
    found = [one.box for one in detector.find(image)]
    matched = match([box for _, box in items], found)
    return [(items[row][0], found[column]) for row, column in sorted(matched.items())]


def match(labelled: Sequence[Box], found: Sequence[Box]) -> dict[int, int]:
    """Return which of ``found`` belongs to which of ``labelled``, by number: one to one, the best overlaps first."""
    if not labelled or not found:
        return {}
    shared = overlaps(_corners(labelled), _corners(found))
    matched: dict[int, int] = {}
    for place in np.argsort(-shared, axis=None, kind="stable"):
        row, column = divmod(int(place), len(found))
        if shared[row, column] >= LEAST_OVERLAP and row not in matched and column not in matched.values():
            matched[row] = column
    return matched


def _corners(boxes: Sequence[Box]) -> NDArray[np.float32]:
    return np.array([(x, y, x + width, y + height) for x, y, width, height in boxes], np.float32)
