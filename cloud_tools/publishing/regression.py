"""Owns the judgement whether a release is worse than another for somebody. Pure: two accounts in, a verdict out.

Refuses to compare what was not measured on the same crops: a person is compared when both releases name the same
held-out crops of that person (``held_out``, a digest over their pixels). So a person who moves in, or new crops of
one person, do not hide what happened to the others.

An account is the ``per_person`` part of a manifest's metrics, or that of an evaluation on one dataset for both:
    {"anna": {"accuracy": 0.95, "crops": 40, "held_out": "3f0c..."}, ...}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARGIN_POINTS = 2.0  # percentage points that anybody may lose: two of 100 held-out crops

Account = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """What happened to one person: shares of ``crops`` held-out crops rightly named, before and now."""

    person: str
    before: float
    now: float
    crops: int

    @property
    def points(self) -> float:
        """Percentage points gained; lost, if negative."""
        return 100 * (self.now - self.before)

    def __str__(self) -> str:
        return (
            f"{self.person} {100 * self.before:.1f} % to {100 * self.now:.1f} % "
            f"({self.points:+.1f} points on {self.crops} held-out crops)"
        )


@dataclass(frozen=True)
class Verdict:
    """Who lost more than the margin (worst first), who did not, and who cannot be compared, with the reason."""

    worse: tuple[Change, ...]
    others: tuple[Change, ...]
    not_compared: dict[str, str]


def compare_people(before: Account, now: Account, margin_points: float = MARGIN_POINTS) -> Verdict:
    """Judge the people of the older account by the newer one; whoever is in the newer alone has nothing to lose.

    Accounts come from files: a person whose entry is not as above is not compared.
    """
    changes, not_compared = [], {}
    for person in sorted(before):
        old, new = _entry(before.get(person)), _entry(now.get(person))
        if person not in now:
            not_compared[person] = "is not among the people of the new release"
        elif old is None or new is None:
            not_compared[person] = "has no held-out crops on record"
        elif old[2] != new[2]:
            not_compared[person] = "was measured on other crops"
        else:
            changes.append(Change(person, old[0], new[0], new[1]))
    changes.sort(key=lambda change: (change.points, change.person))
    # Accuracies are recorded to four digits: what is exactly the margin is not over it.
    worse = tuple(change for change in changes if change.points < -margin_points - 1e-6)
    return Verdict(worse, tuple(change for change in changes if change not in worse), not_compared)


def _entry(value: Any) -> tuple[float, int, str] | None:
    if not isinstance(value, dict):
        return None
    accuracy, crops, held_out = (value.get(key) for key in ("accuracy", "crops", "held_out"))
    if not isinstance(accuracy, int | float) or not isinstance(crops, int) or not isinstance(held_out, str):
        return None
    return float(accuracy), crops, held_out
