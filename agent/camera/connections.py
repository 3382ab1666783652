"""Owns one connection to a source at a time, which another thread may cut off. Refuses to begin anew by itself."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from agent.camera.frame import FrameSource
from contract.events import log_event
from contract.video.child import Complaints

logger = logging.getLogger("agent.camera")
NEWS_S, AGAIN_S = 60.0, 3600.0  # between two lines about decoders: other words, the same words


class Connections:
    """Opens ``name`` (as a person may see it) with ``open_source``, time and again, until ``end``.

    ``first``: a connection that is open already.
    """

    def __init__(self, open_source: Callable[[], FrameSource], name: str, first: FrameSource | None = None) -> None:
        self.name = name
        self._open_source = open_source
        self._first = first
        self._guard = threading.Lock()
        self._source: FrameSource | None = None
        self._over = threading.Event()
        self._lines, self._told = 0, ""
        self._told_s: float | None = None
        self.count = 0

    @property
    def over(self) -> bool:
        """Whether ``end`` was called."""
        return self._over.is_set()

    def wait(self, seconds: float) -> None:
        """Wait, or until ``end``."""
        self._over.wait(seconds)

    def end(self) -> None:
        """End the connection, and any later one before its first picture; from any thread."""
        self._over.set()
        with self._guard:
            if self._source:
                self._source.kill()

    @contextlib.contextmanager
    def open(self) -> Iterator[FrameSource]:
        """Open a connection; let go of it afterwards, and say what its decoder complained about.

        Raises:
            as ``open_source``.
        """
        self.count += 1
        source, self._first = self._first or self._open_source(), None
        with self._guard:
            self._source = source
            if self.over:
                source.kill()
        try:
            yield source
        finally:
            with self._guard:
                self._source = None
            source.close()
            self._tell(source.said)

    def _tell(self, said: Complaints) -> None:
        """Say how much decoders complained since the last time: soon when it is news, else seldom."""
        self._lines += said.count
        now = time.monotonic()
        due_s = NEWS_S if said.first != self._told else AGAIN_S
        if said.count and (self._told_s is None or now - self._told_s >= due_s):
            log_event(
                logger, "camera.decoder", logging.WARNING, source=self.name, lines=self._lines, first=said.first
            )
            self._lines, self._told, self._told_s = 0, said.first, now

    def close(self) -> None:
        """Let go of ``first`` if it was never read."""
        if self._first:
            self._first.close()
