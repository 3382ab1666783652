"""Owns the device's own log of sightings. Refuses pictures: none is ever written.

The log is one JSON object a line. It is bounded, and a disk that is full loses lines, never frames.
"""

import contextlib
import datetime as dt
import errno
import logging
import os
from pathlib import Path

from contract.errors import describe_os_error
from contract.events import log_event
from contract.files import atomic_rename
from contract.messages import Sighting

logger = logging.getLogger("agent.sightings")
LOG_NAME = "sightings.jsonl"


def utc_text(wall_s: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    return dt.datetime.fromtimestamp(wall_s, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SightingLog:
    """Appends sightings to ``folder/sightings.jsonl``, at ``most_bytes`` moved to ``.1`` and on, up to ``kept``."""

    def __init__(self, folder: Path, *, most_bytes: int = 2_000_000, kept: int = 3) -> None:
        self.path = folder / LOG_NAME
        self._most_bytes = most_bytes
        self._kept = kept
        self._failing = False
        self.lost = 0

    def write(self, sighting: Sighting) -> None:
        """Append one line. A disk that refuses costs the line and, the first time in a row, one event."""
        line = sighting.encode() + b"\n"
        try:
            self._rotate(len(line))
            self._append(line)
        except OSError as error:
            self.lost += 1
            if not self._failing:
                log_event(logger, "sightings.lost", logging.ERROR, reason=describe_os_error(error))
            self._failing = True
        else:
            self._failing = False

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) not in (b"\n", b""):
                line = b"\n" + line  # a power cut left half a line: it must not swallow this one
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, "the disk is full", str(self.path))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def _rotate(self, coming: int) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size == 0 or size + coming <= self._most_bytes:
            return
        for number in range(self._kept, 0, -1):
            older = self.path.with_name(f"{LOG_NAME}.{number}")
            newer = self.path if number == 1 else self.path.with_name(f"{LOG_NAME}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                atomic_rename(newer, older)
