"""Owns cameras behind a GStreamer pipeline, a Jetson's CSI sockets among them. Refuses to run one in this process.

`gst-launch-1.0` runs the pipeline as a child and writes YUV4MPEG2: sizes, and pictures one after another. They carry
no times, so that a picture's time is that of its coming. What elements print (NVIDIA's do) is kept apart from them.
"""

import shlex
import time
from fractions import Fraction

import cv2
import numpy as np

from agent.camera.child_source import ChildSource, Exactly
from contract.errors import PeerError
from contract.video.child import program
from contract.video.nut import MOST_PIXELS
from contract.video.reader import Picture, SizeChangedError

PACKAGES = "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
END = shlex.split("! videoconvert ! video/x-raw,format=I420 ! y4menc ! fdsink fd=3 sync=false")
PICTURES_APART = 'exec "$@" 3>&1 1>&2'  # to descriptor 3; whatever else is printed is a complaint
MOST_HEADER_BYTES = 256
FRAME, HEADER = b"FRAME\n", b"YUV4MPEG2 "


class Y4mForm:
    """Reads YUV4MPEG2 with 4:2:0 pictures, as y4menc writes it."""

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._count = -1
        self._begin_s = 0.0

    def next(self, exactly: Exactly) -> Picture:
        """Return the next picture; errors as ``PictureForm.next``."""
        if self._size is None:
            self._size = _header(exactly)
        head = exactly(len(FRAME))
        if HEADER.startswith(head):
            raise SizeChangedError("the pictures have another size from here on")
        if head != FRAME:
            raise PeerError("no YUV4MPEG2 where a picture should be")
        width, height = self._size
        planes = np.frombuffer(exactly(width * height * 3 // 2), np.uint8).reshape(height * 3 // 2, width)
        now_s = time.monotonic()
        self._begin_s = self._begin_s or now_s
        self._count += 1
        pixels = np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), np.uint8)
        return Picture(pixels, now_s - self._begin_s, self._count)


def _header(exactly: Exactly) -> tuple[int, int]:
    """Return width and height; PeerError when they are none that can be."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < MOST_HEADER_BYTES:
        line += exactly(1)
    words = {word[:1]: word[1:] for word in bytes(line).removeprefix(HEADER).split()}
    sides = [int(digits) if (digits := words.get(key, b"")).isdigit() else 0 for key in (b"W", b"H")]
    if not line.startswith(HEADER) or not 0 < sides[0] * sides[1] <= MOST_PIXELS:
        raise PeerError("the pipeline gives no YUV4MPEG2")
    # Rows of other widths are padded by some versions of y4menc and not by others.
    if sides[0] % 8 or sides[1] % 2:
        raise PeerError(f"pictures of {sides[0]}x{sides[1]}: the width must be a multiple of 8, the height even")
    return sides[0], sides[1]


def jetson_pipeline(sensor: int, width: int, height: int, fps: float) -> str:
    """Return the pipeline of a Jetson's CSI camera; wishes of 0 are left to it."""
    size = f",width={width},height={height}" if width and height else ""
    rate = Fraction(fps).limit_denominator(1001)
    wish = f"'video/x-raw(memory:NVMM){size}{f',framerate={rate.numerator}/{rate.denominator}' if fps else ''}'"
    return f"nvarguscamerasrc sensor-id={sensor} ! {wish} ! nvvidconv ! video/x-raw,format=I420"


def gstreamer_source(name: str, pipeline: str) -> ChildSource:
    """Return a camera whose pictures come out of ``pipeline``, as a shell's words and without a sink.

    Raises:
        InputError: GStreamer's tools are not installed.
    """
    launch = program("gst-launch-1.0", PACKAGES)
    command = ("sh", "-c", PICTURES_APART, "sh", launch, "-q", *shlex.split(pipeline), *END)
    return ChildSource(name, command, Y4mForm())
