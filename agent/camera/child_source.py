"""Owns a camera behind a child that hands over raw pictures by a pipe. Refuses to know in which form they come.

A camera's driver may hang for good, in the kernel or in a library: a child can be killed for it, our own process not.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from contract.errors import PeerError
from contract.video.child import DRIVER_LIMITS, Child, Complaints
from contract.video.reader import Picture

Exactly = Callable[[int], bytearray]  # returns so many bytes of the pipe


class PictureForm(Protocol):
    """How pictures lie in the pipe."""

    def next(self, exactly: Exactly) -> Picture:
        """Return the next picture.

        Raises:
            SizeChangedError: a new child may go on.
            PeerError: it is none, or the child says what is wrong.
        """


class _EndedError(Exception):
    """The pipe has ended."""


class ChildSource:
    """Runs ``command``, whose stdout has pictures in ``form``; ``name`` as a person may see it. A ``FrameSource``."""

    def __init__(self, name: str, command: Sequence[str], form: PictureForm) -> None:
        self.name = name
        self._form = form
        self._child = Child(command, limits=DRIVER_LIMITS)
        self._until_s = 0.0

    @property
    def said(self) -> Complaints:
        """What the child complained about so far."""
        return self._child.said

    def read(self, limit_s: float) -> Picture | None:
        """Return the next picture; None after ``kill``.

        Raises:
            StalledError: none came within ``limit_s``.
            PeerError: the camera refuses, or its child ended; a new one may go on.
        """
        self._until_s = time.monotonic() + limit_s
        try:
            return self._form.next(self._exactly)
        except _EndedError:
            code = self._child.end()
            if self._child.killed:
                return None
            raise PeerError(f"{self.name}: {self.said.first or f'its program ended with {code}'}") from None

    def kill(self) -> None:
        """End the child; a ``read`` under way returns None."""
        self._child.kill()

    def close(self) -> None:
        """End the child and let go of it."""
        self._child.close()

    def _exactly(self, count: int) -> bytearray:
        buffer = bytearray(count)
        if self._child.read_into(memoryview(buffer), self._until_s) < count:
            raise _EndedError
        return buffer
