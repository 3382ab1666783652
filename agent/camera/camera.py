"""Owns where frames come from: a video file paced like a live camera, or a V4L2 device. Refuses network streams yet.

A thread reads, and the newest frame waits in a slot of one: a consumer that is late misses frames, as with any live
camera, and they are counted. Reading can hang for good inside a driver, so the consumer waits with a limit: first the
event ``camera.stalled``, then PeerError, which ends the program so that the service manager starts it afresh.

Tried with files and with a simulated device. No V4L2 and no CSI camera was at hand: USB cameras should work as
written; CSI cameras do not work through V4L2 (they need libcamera) and are untested.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from contract.errors import InputError, KinwatchError, PeerError, one_line
from contract.events import log_event
from contract.preprocess import Image

logger = logging.getLogger("agent.camera")
RETRY_S = 0.1  # between two reads of a device that gave nothing
UNKNOWN_FPS = 25.0  # for a file that does not say


@dataclass(frozen=True)
class CameraSettings:
    """Where frames come from. ``width``, ``height`` and ``fps`` are wishes to a device; 0 leaves them to it."""

    source: str = "/dev/video0"  # or a video file
    pace: float = 1.0  # files only: times real time; 0 is as fast as the consumer takes them, none dropped
    loop: bool = False  # files only
    width: int = 0
    height: int = 0
    fps: float = 0.0
    stalled_s: float = 5.0  # without a frame for so long, say so
    give_up_s: float = 30.0  # and then end

    def __post_init__(self) -> None:
        """Refuse what no camera can do."""
        if not self.source:
            raise ValueError("source must not be empty")
        if not 0 <= self.pace <= 1000:
            raise ValueError("pace must be from 0 to 1000")
        if self.width < 0 or self.height < 0 or not 0 <= self.fps <= 1000:
            raise ValueError("width, height and fps must not be negative, fps not over 1000")
        if not 0 < self.stalled_s <= self.give_up_s:
            raise ValueError("stalled_s must be above 0 and at most give_up_s")


@dataclass(frozen=True)
class Frame:
    """One picture.

    ``image``: height x width x 3, uint8, BGR. ``index``: number in the file, from 0 (of a device: as ``sequence``).
    ``sequence``: number since the camera opened, over all loops, dropped frames counted. ``time_s``: when it was
    read, monotonic. ``loop_count``: how often the file began again.
    """

    image: Image
    index: int
    sequence: int
    time_s: float
    loop_count: int = 0


class Capture(Protocol):
    """What is needed of ``cv2.VideoCapture``."""

    def read(self) -> tuple[bool, Any]:
        """Return (True, image) or (False, anything)."""

    def release(self) -> None:
        """Let go of the device or file."""


class Camera:
    """Frames, one by one: iterate over it, within ``with``. ``dropped`` counts frames that came too early.

    ``open_again`` gives the file from its beginning, for a loop; None for a device. ``interval_s`` is the time
    between two frames of a file (0: no pace).
    """

    def __init__(
        self,
        capture: Capture,
        settings: CameraSettings,
        *,
        interval_s: float = 0.0,
        open_again: Callable[[], Capture] | None = None,
    ) -> None:
        self._settings = settings
        self._capture = capture
        self._open_again = open_again
        self._interval_s = interval_s
        self._live = open_again is None
        self._drops = self._live or interval_s > 0
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._ended = False
        self._failure: KinwatchError | None = None
        self._stop = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._read_all, name="camera", daemon=True)

    def __enter__(self) -> "Camera":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        # A read that hangs in a driver cannot be ended; the thread is a daemon and dies with the program.
        self._thread.join(timeout=2.0)

    def stop(self) -> None:
        """End the iteration; may be called from any thread."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Frame]:
        """Return frames until the file ends or ``stop``.

        Raises:
            PeerError: the camera gave no frame for ``give_up_s``.
            InputError: the file vanished between two loops.
        """
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        slow_s = 3 * self._interval_s  # a file at a hundredth of its pace is not stalled
        limits = iter((max(self._settings.stalled_s, slow_s), max(self._settings.give_up_s, slow_s)))
        begin, limit_s, warned = time.monotonic(), next(limits), False
        with self._changed:
            while self._waiting is None and not self._ended and not self._stop.is_set():
                if self._changed.wait(begin + limit_s - time.monotonic()):
                    continue
                waited_s = time.monotonic() - begin
                if warned:
                    raise PeerError(f"{self._settings.source}: no frame for {waited_s:.0f} s")
                log_event(logger, "camera.stalled", logging.WARNING, source=self._settings.source, seconds=waited_s)
                warned, limit_s = True, next(limits)
            frame, self._waiting = self._waiting, None
            self._changed.notify_all()
        if self._stop.is_set():
            return None
        if frame is None and self._failure is not None:
            raise self._failure
        return frame

    # --- the reader's thread ----------------------------------------------------------------------------------------

    def _read_all(self) -> None:
        try:
            self._read_loops()
        except KinwatchError as error:
            self._failure = error
        except (cv2.error, OSError) as error:
            self._failure = PeerError(f"{self._settings.source}: {one_line(error)}")
        except Exception as error:  # without a failure the end of this thread would look like the end of the video
            logger.exception("camera.fault")
            self._failure = PeerError(f"{self._settings.source}: {type(error).__name__}: {one_line(error)}")
        finally:
            self._capture.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _read_loops(self) -> None:
        sequence = loop = 0
        due_s = time.monotonic()
        while not self._stop.is_set():
            index = 0
            for image in self._images():
                due_s = self._wait_until(due_s)
                number = sequence if self._live else index
                self._put(Frame(image, number, sequence, time.monotonic(), loop))
                sequence, index = sequence + 1, index + 1
            if self._open_again is None or not self._settings.loop or self._stop.is_set():
                return
            if index == 0:
                raise InputError(f"{self._settings.source}: not one frame in it any more")
            self._capture.release()
            self._capture = self._open_again()
            loop += 1

    def _images(self) -> Iterator[Image]:
        """Return images until the file ends; a device that gives none is asked again."""
        while not self._stop.is_set():
            good, image = self._capture.read()
            if good:
                yield np.asarray(image, np.uint8)
            elif not self._live:
                return
            else:
                self._stop.wait(RETRY_S)

    def _wait_until(self, due_s: float) -> float:
        """Wait for a frame's time and return the next one's. A slow decoder slows the file; it never rushes after."""
        if not self._interval_s:
            return due_s
        now = time.monotonic()
        if due_s > now:
            self._stop.wait(due_s - now)
        return max(due_s, now) + self._interval_s

    def _put(self, frame: Frame) -> None:
        with self._changed:
            while not self._drops and self._waiting is not None and not self._stop.is_set():
                self._changed.wait()
            self.dropped += self._waiting is not None and not self._stop.is_set()
            self._waiting = frame
            self._changed.notify_all()


