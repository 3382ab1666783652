"""Owns the threshold for naming a track; refuses to promise it elsewhere: thresholds do not transfer between sites.

A window is up to five consecutive test crops of one visit, as a track is on the device; its probability is the
mean's maximum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_tools.datasets.dataset import Crop
from contract.manifest import Thresholds

WINDOW = 5
CANDIDATES = tuple(round(0.30 + 0.05 * i, 2) for i in range(13))  # 0.30 to 0.90
KEEP = 0.9  # share of the rightly named windows that must stay named
RULE_STRANGERS = "keeps 90 % of the rightly named windows; largest share rightly named less strangers named"
RULE_ALONE = "largest that keeps 90 % of the rightly named windows; no stranger was there to measure"


@dataclass(frozen=True)
class ChosenThreshold:
    """The thresholds and what they do on the crops they were chosen on, as shares of windows; None: not measured."""

    thresholds: Thresholds
    rule: str
    right: float
    wrong: float
    false_accept: float | None


def windows(crops: Sequence[Crop]) -> list[NDArray[np.int64]]:
    """Return the indices of each window: crops of one visit in the order of time, at most WINDOW of them."""
    visits: dict[str, list[int]] = {}
    for i in sorted(range(len(crops)), key=lambda i: crops[i].frame):
        visits.setdefault(crops[i].visit, []).append(i)
    return [np.array(rows[i : i + WINDOW]) for rows in visits.values() for i in range(0, len(rows), WINDOW)]


def choose_threshold(
    known: NDArray[np.float32], truth: NDArray[np.int64], strangers: NDArray[np.float32]
) -> ChosenThreshold:
    """Choose the threshold from mean probabilities of windows: members' (n x labels, with truth) and strangers'."""
    best, right = known.max(axis=1), known.argmax(axis=1) == truth
    strangers_best = strangers.max(axis=1) if len(strangers) else np.zeros(0)
    named = {t: float((right & (best >= t)).mean()) for t in CANDIDATES}
    usable = [t for t in CANDIDATES if named[t] >= KEEP * float(right.mean())] or [CANDIDATES[0]]
    accept = max(usable)
    if len(strangers_best):
        # Rounded, so that two candidates that do the same are a tie, and the lower one wins.
        accept = max(usable, key=lambda t: (round(named[t] - float((strangers_best >= t).mean()), 6), -t))
    return ChosenThreshold(
        Thresholds(accept=accept),
        RULE_STRANGERS if len(strangers_best) else RULE_ALONE,
        named[accept],
        float((~right & (best >= accept)).mean()),
        float((strangers_best >= accept).mean()) if len(strangers_best) else None,
    )
