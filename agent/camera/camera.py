"""Owns frames in order from a source that may fail: numbers, a slot of one, and the end. Refuses to decode.

A thread reads, and the newest frame waits in a slot of one: a consumer that is late misses frames, as with any live
camera, and they are counted. A file ends; a stream or device never does: absent, hung, hung up on or without a
picture worth the name, it is let go of and begun anew, for ever and with pauses, while the consumer is told that time
passes.
What ends the program is a file's end or damage alone.

Tried with files, with RTSP and HTTP servers on the same machine, and with GStreamer's test pictures. No V4L2 device,
CSI camera or Jetson was at hand: they should work as written.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from agent.camera.connections import Connections
from agent.camera.file_pictures import file_pictures
from agent.camera.frame import Frame, FrameSource
from agent.camera.live_pictures import LivePictures
from agent.camera.picture_check import PictureCheck
from agent.camera.settings import CameraSettings, SourceKind
from agent.camera.sources import DECODED, Opener, opener
from agent.camera.state import CameraState, CameraStatus, StateTeller
from contract.errors import KinwatchError, PeerError, one_line
from contract.video.reader import Picture
from contract.video.version import check_ffmpeg

logger = logging.getLogger("agent.camera")
WAIT_S = 1.0  # between two words to a consumer that time passes
END_LIMIT_S = 5.0  # for the reader's thread, after its child was killed


class Camera:
    """Frames, one by one: iterate over it, within ``with``.

    ``pictures`` counts what the source gave; ``dropped`` those of them that came too early for whoever iterates;
    ``damaged`` those of a file that could not be given.

    ``open_source`` is called again after each failure, and for each loop of a file; ``first`` is open already.
    ``on_state`` hears of each change of ``status``, from any thread.
    """

    def __init__(
        self,
        open_source: Opener,
        settings: CameraSettings,
        *,
        first: FrameSource | None = None,
        on_state: Callable[[CameraStatus], None] = lambda status: None,
    ) -> None:
        self._settings = settings
        self._is_file = settings.kind is SourceKind.FILE
        self._drops = not self._is_file or settings.pace > 0
        self._connections = Connections(open_source, settings.shown, first)
        self._teller = StateTeller(settings.shown, on_state)
        self._check = PictureCheck(settings.frozen_s)
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._next = (0, 0)  # of a file: how often it began again, and the number of the picture to come
        self._ended = False
        self._failure: KinwatchError | None = None
        self.pictures = self.dropped = self.damaged = 0
        self._thread = threading.Thread(target=self._read_all, name="camera", daemon=True)

    def __enter__(self) -> "Camera":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join(END_LIMIT_S)
        self._connections.close()

    @property
    def status(self) -> CameraStatus:
        """Where the camera stands."""
        return self._teller.status

    @property
    def restarts(self) -> int:
        """How often the source was begun anew; of a file, its loops."""
        return max(0, self._connections.count - 1)

    def stop(self) -> None:
        """End the iteration; may be called from any thread."""
        self._connections.end()
        with self._changed:
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Frame]:
        """Return frames until the file ends or ``stop``; raises as ``frames_or_waits``."""
        return (frame for frame in self.frames_or_waits() if frame is not None)

    def frames_or_waits(self) -> Iterator[Frame | None]:
        """Return frames until the file ends or ``stop``, and None whenever none came for a second.

        Raises:
            InputError: the file cannot be read on, or vanished between two loops.
            PeerError: the decoder died on the same place of a file, time and again.
        """
        last_s = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                frame = self._take()
                if frame is None:
                    break
                last_s = time.monotonic()
                yield frame
                continue
            if not self._is_file and time.monotonic() - last_s > self._settings.stalled_s:
                self._teller.change(CameraState.STALLED, "no picture comes", self._connections.count - 1)
            yield None
        if self._failure is not None and not self._connections.over:
            raise self._failure

    def _take(self) -> Frame | None:
        """Return the frame that waits, or None at the end; TimeoutError when none came for a while."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._ended or self._connections.over, WAIT_S):
                raise TimeoutError
            frame, self._waiting = self._waiting, None
            self._changed.notify_all()
        return None if self._connections.over else frame

    # --- the reader's thread ----------------------------------------------------------------------------------------

    def _read_all(self) -> None:
        try:
            for sequence, (loop, picture) in enumerate(self._pictures()):
                self._put(self._frame(sequence, loop, picture))
        except KinwatchError as error:
            self._failure = error
        except Exception as error:  # without a failure the end of this thread would look like the end of the video
            logger.exception("camera.fault")
            self._failure = PeerError(f"{self._settings.shown}: {type(error).__name__}: {one_line(error)}")
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _pictures(self) -> Iterator[tuple[int, Picture]]:
        """Return each picture with how often the file began again."""
        if self._is_file:
            return file_pictures(self._connections, pace=self._settings.pace, loop=self._settings.loop)
        give_up_s = self._settings.give_up_s
        live = LivePictures(self._connections, self._teller, self._check, give_up_s=give_up_s)
        return ((0, picture) for picture in live)

    def _frame(self, sequence: int, loop: int, picture: Picture) -> Frame:
        now = time.monotonic()
        self.pictures += 1
        self._check.look(picture.pixels, now)
        if self._is_file:
            self._teller.change(CameraState(self._check.state))
            self.damaged += max(0, picture.number - self._next[1]) if self._next[0] == loop else picture.number
            self._next = (loop, picture.number + 1)
        index = picture.number if self._is_file else sequence
        live = self._check.live(now)
        return Frame(picture.pixels, index, sequence, now, loop, picture.time_s, live, picture.large)

    def _put(self, frame: Frame) -> None:
        with self._changed:
            while not self._drops and self._waiting is not None and not self._connections.over:
                self._changed.wait()
            self.dropped += self._waiting is not None and not self._connections.over
            self._waiting = frame
            self._changed.notify_all()


def open_camera(settings: CameraSettings, on_state: Callable[[CameraStatus], None] = lambda status: None) -> Camera:
    """Open what ``settings.source`` names. A stream or device may be absent: it is waited for, once frames are read.

    Raises:
        InputError: no such file, an empty file, or a file that is no video; or ffmpeg is needed, and none
            or an older one is installed.
        PeerError: the decoder died on the file.
    """
    if settings.kind in DECODED:
        check_ffmpeg()
    open_source = opener(settings)
    first = open_source() if settings.kind is SourceKind.FILE else None
    return Camera(open_source, settings, first=first, on_state=on_state)
