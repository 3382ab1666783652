"""Owns the accelerator's life: a child for what is in use, another one after a fault. Refuses to let anybody wait.

UNUSED    nothing in use was compiled for it
STARTING  a child loads the models and passes the self-test
WORKING   it answers
FAILED    the processor answers; tried again after 5, 15, 60 and then every 300 s

            serve(job)            offered                   failed, or the child ended
UNUSED ---------------> STARTING ---------> WORKING -----------------------------------> FAILED
   ^                       ^  |  did not load, other answers, too slow                     ^ |
   |                       |  +------------------------------------------------------------+ |
   +---- serve(None) ----- +------------------------------ its time has come ----------------+
"""

import enum
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from agent.runtimes.child import AcceleratorChild
from agent.runtimes.settings import RuntimeSettings
from contract.errors import KinwatchError, one_line
from contract.events import log_event

logger = logging.getLogger("agent.accelerator")
WAITS_S = (5.0, 15.0, 60.0, 300.0)  # before each try; a USB device is back after a few seconds, if at all
STEADY_S = 300.0  # after so long without a fault, the next wait is the first again
LOOK_S = 1.0  # between two looks at a child that nobody asks
END_LIMIT_S = 5.0

T = TypeVar("T")


class State(enum.StrEnum):
    """Where the accelerator is."""

    UNUSED = "unused"
    STARTING = "starting"
    WORKING = "working"
    FAILED = "failed"


@dataclass(frozen=True)
class Job(Generic[T]):
    """What the accelerator is for: files that a child loads, and ``make``, which makes of a child what is asked.

    ``make`` runs in the accelerator's thread; it raises AcceleratorError or ReleaseError where the answers are wrong.
    """

    models: tuple[Path, ...]
    make: Callable[[AcceleratorChild], T]


class Accelerator(Generic[T]):
    """Serves one job at a time between ``with`` and its end; all methods return at once.

    ``serve``, ``ready`` and ``failed`` are for the thread that asks, ``status`` for any.
    """

    def __init__(self, settings: RuntimeSettings, waits_s: Sequence[float] = WAITS_S) -> None:
        """Make it; the seconds before each new try are ``waits_s``, the last of them again and again."""
        self._settings = settings
        self._waits_s = waits_s
        self._changed = threading.Condition()
        self._ending = False
        self._job: Job[T] | None = None
        self._child: AcceleratorChild | None = None
        self._ready: T | None = None
        self._left = True  # no child is to work, or the one that does not end yet is to end
        self._state, self._since_s = State.UNUSED, time.monotonic()
        self._reason = ""
        self._faults = self._tries = 0
        self._next_s = 0.0
        self._thread = threading.Thread(target=self._run, name="accelerator", daemon=True)

    def __enter__(self) -> "Accelerator[T]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the child; one that a driver holds is left to the kernel."""
        with self._changed:
            self._ending = True
        self.serve(None)
        self._thread.join(END_LIMIT_S)

    def serve(self, job: Job[T] | None) -> None:
        """Be for ``job`` from now on, and for no other one."""
        with self._changed:
            self._job, self._ready, self._reason = job, None, ""
            self._tries, self._next_s = 0, 0.0
            self._set(State.STARTING if job else State.UNUSED)
            self._let_go()

    def serves(self, job: Job[T]) -> bool:
        """Return whether this is the job it is for."""
        return self._job is job

    def ready(self, job: Job[T]) -> T | None:
        """Return what ``job`` made, None while it is not ready or for another one."""
        with self._changed:
            return self._ready if self._job is job else None

    def failed(self, job: Job[T], error: KinwatchError) -> None:
        """Leave a child that failed; it is not ready any more."""
        with self._changed:
            if self._job is job and self._ready is not None:
                self._fault(error)

    def status(self) -> dict[str, Any]:
        """Return what is told of it."""
        with self._changed:
            now_s = time.monotonic()
            return {
                "state": self._state,
                "since_s": round(now_s - self._since_s, 1),
                "faults": self._faults,
                "reason": self._reason,
                "next_try_s": round(max(0.0, self._next_s - now_s), 1) if self._state is State.FAILED else None,
            }

    def _set(self, state: State) -> None:
        if state is not self._state:
            self._state, self._since_s = state, time.monotonic()

    def _let_go(self) -> None:
        """Kill the child, and let the thread see to what follows."""
        self._left = True
        if self._child is not None:
            self._child.kill()
        self._changed.notify_all()

    def _fault(self, error: BaseException) -> None:
        now_s = time.monotonic()
        if self._state is State.WORKING and now_s - self._since_s > STEADY_S:
            self._tries = 0
        wait_s = self._waits_s[min(self._tries, len(self._waits_s) - 1)]
        self._faults, self._tries = self._faults + 1, self._tries + 1
        self._ready, self._reason, self._next_s = None, one_line(error), now_s + wait_s
        self._set(State.FAILED)
        log_event(logger, "accelerator.failed", logging.WARNING, reason=self._reason, next_try_s=wait_s)
        self._let_go()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._work(job)
            # OSError, ValueError: files that vanish, answers of a shape that nobody expects
            except (KinwatchError, OSError, ValueError, MemoryError) as error:
                with self._changed:
                    if not self._left:  # else the child was killed, and that is what it tells of
                        self._fault(error)

    def _next(self) -> Job[T] | None:
        """Wait for a job whose time has come; None at the end."""
        with self._changed:
            while not self._ending:
                left_s = self._next_s - time.monotonic() if self._job else None
                if self._job and left_s is not None and left_s <= 0:
                    self._set(State.STARTING)
                    self._left = False
                    return self._job
                self._changed.wait(left_s)
        return None

    def _work(self, job: Job[T]) -> None:
        """Start a child and offer what ``job`` makes of it, until it is let go of."""
        begun_s = time.monotonic()
        with AcceleratorChild(self._settings.library, job.models, self._settings.start_s) as child:
            with self._changed:
                if self._left:
                    return
                self._child = child
            try:
                child.begin()
                made = job.make(child)
                child.limit_s = self._settings.answer_s
                self._offer(made, time.monotonic() - begun_s)
                self._attend(child)
            finally:
                with self._changed:
                    self._child = None

    def _offer(self, made: T, took_s: float) -> None:
        with self._changed:
            if not self._left:
                self._ready, self._reason = made, ""
                self._set(State.WORKING)
                log_event(logger, "accelerator.working", start_ms=round(took_s * 1000), faults=self._faults)

    def _attend(self, child: AcceleratorChild) -> None:
        """Wait until it is not to work any more; AcceleratorError when the child ended by itself."""
        with self._changed:
            while not self._left:
                if not self._changed.wait(LOOK_S):
                    child.check()
