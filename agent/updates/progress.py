"""Owns how far an update is: told to whoever listens at each step, kept for `agent status`, timed. Refuses to decide.

The kept file, data/last_update.json, is for people: nothing is decided from it, so failing to keep it is no error.
"""

import contextlib
import enum
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.updates.lifecycle import Outcome, Transition
from contract.checks import Fields, parse_object
from contract.errors import InputError, KinwatchError, PeerError, TrustError
from contract.events import log_event
from contract.files import atomic_write, json_bytes, read_capped

logger = logging.getLogger("agent.progress")
ERROR_MOST = 500  # characters


class UpdateState(enum.StrEnum):
    """Where an update stands, as published in ``kinwatch/devices/<id>/update``."""

    PLANNED = "planned"
    DOWNLOADING = "downloading"
    MATERIALISING = "materialising"
    VERIFYING = "verifying"
    TESTING = "testing"
    TRIAL = "trial"
    PROBATION = "probation"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    REFUSED = "refused"
    FAILED = "failed"


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


@dataclass(frozen=True)
class UpdateStatus:
    """One moment of an update. ``received`` counts body bytes, metadata included; durations are in ms by step."""

    state: UpdateState
    before: int | None = None
    after: int | None = None
    received: int = 0
    durations_ms: dict[str, int] = field(default_factory=dict)
    error: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return the members of the MQTT payload."""
        return {
            "state": self.state,
            "from": self.before,
            "to": self.after,
            "bytes": self.received,
            "durations_ms": self.durations_ms,
            "error": self.error,
        }


class Progress:
    """The status of the update under way or last made; ``tell`` gets the fields at every change."""

    def __init__(self, data: Path, tell: Callable[[dict[str, Any]], None] = lambda fields: None) -> None:
        self._path = data / "last_update.json"
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

    def change(self, state: UpdateState, **fields: Any) -> None:
        """Move to ``state``; fields of ``UpdateStatus`` that are not given stay, an error does not."""
        if isinstance(fields.get("error"), str):
            # An error may name a file whose name is no UTF-8; neither JSON file nor message can hold that.
            fields["error"] = fields["error"][:ERROR_MOST].encode("utf-8", "replace").decode()
        before = self._status or UpdateStatus(state)
        changes = {"error": None, **fields, "durations_ms": dict(self._durations)}
        self._status = replace(before, state=state, **changes)
        self._failing = state is UpdateState.FAILED
        self.tell(self._status.fields())
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
            self.tell(self._settled.fields())
        self._failing = False

    def moved(self, transition: Transition) -> None:
        """A trial went on or ended: say so where it concerns the update."""
        state = _STATES.get(transition.outcome)
        if state:
            self.change(state, error=transition.reason or None)

    def _keep(self, status: UpdateStatus) -> None:
        if status.state is not UpdateState.FAILED:
            self._settled = status
        try:
            atomic_write(self._path, json_bytes({"v": 1, **status.fields()}))
        except OSError as error:
            log_event(logger, "update.unkept", logging.WARNING, reason=error)


def last_update(data: Path) -> dict[str, Any] | None:
    """Return the fields of the update last made, or None when there is none that can be read."""
    try:
        return parse_object(read_capped(data / "last_update.json", 100_000), "last_update.json")
    except (OSError, InputError):
        return None


def _last_status(data: Path) -> UpdateStatus | None:
    """Return the status that was kept, unless it is of a failure that is over with the process that had it."""
    kept = last_update(data)
    try:
        fields = Fields(kept, "last_update.json")
        state = UpdateState(fields.text("state"))
        before, after = (None if fields.value.get(key) is None else fields.integer(key) for key in ("from", "to"))
        steps = fields.object("durations_ms")
        durations = {key: steps.integer(key) for key in steps.value}
        received = fields.integer("bytes")
    except (InputError, ValueError):  # ValueError: no state that is known here
        return None
    return None if state is UpdateState.FAILED else UpdateStatus(state, before, after, received, durations)
