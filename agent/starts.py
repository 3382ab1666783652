"""Owns the count of starts in a row that ended badly with the same committed release; refuses to decide what follows.

A release that was committed may still meet a picture that ends the process. Then the service manager starts the
agent again and again; without a count that would go on until its budget is spent and the camera stays dark.
"""

import contextlib
import logging
from pathlib import Path

from contract.checks import Fields, parse_object
from contract.errors import InputError
from contract.events import log_event
from contract.files import atomic_write, json_bytes, read_capped

logger = logging.getLogger("agent.starts")
MOST = 5  # fewer than a service manager's budget, so that the fallback comes before it gives up
HEALTHY_S = 60.0  # a run that lasts this long was no failed start


class StartCount:
    """Counts in ``data/starts.json``. A run that ends by itself, or lasts ``HEALTHY_S``, sets it to nothing."""

    def __init__(self, data: Path) -> None:
        self._path = data / "starts.json"
        self._open = False

    def begin(self, digest: str) -> int:
        """Count a start with the release ``digest``; give how many starts with it before this one ended badly."""
        before = self._read(digest)
        self._open = True
        try:
            atomic_write(self._path, json_bytes({"v": 1, "digest": digest, "starts": before + 1}))
        except OSError as error:
            log_event(logger, "starts.uncounted", logging.WARNING, reason=error)
        return before

    def end(self) -> None:
        """This run was healthy, or ends in order: nothing counts any more."""
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):  # a full disk lets us remove; anything else costs a count, no more
                self._path.unlink(missing_ok=True)

    def _read(self, digest: str) -> int:
        try:
            fields = Fields(parse_object(read_capped(self._path, 1000), "starts.json"), "starts.json")
            return fields.integer("starts") if fields.sha256("digest") == digest else 0
        except (OSError, InputError):
            return 0
