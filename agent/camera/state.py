"""Owns the state that a camera is in, as events, and as one small file for `agent status`. Refuses to act on it.

starting ──► live ──► stalled (no picture) ──► lost (let go of, begun anew, for ever) ──► live
               ├────► refused (user or password; begun anew, seldom) ──► live
               └────► frozen, black (pictures without worth; begun anew, seldom) ──► live
"""

import datetime as dt
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from contract.checks import parse_object
from contract.errors import InputError
from contract.events import log_event
from contract.files import atomic_write, json_bytes, read_capped

logger = logging.getLogger("agent.camera")
NAME = "camera.json"
MOST_BYTES = 4096


class CameraState(StrEnum):
    """Where a camera stands."""

    STARTING = "starting"
    LIVE = "live"
    STALLED = "stalled"
    LOST = "lost"
    REFUSED = "refused"
    FROZEN = "frozen"
    BLACK = "black"


_ABSENT = (CameraState.LOST, CameraState.REFUSED)


@dataclass(frozen=True)
class CameraStatus:
    """A state, since when (UTC), why, and how often the source was begun anew until then."""

    state: CameraState
    since: str
    reason: str = ""
    restarts: int = 0


class StateTeller:
    """Knows the state of one camera; a change is an event, and ``on_change`` hears of it. From any thread."""

    def __init__(self, source: str, on_change: Callable[[CameraStatus], None]) -> None:
        self._source = source
        self._on_change = on_change
        self._guard = threading.Lock()
        self.status = CameraStatus(CameraState.STARTING, _now())

    def change(self, state: CameraState, reason: str = "", restarts: int = 0) -> None:
        """Go to ``state``; nothing happens when the camera is in it."""
        with self._guard:
            before = self.status.state
            if state is before or (before in _ABSENT and state is CameraState.STALLED):
                return  # a camera that is absent gives no picture: no news
            self.status = CameraStatus(state, _now(), reason, restarts)
            self._tell(before)
            self._on_change(self.status)

    def _tell(self, before: CameraState) -> None:
        fields = {"source": self._source, "restarts": self.status.restarts}
        if self.status.state is not CameraState.LIVE:
            log_event(logger, f"camera.{self.status.state}", logging.WARNING, **fields, reason=self.status.reason)
        elif before is not CameraState.STARTING:
            log_event(logger, "camera.back", **fields, before=before)


def write_status(data: Path, status: CameraStatus) -> None:
    """Keep ``status`` in the folder ``data``; a disk that refuses costs the news in `agent status`, no more."""
    try:
        atomic_write(data / NAME, json_bytes({"v": 1, **asdict(status)}))
    except OSError as error:
        log_event(logger, "camera.unwritten", logging.WARNING, reason=error)


def read_status(data: Path) -> dict[str, Any] | None:
    """Return what ``write_status`` kept, or None."""
    try:
        return parse_object(read_capped(data / NAME, MOST_BYTES), NAME)
    except (OSError, InputError):
        return None


def _now() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
