"""Owns what a camera hands on, a ``Frame``, and what it takes frames from, a ``FrameSource``. Refuses to read one.

Whatever gives pictures is a ``FrameSource``: an ffmpeg child (``contract.video``) for files, streams and V4L2, and a
``ChildSource`` for a Raspberry Pi's CSI camera (picamera2) and for GStreamer, a Jetson's camera among them.
"""

from dataclasses import dataclass
from typing import Protocol

from contract.preprocess import Image
from contract.video.child import Complaints
from contract.video.reader import Picture


@dataclass(frozen=True)
class Frame:
    """One picture.

    ``image``: height x width x 3, uint8, BGR. ``index``: number in the file, from 0 (else: as ``sequence``).
    ``sequence``: number since the camera opened, over all loops, dropped frames counted. ``time_s``: when it was
    read, monotonic. ``loop_count``: how often the file began again. ``position_s``: its time in the file or
    connection. ``live``: whether it is a picture of something, and of now. ``large``: the same moment in more detail,
    where a camera gives both: people are found on ``image`` and cut out of ``large``.
    """

    image: Image
    index: int
    sequence: int
    time_s: float
    loop_count: int = 0
    position_s: float = 0.0
    live: bool = True
    large: Image | None = None


class FrameSource(Protocol):
    """One connection to where pictures come from."""

    @property
    def said(self) -> Complaints:
        """What it complained about so far."""

    def read(self, limit_s: float) -> Picture | None:
        """Return the next picture; None at its end, and after ``kill``.

        Raises:
            StalledError: none came within ``limit_s``; only ``close`` makes sense now.
            DecoderDiedError, SizeChangedError, PeerError: a new connection may go on.
            InputError: none will.
        """

    def kill(self) -> None:
        """End a ``read`` under way; from any thread."""

    def close(self) -> None:
        """Let go of everything."""
