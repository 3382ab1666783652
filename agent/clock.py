"""Owns telling a clock that was set from one that was not; refuses to set it.

A board without a battery starts in 1970, or at the date of its image, until the network tells it the time. A time
before this program was written is no time at all, whatever the clock says.
"""

import datetime as dt

from contract import __date__

# Moves with the version: whoever makes a release writes its date, and an older bound does no harm meanwhile.
WRITTEN = dt.datetime.fromisoformat(__date__).replace(tzinfo=dt.UTC)


def is_set(wall_s: float) -> bool:
    """Return whether ``wall_s``, seconds since 1970, can be the time now."""
    return wall_s >= WRITTEN.timestamp()
