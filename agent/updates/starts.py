"""Owns the count of starts in a row that ended badly with the same committed release; refuses to decide what follows.

A release that was committed may still meet a picture that ends the process. Then the service manager starts the
agent again and again; without a count that would go on until its budget is spent and the camera stays dark. Only
starts of one boot count: a power cut says nothing about a release.
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
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
HEALTHY_S = 60.0  # a run that lasts this long was no failed start


class StartCount:
    """Counts in ``data/starts.json``. A run that ends by itself, or lasts ``HEALTHY_S``, sets it to nothing."""

    def __init__(self, data: Path) -> None:
        self._path = data / "starts.json"
        self._open = False

    def begin(self, digest: str) -> int:
        """Count a start with the release ``digest``; return how many starts with it before this one ended badly."""
        before = self._read(digest)
        self._open = True
        try:
            fields = {"v": 1, "digest": digest, "boot": boot_id(), "starts": before + 1}
            atomic_write(self._path, json_bytes(fields))
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
            same = (fields.sha256("digest"), fields.text("boot")) == (digest, boot_id())
            return fields.integer("starts") if same else 0
        except (OSError, InputError):
            return 0


def boot_id() -> str:
    """Return what the kernel calls this boot, or an empty text where it does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
