"""Owns the words of a release's life on a device: its states, the events that move it, what comes of one.

Refuses to move anything: ``slots`` applies events, and alone asks ``state_machine`` what they lead to.
"""

import enum
from dataclasses import dataclass

from agent.updates.record import Phase, Record, Slot


class State(enum.Enum):
    """Where a device is; derived from the record."""

    WATCHING = enum.auto()
    RUNNING = enum.auto()
    TRIAL = enum.auto()
    PROBATION = enum.auto()


class Outcome(enum.StrEnum):
    """What an event led to; the values are the ids of the named events."""

    NOTHING = "slot.unchanged"
    CLEARED = "slot.cleared"
    HELD = "slot.verified"
    REJECTED = "release.rejected"
    TRIAL_STARTED = "trial.started"
    ATTEMPT_SPENT = "trial.attempt"
    ATTEMPT_RETURNED = "trial.attempt_returned"
    TRIAL_PASSED = "trial.passed"
    COMMITTED = "slot.committed"
    ROLLED_BACK = "slot.rolled_back"
    FELL_BACK = "slot.fell_back"
    NO_MODEL = "slot.no_model"
    DAMAGED = "slot.damaged"
    ALLOWED = "release.allowed"


@dataclass(frozen=True)
class Cleared:
    """The idle slot is about to be written: what it held no longer counts."""

    slot: Slot


@dataclass(frozen=True)
class Materialised:
    """The idle slot holds every file of a release, verified."""

    slot: Slot
    version: int
    digest: str


@dataclass(frozen=True)
class Rejected:
    """The release in the idle slot failed its self-test."""

    reason: str


@dataclass(frozen=True)
class TrialBegun:
    """The release in the idle slot is to be tried; ``hot``: a running agent swaps to it now, its first start."""

    attempts: int
    hot: bool


@dataclass(frozen=True)
class Started:
    """The program has started and is about to load the model."""


@dataclass(frozen=True)
class Ended:
    """The program ends in order, asked to or with its video or camera: that is no fault of the release it ran."""


@dataclass(frozen=True)
class TrialPassed:
    """The release on trial has worked often enough."""


@dataclass(frozen=True)
class ProbationPassed:
    """The release has gone on working."""


@dataclass(frozen=True)
class Failed:
    """The running model does not load or run."""

    reason: str


@dataclass(frozen=True)
class RollBackAsked:
    """A person wants the other slot."""


@dataclass(frozen=True)
class Allowed:
    """A person wants a release that is remembered as bad to be taken again."""

    version: int


@dataclass(frozen=True)
class Damaged:
    """The files in a slot are no longer those of its release."""

    slot: Slot


Event = (
    Cleared
    | Materialised
    | Rejected
    | TrialBegun
    | Started
    | Ended
    | TrialPassed
    | ProbationPassed
    | Failed
    | RollBackAsked
    | Allowed
    | Damaged
)


@dataclass(frozen=True)
class Transition:
    """What an event led to: the next record, and what happened; the slot to run now is ``record.running``."""

    record: Record
    outcome: Outcome
    reason: str = ""


def state(record: Record) -> State:
    """Return the state that ``record`` is in."""
    if record.trial:
        return State.TRIAL if record.trial.phase is Phase.TRIAL else State.PROBATION
    return State.RUNNING if record.active else State.WATCHING
