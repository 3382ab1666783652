"""Owns at which hours of a day the agent looks. Refuses to read a clock: the time of day is given."""

import datetime as dt
import re
from dataclasses import dataclass

_SPAN = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)")


@dataclass(frozen=True)
class HourSettings:
    """``hours``: spans as "07:00-22:30", of local time; one may go over midnight. Empty: always."""

    hours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no span."""
        for span in self.hours:
            _ends(span)

    def cover(self, time: dt.time) -> bool:
        """Return whether the agent looks at this time of the day."""
        return not self.hours or any(_within(time, *_ends(span)) for span in self.hours)


def _within(time: dt.time, begin: dt.time, end: dt.time) -> bool:
    return begin <= time < end if begin < end else time >= begin or time < end


def _ends(span: str) -> tuple[dt.time, dt.time]:
    """Return when ``span`` begins and ends; ValueError when it is none."""
    found = _SPAN.fullmatch(span)
    try:
        begin, end = map(dt.time.fromisoformat, found.groups()) if found else (dt.time.min, dt.time.min)
    except ValueError:
        begin = end = dt.time.min
    if begin == end:
        raise ValueError(f"hours: {span[:40]!r} is no span as 07:00-22:30 (midnight is 00:00)")
    return begin, end
