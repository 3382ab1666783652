"""Owns reading pictures one by one from an ffmpeg child; refuses to decode anything in this process.

Three things that look alike from far are told apart: the end (None), an error (PeerError, InputError), and a source
that gives nothing (StalledError). Nothing here waits without a limit.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contract.errors import InputError, PeerError
from contract.preprocess import Image
from contract.video.child import Child, Complaints
from contract.video.inputs import MARKED_ROWS, VideoInput, command, file_input
from contract.video.nut import BYTES_A_PIXEL, FrameHead, NutError, NutReader
from contract.video.probe import FileInfo, probe

FILE_LIMIT_S = 60.0  # for one picture of a file: a damaged stretch may be long, a disk slow
MOST_GAP_S = 3600.0  # a longer one between two pictures of a file is a damaged time, not a gap


class DecoderDiedError(PeerError):
    """The child ended by a signal: a crash, or somebody killed it."""


class RefusedError(PeerError):
    """The camera wants another user or password: trying again soon may lock the user out."""


class SizeChangedError(PeerError):
    """The pictures have another size from here on; a new child gives them."""


@dataclass(frozen=True)
class Picture:
    """``pixels``: height x width x 3, uint8, BGR, upright. ``time_s``: the source's own time, from its start.

    ``number``: from 0, of a file as its container counts, so that a picture that is damaged keeps its number.
    ``large``: the same moment in more detail, from a source that gives both.
    """

    pixels: Image
    time_s: float
    number: int
    large: Image | None = None


class VideoReader:
    """Reads ``source``, of which ``info`` is known when it is a file; one thread reads, any may ``kill``.

    ``lost``: how many pictures of a file were too damaged to be given.
    """

    def __init__(self, source: VideoInput, info: FileInfo | None = None) -> None:
        self.name = source.name
        self.info = info
        self._rows = MARKED_ROWS if source.resizes else 0
        self._child = Child(command(source), source.words)
        self._nut = NutReader(self._exactly)
        self._until_s = 0.0
        self._begun = False
        self._last: tuple[int, float] | None = None  # number and time of a picture; the picture is megabytes
        self._told = 0  # complaints that lost pictures came of
        self.lost = 0

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; (0, 0) before the first picture."""
        return self._nut.width, max(0, self._nut.height - self._rows)

    @property
    def fps(self) -> float:
        """Pictures a second, as a file states it; 0 for anything else."""
        return self.info.fps if self.info else 0.0

    @property
    def said(self) -> Complaints:
        """What the decoder complained about so far."""
        return self._child.said

    def begin(self, limit_s: float) -> bool:
        """Wait until the first picture is about to come: afterwards ``size`` is known. False: there is none.

        Raises:
            as ``read``.
        """
        self._until_s = time.monotonic() + limit_s
        try:
            self._begun = self._begun or self._nut.begin()
        except NutError as error:
            return self._broken(error)
        return self._begun or self._broken(None)

    def read(self, limit_s: float) -> Picture | None:
        """Return the next picture; None at the end, and after ``kill``.

        Raises:
            StalledError: none came within ``limit_s``.
            DecoderDiedError, SizeChangedError: a new child may go on.
            InputError: a file that cannot be read (on).
            RefusedError, PeerError: a camera that refuses, or hung up.
        """
        if not self.begin(limit_s):
            return None
        try:
            head = self._nut.next_frame()
            if head is None:
                self._broken(None)
                return None
            picture = self._picture(head)
        except NutError as error:
            self._broken(error)
            return None
        self._last = (picture.number, picture.time_s)
        return picture

    def kill(self) -> None:
        """End the child; a ``read`` under way returns None."""
        self._child.kill()

    def close(self) -> None:
        """End the child and let go of it."""
        self._child.close()

    def _exactly(self, count: int) -> bytes:
        buffer = bytearray(count)
        filled = self._child.read_into(memoryview(buffer), self._until_s)
        return bytes(buffer[:filled])

    def _picture(self, head: FrameHead) -> Picture:
        width, height = self._nut.width, self._nut.height
        if len(head.prefix) + head.size != width * height * BYTES_A_PIXEL:
            raise SizeChangedError(f"{self.name}: pictures are {self.size[0]}x{self.size[1]} no more")
        pixels = np.empty((height, width, BYTES_A_PIXEL), np.uint8)
        flat = pixels.data.cast("B")
        flat[: len(head.prefix)] = head.prefix
        if self._child.read_into(flat[len(head.prefix) :], self._until_s) < head.size:
            raise NutError("the pictures end in the middle of one")
        return Picture(pixels[: height - self._rows], head.time_s, self._number(head.time_s))

    def _number(self, time_s: float) -> int:
        """Return the number of a picture: one more, and after damage what its time says of how many were lost."""
        if self._last is None:
            return 0
        number, before_s = self._last
        step_s = time_s - before_s
        if self.info is None or self.said.count == self._told or not 0 < step_s <= MOST_GAP_S:
            return number + 1
        lost = max(0, round(step_s * self.info.fps) - 1)
        self._told = self.said.count if lost else self._told  # a gap without damage is a rate that varies
        self.lost += lost
        return number + 1 + lost

    def _broken(self, error: NutError | None) -> bool:
        """Return False when the pictures have ended in order, or were ended by ``kill``; else raise why."""
        code = self._child.end()
        if self._child.killed:
            return False
        if code < 0:
            raise DecoderDiedError(f"{self.name}: the decoder ended by {_signal_name(code)}") from error
        if self.info is None:
            if self.said.refused and not self._last:
                raise RefusedError(f"{self.name}: it refuses the user or the password: {self._why(code)}") from error
            raise PeerError(f"{self.name}: {self._why(code)}") from error
        if code or error:
            at = f"not after picture {self._last[0]}" if self._last else "not a video that can be read"
            raise InputError(f"{self.name}: {at} ({self._why(code)})") from error
        return False

    def _why(self, code: int) -> str:
        if self._last and not code:
            return "the connection ended"
        return self.said.first or (f"ffmpeg ended with {code}" if code else "it gave no picture")


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def open_video(path: Path) -> VideoReader:
    """Open a video file at its beginning.

    Raises:
        InputError: not a video that can be read; the text names the file.
        PeerError: the decoder died on it.
    """
    info = probe(path)
    reader = VideoReader(file_input(path, interlaced=info.interlaced), info)
    try:
        if not reader.begin(FILE_LIMIT_S):
            raise InputError(f"{path}: not a video that can be read: not one picture in it")
    except BaseException:
        reader.close()
        raise
    return reader


def pictures(path: Path) -> Iterator[Picture]:
    """Return the pictures of a video file, to its end.

    Raises:
        as ``open_video`` and ``VideoReader.read``.
    """
    with open_video(path) as reader:
        while (picture := reader.read(FILE_LIMIT_S)) is not None:
            yield picture
