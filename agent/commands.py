"""Owns what each command of the agent does with its parts; the parts know nothing of each other's wiring."""

import dataclasses
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.config import AgentConfig
from agent.updates.lifecycle import RollBackAsked
from agent.updates.plan import Reason
from agent.updates.progress import Progress
from agent.updates.record import Record, Slot
from agent.updates.slots import open_slots, read_record, slot_problem
from contract.errors import InputError, ReleaseError
from contract.events import log_event, start_logging

logger = logging.getLogger("agent")


def run(config: AgentConfig) -> int:
    """Watch until the camera ends, or SIGTERM or Ctrl-C says so.

    Raises:
        InputError: an agent runs on the data folder already, or the source is no camera and no video.
        PeerError: the camera gives no more frames.
    """
    from agent.camera.camera import open_camera
    from agent.wiring import Agent

    start_logging()
    with open_slots(config.data, config.model.name, config.trial.attempts) as slots:
        slots.check()
        ending = threading.Event()
        # The camera comes first: one that fails must not spend an attempt of a trial.
        with open_camera(config.camera) as camera, _ended_by_signals(ending, camera.stop):
            Agent(config, slots, ending).watch(camera)
    return 0


def status(config: AgentConfig, *, as_json: bool) -> int:
    """Print the state of the device; an agent may be running."""
    from agent import status as view
    from agent.updates.progress import last_update

    if as_json:
        print(json.dumps(view.status(config.data), indent=1))
    else:
        print(view.table(read_record(config.data), last_update(config.data)))
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
    """Go back to the release in the other slot; the one left is remembered as bad.

    Raises:
        InputError: an agent runs, or no other slot holds a release that was committed once.
    """
    start_logging(logging.WARNING)
    with open_slots(config.data, config.model.name, config.trial.attempts) as slots:
        slots.check()
        if slots.record.fallback is None:
            raise InputError("no other slot holds a release to go back to")
        transition = slots.apply(RollBackAsked())
        slot = transition.record.active
        held = transition.record.held(slot) if slot else None
        Progress(config.data).moved(transition)
        print(f"release {held.version if held else '?'} in slot {slot} runs from the next start on")
    return 0


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
def _ended_by_signals(ending: threading.Event, stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C set ``ending`` and call ``stop``: the loop ends after the frame that it is at.

    A handler runs between any two steps of the main thread, in the middle of a log line or with a lock held: to log
    or to take that lock there fails, or waits for ever. It writes one byte, and a thread does the rest.
    """
    reading, writing = os.pipe()
    asked = False

    def ask(number: int, stack: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt  # asked twice: whatever hangs must not keep us
        asked = True
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
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        ender.join()
        os.close(reading)
