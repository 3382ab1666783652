"""Owns telling the times of a clock that was never set from times; refuses to guess what it should have said.

A camera without a battery starts at the same moment at every power-up, at the turn of some year: 1970, 1980, 2000,
2010. Pictures of a week then bear one day's date, minutes apart, in an order that means nothing. A time is not
believed when it is before digital cameras were, or on a first of January when no picture has another day of that
year; what a household took on New Year's Day alone loses its times too, and is ordered by name.
"""

import datetime as dt
from collections.abc import Sequence

EARLIEST = dt.datetime(1990, 1, 1, tzinfo=dt.UTC)


def believed(times_s: Sequence[float | None]) -> list[float | None]:
    """Return the times of some pictures, seconds since 1970, with None for those of a clock that was never set."""
    moments = [_moment(time_s) for time_s in times_s]
    known = {moment.year for moment in moments if moment and not _new_year(moment)}
    return [
        time_s if moment and moment >= EARLIEST and (not _new_year(moment) or moment.year in known) else None
        for time_s, moment in zip(times_s, moments, strict=True)
    ]


def _moment(time_s: float | None) -> dt.datetime | None:
    try:
        return None if time_s is None else dt.datetime.fromtimestamp(time_s, dt.UTC)
    except (ValueError, OverflowError, OSError):  # after the last year that a date can have
        return None


def _new_year(moment: dt.datetime) -> bool:
    return (moment.month, moment.day) == (1, 1)
