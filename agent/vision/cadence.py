"""Owns when to look for people: often while something moves, seldom while somebody sits. Pure; refuses frames."""

from dataclasses import dataclass

TOLERANCE = 0.85  # of an interval: a camera of 12 frames a second has none exactly a fifth of a second later


@dataclass(frozen=True)
class DetectionSettings:
    """How often the person detector runs, and what of it counts. ``least_height`` is a share of the frame's."""

    moving_s: float = 0.2  # between two looks while something moves ...
    still_s: float = 0.5  # ... while somebody is there and nothing moves ...
    empty_s: float = 30.0  # ... and in an empty room: who came in unseen, or sat there from the start
    least_height: float = 0.08  # smaller people are too far away to be told apart
    other_motion: bool = False  # whether motion is told also when no person moves: animals, cars, curtains

    def __post_init__(self) -> None:
        """Refuse intervals that are none."""
        if not 0 < self.moving_s <= self.still_s <= self.empty_s:
            raise ValueError("0 < moving_s <= still_s <= empty_s is needed")
        if not 0 <= self.least_height < 1:
            raise ValueError("least_height must be from 0 to below 1")


def is_due(settings: DetectionSettings, since_s: float | None, *, moving: bool, present: bool) -> bool:
    """Return whether to look for people now.

    Args:
        since_s: seconds since the last look; None before the first.
        moving: the gate is open.
        present: a track lives.
    """
    if since_s is None:
        return True
    interval_s = settings.moving_s if moving else settings.still_s if present else settings.empty_s
    return since_s >= TOLERANCE * interval_s
