"""Owns what each command of the agent does with its parts; the parts know nothing of each other's wiring."""

import dataclasses
import datetime as dt
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from agent.config import AgentConfig
from agent.updates.lifecycle import Allowed, RollBackAsked
from agent.updates.plan import Reason
from agent.updates.progress import Progress
from agent.updates.record import Record, Slot
from agent.updates.slots import open_slots, read_record, slot_problem
from contract.errors import InputError, ReleaseError
from contract.events import log_event, start_logging

logger = logging.getLogger("agent")


def run(config: AgentConfig) -> int:
    """Watch until the video ends, or SIGTERM or Ctrl-C says so; a camera never ends, it is begun anew.

    Raises:
        InputError: an agent runs on the data folder already, or the file is no video.
        PeerError: the decoder dies on the file.
        KeyboardInterrupt: it was Ctrl-C.
    """
    from agent.camera.camera import open_camera
    from agent.camera.state import write_status
    from agent.wiring import Agent

    start_logging()
    with open_slots(config.data, config.model.name, config.trial.attempts) as slots:
        slots.check()
        ending = threading.Event()
        # The camera comes first: a file that fails must not spend an attempt of a trial.
        opened = open_camera(config.camera, partial(write_status, config.data))
        with opened as camera, _ended_by_signals(ending, camera.stop) as signals:
            Agent(config, slots, ending).watch(camera)
    if signal.SIGINT in signals:
        raise KeyboardInterrupt  # in order, all the same
    return 0


def status(config: AgentConfig, *, as_json: bool) -> int:
    """Print the state of the device; an agent may be running."""
    from agent import status as view

    print(json.dumps(view.status(config.data), indent=1) if as_json else view.table(config.data))
    return 0


def pause(config: AgentConfig, words: list[str]) -> int:
    """Begin a pause, or end it (``off``); an agent that runs, now or later, obeys.

    Raises:
        InputError: the words say no length.
        StorageError: the disk refused.
    """
    from agent.pause import begin_pause, end_pause, read_length

    if words == ["off"]:
        print("the pause is over" if end_pause(config.data) else "there was no pause")
        return 0
    now = dt.datetime.now().astimezone()
    begun = begin_pause(config.data, read_length(words, now))
    end = None if begun.until is None else now + dt.timedelta(seconds=begun.seconds)
    print(f"nobody is looked at until {end:%Y-%m-%d %H:%M}" if end else "nobody is looked at until `agent pause off`")
    return 0


def install(config: AgentConfig, bundle: Path | None) -> int:
    """Install the newest release of the channel, or the bundle in a folder; the next start tries it.

    Raises:
        InputError: an agent runs, or the bundle is not one.
        ReleaseError: the release is not for this device, or failed its self-test.
        PeerError, StorageError: the relay or the disk.
    """
    from agent.wiring import make_installer

    start_logging(logging.WARNING)
    with open_slots(config.data, config.model.name, config.trial.attempts) as slots:
        slots.check()
        progress = Progress(config.data, lambda status: print(status.state, file=sys.stderr))
        installer = make_installer(
            config, slots, progress, wait=threading.Event().wait, hot=False, on_bytes=_ByteCounter()
        )
        refusal = installer.install(lambda: installer.local(bundle) if bundle else installer.newest())
        if refusal is None:
            trial = slots.record.trial
            assert trial is not None  # `install` begins one, or says why not
            print(f"release {trial.version} is in slot {trial.slot}; the next `agent run` tries it")
        elif refusal.reason is Reason.CURRENT:
            print(refusal.text)
        else:
            raise ReleaseError(refusal.text)
    return 0


def rollback(config: AgentConfig) -> int:
    """Go back to the release in the other slot; the one left is remembered as bad, until `agent allow` forgets it.

    Raises:
        InputError: an agent runs, or no other slot holds a release that was committed once and is not bad.
    """
    start_logging(logging.WARNING)
    with open_slots(config.data, config.model.name, config.trial.attempts) as slots:
        slots.check()
        if slots.record.fallback is None:
            raise InputError(_no_fallback(slots.record))
        transition = slots.apply(RollBackAsked())
        record = transition.record
        held = record.held(record.active) if record.active else None
        Progress(config.data).moved(transition)
        print(f"release {held.version if held else '?'} in slot {record.active} runs from the next start on")
        left = record.bad[-1].version
        print(f"release {left} is remembered as bad; `agent allow {left}` forgets that, so that it may come back")
    return 0


