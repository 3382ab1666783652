"""Owns how far an update is: told to whoever listens at each step, kept for `agent status`, timed. Refuses to decide.

The kept file, data/last_update.json, is for people: nothing is decided from it, so failing to keep it is no error.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.updates.lifecycle import Outcome, Transition
from contract.checks import parse_object
from contract.errors import InputError, KinwatchError, PeerError, TrustError
from contract.events import log_event
from contract.files import atomic_write, json_bytes, read_capped
from contract.messages import ERROR_MOST, MOST_BYTES, UpdateState, UpdateStatus

logger = logging.getLogger("agent.progress")
KEPT_NAME = "last_update.json"
_KEPT = frozenset(UpdateState) - {
    UpdateState.PLANNED,
    UpdateState.DOWNLOADING,
    UpdateState.MATERIALISING,
    UpdateState.VERIFYING,
    UpdateState.TESTING,
}
_STATES = {
    Outcome.TRIAL_PASSED: UpdateState.PROBATION,
    Outcome.COMMITTED: UpdateState.COMMITTED,
    Outcome.ROLLED_BACK: UpdateState.ROLLED_BACK,
    Outcome.FELL_BACK: UpdateState.ROLLED_BACK,
}


class Progress:
    """The status of the update under way or last made; ``tell`` gets it at every change."""

    def __init__(self, data: Path, tell: Callable[[UpdateStatus], None] = lambda status: None) -> None:
        self._path = data / KEPT_NAME
        self.tell = tell
        self._status = self._settled = _last_status(data)  # a trial goes on after a restart, and keeps its versions
        self._durations: dict[str, int] = dict(self._status.durations_ms) if self._status else {}
        self._failing = False

    def begin(self) -> None:
        """A new update starts: what was said of the last one is not carried over."""
        self._durations = {}
        self._status = None

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add what the block takes to the duration of ``step``."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._durations[step] = self._durations.get(step, 0) + round((time.monotonic() - begin) * 1000)

    def change(self, state: UpdateState, *, error: str | None = None, **fields: Any) -> None:
        """Move to ``state``; fields of ``UpdateStatus`` that are not given stay, an error does not."""
        before = self._status or UpdateStatus(state)
        durations = dict(self._durations)
        self._status = replace(before, state=state, error=_told(error), durations_ms=durations, **fields)
        self._failing = state is UpdateState.FAILED
        self.tell(self._status)
        if state in _KEPT:
            self._keep(self._status)

    def failed(self, error: KinwatchError | str) -> None:
        """An attempt failed, and is tried again.

        Nothing is told when nobody answered and no release was in sight yet: a relay that is away is no failed
        update. Metadata that does not verify is told always.
        """
        if self._status is not None or not isinstance(error, PeerError) or isinstance(error, TrustError):
            self.change(UpdateState.FAILED, error=str(error))

    def recovered(self) -> None:
        """The site verifies and has nothing new: a failure that was told is over, and what was before holds again."""
        self._status = self._settled
        if self._failing and self._settled:
            self.tell(self._settled)
        self._failing = False

    def moved(self, transition: Transition) -> None:
        """A trial went on or ended: say so where it concerns the update.

        What is said is of the release that was tried, though the next look for one may have begun already.
        """
        state = _STATES.get(transition.outcome)
        if state:
            told = replace(self._settled or UpdateStatus(state), state=state, error=_told(transition.reason or None))
            self._failing = False
            self.tell(told)
            self._keep(told)

    def _keep(self, status: UpdateStatus) -> None:
        if status.state is not UpdateState.FAILED:
            self._settled = status
        try:
            atomic_write(self._path, json_bytes({"v": 1, **status.fields()}))
        except OSError as error:
            log_event(logger, "update.unkept", logging.WARNING, reason=error)


def _told(error: str | None) -> str | None:
    """Return ``error`` as it can be sent and kept: not too long, and no half characters of a file's name."""
    return None if error is None else error.encode(errors="replace").decode()[:ERROR_MOST]


def last_update(data: Path) -> dict[str, Any] | None:
    """Return the fields of the update last made, or None when there is none that can be read."""
    try:
        return parse_object(read_capped(data / KEPT_NAME, MOST_BYTES), KEPT_NAME)
    except (OSError, InputError):
        return None


def _last_status(data: Path) -> UpdateStatus | None:
    """Return the status that was kept, unless it is of a failure that is over with the process that had it."""
    try:
        kept = UpdateStatus.parse(read_capped(data / KEPT_NAME, MOST_BYTES))
    except (OSError, InputError):
        return None
    return None if kept.state is UpdateState.FAILED else replace(kept, error=None)
