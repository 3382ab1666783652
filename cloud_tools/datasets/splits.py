"""Owns the split of crops into a train and a test side by time; refuses to look at pictures.

Frames next to each other are near-duplicates: a random split shows the test side to the trainer (on the sample
video it adds 3 to 13 points that are not there). The rule, per person:

1. A visit is a run of labelled frames without a hole of more than 30 frames.
2. Of each visit, the first 60 % of its crops (rounded down, at least one) go to the train side, the rest to test.
3. A test crop that is less than ``gap_s`` seconds from any train crop of the same person is dropped.
"""

import bisect
from collections.abc import Sequence

RULE = (
    "per person and visit (no hole over 30 frames): first 60 % of the crops to train, the rest to test; "
    "a test crop less than gap_s from a train crop of the same person is dropped"
)
HOLE_FRAMES = 30
TRAIN_PERCENT = 60
TRAIN, TEST, GAP = "train", "test", "gap"


def split_visits(frames: Sequence[int]) -> list[list[int]]:
    """Return the visits of one person from the sorted numbers of the frames that person is labelled in."""
    visits: list[list[int]] = []
    for frame in frames:
        if not visits or frame - visits[-1][-1] > HOLE_FRAMES:
            visits.append([])
        visits[-1].append(frame)
    return visits


def split_by_time(visits: Sequence[Sequence[int]], gap_frames: float) -> dict[int, str]:
    """Return the side of each frame of one person's visits: ``train``, ``test``, or ``gap`` (dropped)."""
    sides: dict[int, str] = {}
    for visit in visits:
        cut = max(1, len(visit) * TRAIN_PERCENT // 100)
        sides.update({frame: TRAIN if i < cut else TEST for i, frame in enumerate(visit)})
    train = sorted(frame for frame, side in sides.items() if side == TRAIN)
    return {
        frame: GAP if side == TEST and _distance(train, frame) < gap_frames else side for frame, side in sides.items()
    }


def _distance(train: list[int], frame: int) -> float:
    at = bisect.bisect_left(train, frame)
    return min((abs(frame - other) for other in train[max(0, at - 1) : at + 1]), default=float("inf"))
