"""Owns what `agent status` says: who runs now, the record and the last update. Refuses to change them."""

from pathlib import Path
from typing import Any

from agent import live
from agent.camera.state import CameraState, read_status
from agent.updates.lifecycle import state
from agent.updates.progress import last_update
from agent.updates.record import Record, Slot, describe
from agent.updates.slots import is_locked, read_record

NOT_RUNNING = "not running"
LOCKED = "locked"  # a command such as `install` is at work, or an agent that does not answer


def status(data: Path) -> dict[str, Any]:
    """Return the state of the device whose data folder is ``data``.

    ``state`` is where the running agent is (watching, running, trial, probation), that none runs, or that something
    else holds the folder; the rest says what the next start finds. ``live`` is what the agent says of itself.

    Raises:
        InputError: the state file is damaged (the next start rebuilds it).
        StorageError: it cannot be read.
    """
    record, facts = read_record(data), live.ask(data)
    running = record.held(record.running) if record and record.running else None
    return {
        "state": _state(data, record, facts),
        "live": facts or None,
        "version": running.version if running else None,
        "digest": running.digest if running else None,
        **describe(record or Record("")),
        "last_update": last_update(data),
        "camera": read_status(data) if facts else None,
    }


def _state(data: Path, record: Record | None, facts: dict[str, Any] | None) -> str:
    if facts is None:
        return LOCKED if is_locked(data) else NOT_RUNNING
    return state(record or Record("")).name.lower()


def table(data: Path) -> str:
    """Return the same for a person, a line a fact; errors as ``status``."""
    record, facts, last = read_record(data), live.ask(data), last_update(data)
    seen = _camera_lines(read_status(data)) if facts else []  # what an earlier run left says nothing of now
    lines = [f"agent       {_state_line(_state(data, record, facts), facts)}", *_live_lines(facts or {})]
    if record is None:
        return "\n".join([*lines, *seen, "slots       no release was ever installed here"])
    lines += [f"model       {record.model}", *(_slot_line(record, slot, facts) for slot in Slot)]
    if record.trial:
        lines.append(f"trial       release {record.trial.version}, {record.trial.attempts_left} starts left")
    lines += [f"bad         release {bad.version}: {bad.reason}" for bad in record.bad]
    if last:
        detail = f", {last['error']}" if last.get("error") else ""
        before, after = (last.get(key) or "none" for key in ("from", "to"))
        lines.append(f"last update {before} to {after}: {last.get('state')}{detail}")
    return "\n".join(lines + seen)


def _camera_lines(camera: dict[str, Any] | None) -> list[str]:
    """Say what ails the camera; of one that is well the running agent says more."""
    if not camera or camera.get("state") == CameraState.LIVE:
        return []
    reason = f": {camera['reason']}" if camera.get("reason") else ""
    return [f"camera      {camera.get('state')} since {camera.get('since')}{reason}"]


def _state_line(told: str, facts: dict[str, Any] | None) -> str:
    if told == LOCKED:
        return "locked: `agent install` or another command is at work, or an agent that does not answer"
    if facts is None:
        return NOT_RUNNING
    return (
        f"{told}, since {facts['running_s']:.0f} s, process {facts['pid']}" if facts else f"{told}; ask as its user"
    )


def _live_lines(facts: dict[str, Any]) -> list[str]:
    if not facts:
        return []
    age = "none yet" if facts["last_frame_s"] is None else f"the last one {facts['last_frame_s']:.1f} s ago"
    seen = facts["last_sighting"]
    lines = [f"camera      {facts['camera']}: {facts['fps']:g} frames a second, {age}"]
    lines.append(
        f"last seen   {seen.get('name', seen['label'])} at {seen['time']}"
        if seen
        else "last seen   nobody since it started"
    )
    lines += _accelerator_lines(facts.get("accelerator"))
    return lines + ["paused      nobody is looked at; `agent pause off` ends it"] * bool(facts["paused"])


def _accelerator_lines(told: dict[str, Any] | None) -> list[str]:
    """Say where the accelerator is; nothing where there is none."""
    if told is None:
        return []
    line = f"accelerator {told['state']} since {told['since_s']:.0f} s, {told['faults']} faults since the start"
    if told["state"] == "unused":
        line += ": nothing in use was compiled for it, or the release is on its trial, on the processor"
    elif told["reason"]:
        line += f": {told['reason']}"
    if told.get("next_try_s") is not None:
        line += f"; the processor answers, tried again in {told['next_try_s']:.0f} s"
    return [line]


def _slot_line(record: Record, slot: Slot, facts: dict[str, Any] | None) -> str:
    held = record.held(slot)
    if held is None:
        return f"slot {slot}      empty"
    runs = "runs at the next start" if facts is None else "runs"
    marks = [runs] * (slot is record.running) + ["committed"] * (slot is record.active) + ["proven"] * held.proven
    return f"slot {slot}      release {held.version} {held.digest[:12]} {', '.join(marks)}".rstrip()
