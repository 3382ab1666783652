"""Owns the persisted record of the two slots: what data/state.json says. Refuses to decide what happens to it.

The record is a value. ``state_machine`` makes the next one from an event, ``slots`` writes it.
"""

import enum
from dataclasses import asdict, dataclass
from typing import Any

from contract.checks import Fields, parse_object
from contract.errors import InputError
from contract.files import json_bytes

SCHEMA = 1
MOST_BAD = 16  # bad releases remembered one by one; older ones are covered by `refused_up_to`


class Slot(enum.StrEnum):
    """One of the two folders that hold a bundle."""

    A = "a"
    B = "b"

    @property
    def other(self) -> "Slot":
        """The other one."""
        return Slot.B if self is Slot.A else Slot.A


class Phase(enum.StrEnum):
    """How far a trial is."""

    TRIAL = "trial"
    PROBATION = "probation"


@dataclass(frozen=True)
class Held:
    """A release that a slot holds complete: every file had its signed digest when this was written.

    ``digest`` is the SHA-256 of release.json. ``proven``: it was committed once, so it may be fallen back to.
    """

    version: int
    digest: str
    proven: bool = False


@dataclass(frozen=True)
class Trial:
    """The one trial under way; ``attempts_left`` is how many starts it may still have."""

    slot: Slot
    version: int
    digest: str
    phase: Phase
    attempts_left: int


@dataclass(frozen=True)
class BadRelease:
    """A release that failed here and is never tried again."""

    version: int
    digest: str
    reason: str


@dataclass(frozen=True)
class Record:
    """What a device knows about its two slots; one record belongs to one model.

    ``active`` is the committed slot, ``highest`` the highest version ever committed. Versions up to
    ``refused_up_to`` are refused, because bad releases among them were forgotten to keep the list short.
    """

    model: str
    active: Slot | None = None
    a: Held | None = None
    b: Held | None = None
    trial: Trial | None = None
    bad: tuple[BadRelease, ...] = ()
    highest: int = 0
    refused_up_to: int = 0

    def held(self, slot: Slot) -> Held | None:
        """Return what ``slot`` holds complete."""
        return self.a if slot is Slot.A else self.b

    @property
    def running(self) -> Slot | None:
        """The slot whose model the agent runs now: the trial's, else the active one; None to watch without one."""
        return self.trial.slot if self.trial else self.active

    @property
    def idle(self) -> Slot | None:
        """The slot that may be written; None during a trial, when both are in use."""
        if self.trial:
            return None
        return self.active.other if self.active else Slot.A

    @property
    def fallback(self) -> Slot | None:
        """The slot to go back to from the running one: complete, proven and not bad; None when there is none."""
        running = self.running
        if running is None:
            return None
        held = self.held(running.other)
        bad = {release.digest for release in self.bad}
        return running.other if held and held.proven and held.digest not in bad else None

    def refuses(self, version: int, digest: str | None = None) -> str | None:
        """Say why a release must never be tried, or None when nothing is known against it.

        Without a ``digest`` the version alone decides, so that a bad release costs no download of its manifest.
        """
        for bad in self.bad:
            if bad.digest == digest or (digest is None and bad.version == version):
                return f"release {version} is remembered as bad: {bad.reason}"
        if version <= self.refused_up_to:
            return f"releases up to {self.refused_up_to} are refused: bad ones among them"
        return None

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        return json_bytes({"schema": SCHEMA, **asdict(self)})


def parse_record(data: bytes, where: str) -> Record:
    """Read what ``Record.to_bytes`` wrote.

    Raises:
        InputError: not that, damaged, or contradicting itself.
    """
    top = Fields(parse_object(data, where), where)
    if top.integer("schema", 1) != SCHEMA:
        raise InputError(f"{where}: schema {top.value['schema']}, this program knows {SCHEMA}")
    record = Record(
        model=top.name("model"),
        active=_slot(top, "active") if top.value.get("active") is not None else None,
        a=_held(top, "a"),
        b=_held(top, "b"),
        trial=_trial(top.object("trial")) if top.value.get("trial") is not None else None,
        bad=tuple(_bad(Fields(item, f"{where}: bad[{i}]")) for i, item in enumerate(top.items("bad", MOST_BAD))),
        highest=top.integer("highest"),
        refused_up_to=top.integer("refused_up_to"),
    )
    _check_consistency(record, where)
    return record


def _check_consistency(record: Record, where: str) -> None:
    if record.active and record.held(record.active) is None:
        raise InputError(f"{where}: slot {record.active} is active and holds nothing")
    if record.trial:
        held = record.held(record.trial.slot)
        if held is None or (held.version, held.digest) != (record.trial.version, record.trial.digest):
            raise InputError(f"{where}: the trial is of a release that slot {record.trial.slot} does not hold")
        if record.trial.slot is record.active:
            raise InputError(f"{where}: the trial is in the active slot")


def _slot(fields: Fields, key: str) -> Slot:
    text = fields.text(key)
    if text not in Slot.__members__.values():
        raise InputError(f"{fields.where}: {key} must be a or b")
    return Slot(text)


def _held(top: Fields, key: str) -> Held | None:
    if top.value.get(key) is None:
        return None
    fields = top.object(key)
    return Held(fields.integer("version", 1), fields.sha256("digest"), proven=fields.boolean("proven"))


def _trial(fields: Fields) -> Trial:
    phase = fields.text("phase")
    if phase not in Phase.__members__.values():
        raise InputError(f"{fields.where}: phase must be trial or probation")
    return Trial(
        slot=_slot(fields, "slot"),
        version=fields.integer("version", 1),
        digest=fields.sha256("digest"),
        phase=Phase(phase),
        attempts_left=fields.integer("attempts_left"),
    )


def _bad(fields: Fields) -> BadRelease:
    return BadRelease(fields.integer("version", 1), fields.sha256("digest"), fields.text("reason", 1000))


def describe(record: Record) -> dict[str, Any]:
    """Return the record as plain values for ``agent status --json``."""
    return asdict(record)
