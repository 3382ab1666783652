"""Owns what `agent status` says: the record and the last update, read without the lock. Refuses to change them."""

from pathlib import Path
from typing import Any

from agent.updates.lifecycle import state
from agent.updates.progress import last_update
from agent.updates.record import Record, Slot, describe
from agent.updates.slots import read_record


def status(data: Path) -> dict[str, Any]:
    """Return the state of the device whose data folder is ``data``.

    Raises:
        InputError: the state file is damaged (the next start rebuilds it).
        StorageError: it cannot be read.
    """
    record = read_record(data)
    if record is None:
        return {"state": "new", "version": None, "slots": {}, "last_update": last_update(data)}
    running = record.held(record.running) if record.running else None
    return {
        "state": state(record).name.lower(),
        "version": running.version if running else None,
        "digest": running.digest if running else None,
        **describe(record),
        "last_update": last_update(data),
    }


def table(record: Record | None, last: dict[str, Any] | None) -> str:
    """Return the same for a person, a line a fact."""
    if record is None:
        return "no release was ever installed here"
    lines = [f"model       {record.model}", f"state       {state(record).name.lower()}"]
    lines += [f"slot {slot}      {_slot_line(record, slot)}" for slot in Slot]
    if record.trial:
        lines.append(f"trial       release {record.trial.version}, {record.trial.attempts_left} starts left")
    lines += [f"bad         release {bad.version}: {bad.reason}" for bad in record.bad]
    if last:
        detail = f", {last['error']}" if last.get("error") else ""
        before, after = (last.get(key) or "none" for key in ("from", "to"))
        lines.append(f"last update {before} to {after}: {last.get('state')}{detail}")
    return "\n".join(lines)


def _slot_line(record: Record, slot: Slot) -> str:
    held = record.held(slot)
    if held is None:
        return "empty"
    marks = ["runs"] * (slot is record.running) + ["committed"] * (slot is record.active) + ["proven"] * held.proven
    return f"release {held.version} {held.digest[:12]} {', '.join(marks)}".rstrip()
