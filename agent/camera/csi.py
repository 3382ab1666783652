"""Owns a Raspberry Pi's CSI camera as a source: a small and a main picture of one moment. Refuses to load picamera2.

``csi_program.py`` does, in a child and by the system's Python.
"""

import struct
from pathlib import Path

import cv2
import numpy as np

from agent.camera.child_source import ChildSource, Exactly
from agent.camera.csi_program import HEAD, PICTURE, REFUSED, TEXT
from contract.errors import PeerError
from contract.video.nut import MOST_PIXELS
from contract.video.reader import Picture

PROGRAM = Path(__file__).with_name("csi_program.py")
SYSTEM_PYTHON = "/usr/bin/python3"  # the one that apt's picamera2 is for; not a virtual environment's


class CsiForm:
    """Reads what ``csi_program.py`` writes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = -1
        self._begin_ns: int | None = None

    def next(self, exactly: Exactly) -> Picture:
        """Return the next picture; errors as ``PictureForm.next``."""
        mark = exactly(len(PICTURE))
        if mark == REFUSED:
            (length,) = struct.unpack("<H", exactly(TEXT.size - len(mark)))
            raise PeerError(f"{self._name}: {exactly(length).decode(errors='replace')}")
        if mark != PICTURE:
            raise PeerError(f"{self._name}: no picture where one should be")
        _, time_ns, width, height, main_width, main_height = HEAD.unpack(mark + exactly(HEAD.size - len(mark)))
        if not 0 < width * height <= MOST_PIXELS or not 0 < main_width * main_height <= MOST_PIXELS:
            raise PeerError(f"{self._name}: pictures of {width}x{height} and {main_width}x{main_height}")
        planes = np.frombuffer(exactly(width * height * 3 // 2), np.uint8).reshape(height * 3 // 2, width)
        main = np.frombuffer(exactly(main_width * main_height * 3), np.uint8).reshape(main_height, main_width, 3)
        self._count += 1
        self._begin_ns = time_ns if self._begin_ns is None else self._begin_ns
        small = np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), np.uint8)
        return Picture(small, (time_ns - self._begin_ns) / 1e9, self._count, main)


def csi_source(
    name: str, camera: int, width: int, height: int, fps: float, *, python: str = SYSTEM_PYTHON
) -> ChildSource:
    """Return CSI camera number ``camera``; ``width`` and ``height`` are wishes for the main picture, 0 for none."""
    command = (python, "-P", str(PROGRAM), str(camera), str(width), str(height), f"{fps:g}")
    return ChildSource(name, command, CsiForm(name))
