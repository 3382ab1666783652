"""Owns the processes of a server: it starts them, starts one again that ended, and ends all. Refuses to load Django.

Restarts have a budget: what ends again and again is a fault that a restart does not mend, and then the whole server
ends, so that the service manager and a person see it. A child ends with the supervisor, even when that is killed.
"""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import FrameType

from contract.errors import InputError, PeerError
from contract.events import log_event

logger = logging.getLogger("cloud_tools.supervisor")
RESTARTS, WINDOW_S = 5, 60.0
END_LIMIT_S = 20.0  # for a job at hand; it is taken up again if that is not enough


@dataclass
class Child:
    """One process: what it is called and how it is started."""

    name: str
    command: Sequence[str]
    keep: tuple[int, ...] = ()  # descriptors that it inherits
    process: "subprocess.Popen[bytes] | None" = None
    ends: "deque[float]" = field(default_factory=lambda: deque(maxlen=RESTARTS))

    def spent(self, now_s: float) -> bool:
        """Count an end; return whether the budget of restarts is spent."""
        full = len(self.ends) == RESTARTS and now_s - self.ends[0] < WINDOW_S
        self.ends.append(now_s)
        return full


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of Python, and that ends with the thread that starts it."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise InputError("setpriv is not installed: apt-get install util-linux")
    return [setpriv, "--pdeathsig", "TERM", sys.executable, "-m", name, *arguments]


class Supervisor:
    """Use it from the main thread: a child ends with the thread that started it."""

    def __init__(self, children: Sequence[Child], environment: Mapping[str, str]) -> None:
        self._children, self._environment = children, environment
        self._news: SimpleQueue[Child | int] = SimpleQueue()

    @contextlib.contextmanager
    def running(self) -> Iterator["Supervisor"]:
        """Start all; at the end of the block end all."""

        def told(number: int, frame: FrameType | None) -> None:
            self._news.put(number)

        before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for child in self._children:
                self._start(child)
            yield self
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def watch(self) -> None:
        """Start again what ends, until SIGTERM or SIGINT.

        Raises:
            PeerError: a child ended more often than the budget allows.
            KeyboardInterrupt: it was SIGINT.
        """
        while True:
            news = self._news.get()
            if isinstance(news, int):
                if news == signal.SIGINT:
                    raise KeyboardInterrupt
                return
            code = news.process.returncode if news.process else None
            log_event(logger, "child.ended", logging.WARNING, name=news.name, code=code)
            if news.spent(time.monotonic()):
                raise PeerError(
                    f"the {news.name} ended {RESTARTS + 1} times within {WINDOW_S:.0f} s; its words are above"
                )
            self._start(news)

    def _start(self, child: Child) -> None:
        process = subprocess.Popen(
            child.command, env=dict(self._environment), stdin=subprocess.DEVNULL, pass_fds=child.keep
        )
        child.process = process
        threading.Thread(target=self._wait, args=(child, process), daemon=True).start()

    def _wait(self, child: Child, process: "subprocess.Popen[bytes]") -> None:
        process.wait()
        self._news.put(child)

    def _end(self) -> None:
        processes = [child.process for child in self._children if child.process is not None]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        until_s = time.monotonic() + END_LIMIT_S
        for process in processes:
            try:
                process.wait(max(0.1, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment_of(values: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of children: ours, and ``values``."""
    return {**os.environ, **values}
