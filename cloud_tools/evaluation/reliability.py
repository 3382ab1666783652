"""Owns how far a model's confidence can be believed: expected calibration error and the table behind it.

Refuses to mend it. A model that says 0.9 should be right nine times in ten (Guo et al., 2017, "On Calibration of
Modern Neural Networks").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contract.bundle_runner import Probabilities

BINS = 10  # of equal width over the confidence


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence is over ``low`` and at most ``high``: how many, how sure, how often right (shares)."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """``ece``: mean distance of confidence from accuracy, weighted by answers; ``bins`` that hold answers."""

    ece: float
    answers: int
    bins: tuple[Bin, ...]


def reliability(probabilities: Probabilities, truth: Sequence[str], labels: Sequence[str]) -> Reliability:
    """Compare the confidence of the likeliest label (n x labels) with how often it is the truth.

    Who is not among ``labels`` is answered wrongly every time.
    """
    if not len(truth):
        return Reliability(0.0, 0, ())
    confidence = probabilities.max(axis=1).astype(np.float64)
    said = probabilities.argmax(axis=1)
    right = np.array([labels[i] == name for i, name in zip(said, truth, strict=True)])
    # A share of 0.3 belongs to the bin that ends there, as the papers have it; rounding guards float32's 0.30000001.
    which = np.clip(np.ceil(np.round(confidence * BINS, 6)).astype(int) - 1, 0, BINS - 1)
    bins, error = [], 0.0
    for i in range(BINS):
        rows = which == i
        if rows.any():
            sure, correct = float(confidence[rows].mean()), float(right[rows].mean())
            error += float(rows.mean()) * abs(sure - correct)
            bins.append(Bin(i / BINS, (i + 1) / BINS, int(rows.sum()), round(sure, 4), round(correct, 4)))
    return Reliability(round(error, 4), len(truth), tuple(bins))