def _no_fallback(record: Record) -> str:
    """Say why there is nothing to go back to, and what would help."""
    other = record.held(record.running.other) if record.running else None
    if other and any(bad.digest == other.digest for bad in record.bad):
        return f"release {other.version} in the other slot is remembered as bad: `agent allow {other.version}` first"
    return "no other slot holds a release to go back to"


def allow(config: AgentConfig, version: int) -> int:
    """Forget that a release is bad: the next update may take it, and a roll back may go to it.

    Raises:
        InputError: an agent runs, or the release is not remembered as bad.
    """
    start_logging(logging.WARNING)
    with open_slots(config.data, config.model.name, config.trial.attempts) as slots:
        record = slots.record
        if all(bad.version != version for bad in record.bad):
            raise InputError(_not_bad(record, version))
        slots.apply(Allowed(version))
        print(f"release {version} is no longer remembered as bad: an update may take it, `agent rollback` too")
    return 0


def _not_bad(record: Record, version: int) -> str:
    if 0 < version <= record.refused_up_to:
        return f"{record.refuses(version)}; which ones is no longer known: a newer release is needed"
    known = ", ".join(str(bad.version) for bad in sorted(record.bad, key=lambda bad: bad.version)) or "none"
    return f"release {version} is not remembered as bad here (these are: {known})"


def check(config: AgentConfig, *, as_json: bool) -> int:
    """Check every file in the slots, beside a running agent or not; 1 when one is damaged.

    The configuration was checked before this is called.
    """
    record = read_record(config.data) or Record(config.model.name)
    held = {slot: release for slot in Slot if (release := record.held(slot))}
    found = {slot: slot_problem(config.data, slot, release) for slot, release in held.items()}
    problems = [problem for problem in found.values() if problem]
    if as_json:
        slots = {slot: dataclasses.asdict(release) for slot, release in held.items()}
        print(json.dumps({"ok": not problems, "problems": problems, "slots": slots}, indent=1))
    elif problems:
        raise InputError("; ".join(problems))
    else:
        print(f"the configuration is right; {len(held)} of 2 slots hold a release, every digest is right")
    return 1 if problems else 0


def doctor(config: AgentConfig, *, as_json: bool) -> int:
    """Print what was found; 1 when something is wrong."""
    from agent import doctor as examination

    findings = examination.examine(config)
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        print(examination.table(findings))
    return 0 if all(finding.ok for finding in findings) else 1


class _ByteCounter:
    """Shows a person at a terminal that bytes arrive."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, count: int) -> None:
        """Add ``count`` bytes."""
        self._count += count
        if sys.stderr.isatty():
            print(f"\r{self._count / 1000:.0f} KB ", end="", file=sys.stderr, flush=True)


@contextmanager
def _ended_by_signals(ending: threading.Event, stop: Callable[[], None]) -> Iterator[list[int]]:
    """Let SIGTERM and Ctrl-C set ``ending`` and call ``stop``: the loop ends after the frame that it is at.

    Return the list of the signals that came.

    A handler runs between any two steps of the main thread, in the middle of a log line or with a lock held: to log
    or to take that lock there fails, or waits for ever. It writes one byte, and a thread does the rest.
    """
    reading, writing = os.pipe()
    asked: list[int] = []

    def ask(number: int, stack: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt  # asked twice: whatever hangs must not keep us
        os.write(writing, bytes((number,)))

    def end() -> None:
        for number in os.read(reading, 1):  # nothing when the pipe is closed: it ended by itself
            log_event(logger, "agent.ending", signal=signal.Signals(number).name)
            ending.set()
            stop()

    ender = threading.Thread(target=end, name="signals", daemon=True)
    ender.start()
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        ender.join()
        os.close(reading)
