"""Owns what a detector's answer means: from numbers for each cell to boxes. Refuses to run a model and to know files.

For each cell there is a score, and for each side of its box a distribution over 0..reg_max, whose mean is the side's
distance from the middle of the cell, in strides (Li et al. 2020, "Generalized Focal Loss", as NanoDet has it).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.manifest import Detector

MOST = 100  # of a frame's boxes, the surest: overlaps are quadratic, and no home has a hundred people in view
DIGITS = 4  # of a self-test's numbers: finer than any tolerance, and release.json travels with each update

Values = NDArray[np.float32]


def cells(detector: Detector) -> Values:
    """Return middle (across, down) and stride of each cell, n x 3, in pixels of the input, in the outputs' order."""
    _, height, width, _ = detector.input.shape
    return np.concatenate([_grid(height // stride, width // stride, stride) for stride in detector.strides])


def _grid(rows: int, columns: int, stride: int) -> Values:
    down, across = np.mgrid[:rows, :columns]
    middles = (np.stack([across, down], axis=-1).reshape(-1, 2) + 0.5) * stride
    return np.concatenate([middles, np.full((len(middles), 1), stride)], axis=1).astype(np.float32)


def distances(logits: Values) -> Values:
    """Return the mean of each side's distribution, in strides: n x 4 x (reg_max + 1) logits to n x 4."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray((powers / powers.sum(axis=-1, keepdims=True)) @ np.arange(logits.shape[-1], dtype=np.float32))


def decode(scores: Values, logits: Values, grid: Values, least: float) -> tuple[Values, Values]:
    """Return the corners (n x left, top, right, bottom, in pixels of the input) and scores of the boxes.

    Args:
        scores: one a cell.
        logits: n x 4 x (reg_max + 1); left, top, right, bottom.
        grid: as ``cells`` gives it.
        least: the score of the least sure box that counts. At most MOST come, the surest first.
    """
    chosen = np.flatnonzero(scores >= least)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:MOST]
    middle, stride = grid[chosen, :2], grid[chosen, 2:]
    sides = distances(logits[chosen]) * stride
    return np.concatenate([middle - sides[:, :2], middle + sides[:, 2:]], axis=1), scores[chosen]


def suppress(corners: Values, most_overlap: float) -> list[int]:
    """Return which of ``corners``, the surest first, stay: those that overlap no surer one by ``most_overlap``."""
    same = overlaps(corners, corners) >= most_overlap
    kept: list[int] = []
    for number in range(len(corners)):
        if not same[number, kept].any():
            kept.append(number)
    return kept


def overlaps(boxes: Values, others: Values) -> Values:
    """Return how far each of ``boxes`` and of ``others`` are the same: n x m, intersection over union of corners."""
    low = np.maximum(boxes[:, np.newaxis, :2], others[:, :2])
    high = np.minimum(boxes[:, np.newaxis, 2:], others[:, 2:])
    width, height = np.moveaxis(np.maximum(high - low, 0), -1, 0)
    shared = width * height
    together = _areas(boxes)[:, np.newaxis] + _areas(others) - shared
    return np.asarray(shared / np.maximum(together, 1e-6), np.float32)


def _areas(corners: Values) -> Values:
    return np.asarray((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]))


def summarise(scores: Values, logits: Values, detector: Detector) -> tuple[float, ...]:
    """Return what the self-test compares of one answer: for each stride the largest score and the mean distance.

    The distance is a share of the farthest one, so that every number is from 0 to 1. A box itself would jump where
    two cells are about as sure; these do not, and weights that are damaged move them.
    """
    _, height, width, _ = detector.input.shape
    ends = np.cumsum([(height // stride) * (width // stride) for stride in detector.strides])[:-1]
    parts = zip(np.split(scores, ends), np.split(distances(logits), ends), strict=True)
    row: list[Any] = [value for score, side in parts for value in (score.max(), side.mean() / detector.reg_max)]
    return tuple(round(float(np.clip(value, 0, 1)), DIGITS) for value in row)
