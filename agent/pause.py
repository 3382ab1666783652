"""Owns a pause that a person asked for: data/pause.json, who writes it and whether it holds. Refuses to act on it.

    {"v": 1, "until": seconds since 1970, or null for "until it is switched off",
     "seconds": its length, "boot": the kernel's name of the boot it was asked in, "monotonic": its end on that clock}

Boards jump in time. In the boot in which a pause was asked for, the monotonic clock alone decides, so that no jump
makes it longer or shorter. After a reboot only the wall clock is left: then a pause lasts until ``until``, and never
longer than its own length from the agent's start, so that a clock that is back at 1970 does not pause for ever; a
clock that is ahead ends it early. Without the last three members (another program wrote the file) LONGEST_S takes
the place of the length. A file that cannot be read pauses: somebody wanted one, and `agent pause off` ends it.
"""

import contextlib
import datetime as dt
import fcntl
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.clock import is_set
from agent.updates.disk import disk_errors
from agent.updates.starts import boot_id
from contract.checks import Fields, parse_object, whole_number
from contract.errors import InputError
from contract.events import log_event
from contract.files import atomic_write, fsync_folder, json_bytes, read_capped

logger = logging.getLogger("agent.pause")
NAME = "pause.json"
LOOK_S = 1.0  # between two looks at the file: what a pause takes to begin
LONGEST_S = 7 * 86_400.0
_MOST_BYTES = 4096
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Pause:
    """A pause as the file has it; ``until`` None: until it is switched off. See the module for the members."""

    until: float | None
    seconds: float = LONGEST_S
    boot: str = ""
    monotonic: float = 0.0

    def left_s(self, boot: str, monotonic_s: float, wall_s: float) -> float:
        """Return how many seconds of it are left, given the clocks; at most its own length."""
        if self.until is None:
            return float("inf")
        by_clock = self.monotonic - monotonic_s if self.boot and self.boot == boot else self.until - wall_s
        return max(0.0, min(by_clock, self.seconds))

    def to_bytes(self) -> bytes:
        """Return the pause as JSON."""
        return json_bytes({"v": 1, **asdict(self)})


def parse_pause(data: bytes) -> Pause:
    """Read what ``Pause.to_bytes``, or another program that knows ``v`` and ``until`` alone, wrote.

    Raises:
        InputError: it is no such thing.
    """
    fields = Fields(parse_object(data, NAME), NAME)
    if fields.integer("v", 1) != 1:
        raise InputError(f"{NAME}: schema {fields.value['v']}, this program knows 1")
    if "until" not in fields.value:
        raise InputError(f"{NAME}: until must be a number or null")
    until = None if fields.value["until"] is None else fields.number("until", 0, 1e12)
    if "seconds" not in fields.value:
        return Pause(until)
    seconds, monotonic = fields.number("seconds", 0, LONGEST_S), fields.number("monotonic", 0)
    return Pause(until, seconds, fields.text("boot"), monotonic)


def read_length(words: list[str], now: dt.datetime) -> float | None:
    """Return the seconds of ``30m``, ``2h`` or ``until 07:00`` (the next time that it is so late); None for ``on``.

    ``now``: the local time.

    Raises:
        InputError: it says no length, one over a week, or a time of day on a clock that is not set.
    """
    match words:
        case ["on"]:
            return None
        case ["until", text] if found := re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text, re.ASCII):
            return _until(int(found[1]), int(found[2]), now)
        case [text] if found := re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII):
            seconds = (whole_number(found[1]) or 0) * _UNITS[found[2]]
            if 0 < seconds <= LONGEST_S:
                return float(seconds)
    raise InputError(f"{' '.join(words)[:80]!r} is no pause: 30m, 2h, until 07:00, on, off; at most 7 days")


def _until(hour: int, minute: int, now: dt.datetime) -> float:
    if not is_set(now.timestamp()):
        raise InputError(f"the clock says {now:%Y-%m-%d %H:%M}, it is not set: say how long instead, as in 30m")
    # Naive, so that a day on which the clock is put forward or back ends at the hour that was said.
    then = now.replace(hour=hour, minute=minute, second=0, microsecond=0, tzinfo=None)
    if then <= now.replace(tzinfo=None):
        then += dt.timedelta(days=1)
    return then.timestamp() - now.timestamp()


def begin_pause(data: Path, seconds: float | None) -> Pause:
    """Write a pause of ``seconds`` (None: until it is switched off) and return it.

    Raises:
        StorageError: the disk refused.
    """
    if seconds is None:
        pause = Pause(None, LONGEST_S, boot_id(), 0.0)
    else:
        pause = Pause(time.time() + seconds, seconds, boot_id(), time.monotonic() + seconds)
    with disk_errors():
        data.mkdir(parents=True, exist_ok=True)
        with _writing(data, create=True):
            atomic_write(data / NAME, pause.to_bytes())
    return pause


def end_pause(data: Path) -> bool:
    """Remove the pause; return whether there was one.

    Raises:
        StorageError: the disk refused.
    """
    with disk_errors():
        if not (data / NAME).exists():
            return False
        with _writing(data, create=True):
            (data / NAME).unlink(missing_ok=True)
            fsync_folder(data)
    return True


def read_pause(data: Path) -> Pause | None:
    """Return the pause that the file has, over or not; None without a file.

    Raises:
        InputError: it is no pause.
        OSError: it cannot be read.
    """
    try:
        return parse_pause(read_capped(data / NAME, _MOST_BYTES))
    except FileNotFoundError:
        return None


class PauseSwitch:
    """Tells a running agent whether it is paused; ``paused`` is called for every frame, from one thread."""

    def __init__(
        self,
        data: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._data = data
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._seen: tuple[int, int, int] | None = None  # of the file that ``_end_s`` was made from
        self._next_look_s = float("-inf")
        self._end_s = float("-inf")  # on the monotonic clock
        self._paused = False

    def paused(self) -> bool:
        """Return whether nobody is to be looked at now."""
        now_s = self._monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_S
            self._look(now_s)
            if self._seen and self._end_s <= now_s:
                self._forget()
        paused = now_s < self._end_s
        if paused != self._paused:
            self._paused = paused
            log_event(logger, "pause.begun" if paused else "pause.ended")
        return paused

    def _look(self, now_s: float) -> None:
        """Take up a file that changed; one that stayed keeps the end that it was given when it was first seen."""
        try:
            stat = (self._data / NAME).stat()
        except OSError:
            self._seen, self._end_s = None, float("-inf")
            return
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        self._end_s = self._end(now_s)

    def _end(self, now_s: float) -> float:
        try:
            pause = read_pause(self._data)
        except (InputError, OSError) as error:
            log_event(logger, "pause.unreadable", logging.ERROR, reason=error)
            return float("inf")
        if pause is None:
            return float("-inf")
        if pause.until is None:
            return float("inf")
        return now_s + pause.left_s(boot_id(), now_s, self._wall_clock())

    def _forget(self) -> None:
        """Remove a pause that is over: after a reboot with a clock that is not set it would hold once more."""
        with contextlib.suppress(OSError), _writing(self._data, create=False):
            stat = (self._data / NAME).stat()
            if (stat.st_ino, stat.st_mtime_ns, stat.st_size) == self._seen:
                (self._data / NAME).unlink()
                self._seen = None


@contextlib.contextmanager
def _writing(data: Path, *, create: bool) -> Iterator[None]:
    """Keep others from the file meanwhile; BlockingIOError when the agent finds a person at it."""
    with (data / "pause.lock").open("ab" if create else "rb") as lock:  # a person
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if create else fcntl.LOCK_NB))
        yield