def open_camera(settings: CameraSettings) -> Camera:
    """Open what ``settings.source`` names; a source below /dev is a V4L2 device, any other a video file.

    Raises:
        InputError: no such file or device, an empty file, a file that is no video, or a network stream.
        PeerError: the device is there and does not open (busy, no permission).
    """
    source = settings.source
    if "://" in source:
        scheme = source.split("://")[0]  # the rest may hold a password
        raise InputError(
            f"camera source {scheme}://...: network streams are not supported, only files and /dev/videoN"
        )
    if Path(source).is_relative_to("/dev"):
        return Camera(_open_device(settings), settings)
    capture, fps = _open_file(source)
    interval_s = 1 / (fps * settings.pace) if settings.pace else 0.0
    return Camera(capture, settings, interval_s=interval_s, open_again=lambda: _open_file(source)[0])


def _open_file(source: str) -> tuple[cv2.VideoCapture, float]:
    """Open a video file, at its beginning; return it with its frames per second."""
    path = Path(source)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{source}: {error.strerror}") from error
    if not path.is_file():
        raise InputError(f"{source}: not a file")
    if size == 0:
        raise InputError(f"{source}: the file is empty")
    if _is_text(path):
        raise InputError(f"{source}: not a video but text")  # which FFmpeg would play, as on a terminal
    _silence_opencv()
    # Named, or OpenCV tries others in turn and takes a numbered picture for a video.
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
    if not capture.isOpened() or not capture.grab():
        capture.release()
        raise InputError(f"{source}: not a video that can be read")
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()  # its first frame is taken; seeking back is not exact in every container, opening again is
    known = math.isfinite(fps) and 0 < fps <= 1000
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG), fps if known else UNKNOWN_FPS


def _silence_opencv() -> None:
    """Keep OpenCV's warnings off stderr: what is wrong with a source is said once, by us."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def _is_text(path: Path) -> bool:
    """Return whether a file begins as text does: UTF-8 without control characters, which every container has."""
    try:
        with path.open("rb") as file:
            start = file.read(1024)[:-4]  # the last character may be cut
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    try:
        text = start.decode()
    except UnicodeDecodeError:
        return False
    return bool(text) and all(character.isprintable() or character in "\t\r\n\x0c\x1b" for character in text)


def _open_device(settings: CameraSettings) -> cv2.VideoCapture:
    if not Path(settings.source).exists():
        raise InputError(f"{settings.source}: no such camera (is it plugged in?)")
    _silence_opencv()
    capture = cv2.VideoCapture(settings.source, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise PeerError(f"{settings.source}: the camera does not open: in use, or no permission, or no camera")
    wishes = {
        cv2.CAP_PROP_FRAME_WIDTH: settings.width,
        cv2.CAP_PROP_FRAME_HEIGHT: settings.height,
        cv2.CAP_PROP_FPS: settings.fps,
        cv2.CAP_PROP_BUFFERSIZE: 1,  # old frames in a driver's queue are of no use
    }
    for key, value in wishes.items():
        if value:
            with contextlib.suppress(cv2.error):  # a wish: not every driver knows every one
                capture.set(key, value)
    return capture
