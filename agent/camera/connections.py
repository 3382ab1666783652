"""Owns one connection to a source at a time, which another thread may cut off. Refuses to begin anew by itself."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from agent.camera.decoder_words import DecoderWords
from agent.camera.frame import FrameSource
from contract.video.reader import Picture


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
        self._words = DecoderWords(name)
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
            self._words.hear(source.said, ended=True)

    def read(self, source: FrameSource, limit_s: float) -> Picture | None:
        """Return the next picture of ``source``, and hear what its decoder complains about meanwhile.

        Raises:
            as ``FrameSource.read``.
        """
        picture = source.read(limit_s)
        self._words.hear(source.said)
        return picture

    def close(self) -> None:
        """Let go of ``first`` if it was never read."""
        if self._first:
            self._first.close()
