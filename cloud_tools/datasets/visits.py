"""Owns the split of one person's pictures into train and test by visit and time; refuses to look at pixels.

Pictures of one visit show the same clothes in the same light, so that a model is only honestly tested on others:

1. A visit is what a folder or an agent says is one, else pictures of one person without a hole over 10 minutes.
2. Visits in the order of time: the first ones, about 60 % of the pictures, go to train and the others to test.
3. Where no border between visits leaves 40 to 80 % to train, the first 60 % of the pictures do, in the order of time.
4. A picture without time and visit goes to train, for it cannot be held out honestly. When all are like this, the
   first 60 % in the order of their names go to train.
5. A test picture less than ``gap_s`` from a train picture is dropped.
"""

import bisect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloud_tools.datasets.splits import TEST, TRAIN, TRAIN_PERCENT

# In every dataset.json: its bytes stay, so it says "events" for visits.
RULE = (
    "per person: whole events (no hole over 10 minutes) in the order of time, about 60 % to train; else the first "
    "60 % in the order of time; else of names; a test picture less than gap_s from a train picture is dropped"
)
HOLE_S = 600.0
LEAST_PERCENT, MOST_PERCENT = 40, 80  # of the pictures, that a border between visits may leave to train
BY_VISIT, BY_TIME, BY_NAME = "event", "time", "name"  # as dataset.json says it


@dataclass(frozen=True)
class Taken:
    """When and at which visit a picture was taken, as far as is known; ``name`` orders what has no time."""

    name: str
    time_s: float | None = None
    visit: str = ""


def order_visits(pictures: Sequence[Taken]) -> list[list[int]]:
    """Return the visits of one person in the order of time (those without times first, by name), as numbers of
    ``pictures``, each in order. Pictures without time and visit are one visit of their own, the first."""
    visits: dict[str, list[int]] = {}
    last, number = float("-inf"), 0
    for i in sorted(range(len(pictures)), key=lambda i: _key(pictures[i])):
        picture = pictures[i]
        if picture.visit or picture.time_s is None:
            key = f"given {picture.visit}"
        else:
            number += picture.time_s - last > HOLE_S
            last, key = picture.time_s, f"found {number}"
        visits.setdefault(key, []).append(i)
    return sorted(visits.values(), key=lambda rows: _key(pictures[rows[0]]))


def split_pictures(pictures: Sequence[Taken], visits: Sequence[Sequence[int]]) -> tuple[list[str], str]:
    """Return the side of each picture of one person and what decided it: BY_VISIT, BY_TIME or BY_NAME."""
    adrift = {i for i, picture in enumerate(pictures) if picture.time_s is None and not picture.visit}
    if len(adrift) == len(pictures):
        return _first(range(len(pictures)), sorted(adrift, key=lambda i: _key(pictures[i]))), BY_NAME
    known = [[i for i in rows if i not in adrift] for rows in visits]
    known = [rows for rows in known if rows]
    border = _border([len(rows) for rows in known])
    if border:
        train = adrift.union(*known[:border])
        return [TRAIN if i in train else TEST for i in range(len(pictures))], BY_VISIT
    order = [i for rows in known for i in rows]
    timed = all(pictures[i].time_s is not None for i in order)
    if timed:
        order.sort(key=lambda i: _key(pictures[i]))
    return _first(range(len(pictures)), order), BY_TIME if timed else BY_NAME


def drop_gap(sides: Mapping[int, str], times: Mapping[int, float | None], gap_s: float) -> set[int]:
    """Return the test pictures of one person that are less than ``gap_s`` seconds from a train picture."""
    train = sorted(t for i, side in sides.items() if side == TRAIN and (t := times[i]) is not None)
    close = set()
    for i, side in sides.items():
        time_s = times[i]
        if side == TEST and time_s is not None:
            at = bisect.bisect_left(train, time_s)
            if any(abs(time_s - other) < gap_s for other in train[max(0, at - 1) : at + 1]):
                close.add(i)
    return close


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a key that orders IMG_9 before IMG_10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part)


def _key(picture: Taken) -> tuple[float, tuple[tuple[int, str], ...]]:
    return (float("-inf") if picture.time_s is None else picture.time_s, natural(picture.name))


def _first(all_of_them: Iterable[int], order: Sequence[int]) -> list[str]:
    """Put the first 60 % of ``order`` (at least one) to train, the rest of it to test, and all others to train."""
    test = set(order[max(1, len(order) * TRAIN_PERCENT // 100) :])
    return [TEST if i in test else TRAIN for i in all_of_them]


def _border(counts: Sequence[int]) -> int:
    """Return how many of the first visits go to train; 0 when no border leaves a fair share on both sides."""
    total = sum(counts)
    shares = {k: 100 * sum(counts[:k]) / total for k in range(1, len(counts))}
    fair = {k: share for k, share in shares.items() if LEAST_PERCENT <= share <= MOST_PERCENT}
    return min(fair, key=lambda k: (abs(fair[k] - TRAIN_PERCENT), k), default=0)
