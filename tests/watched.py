"""Owns a camera that is read all the time, as the main loop does, and what it has left in this process."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent.camera.camera import Camera
from agent.camera.frame import Frame
from agent.camera.settings import CameraSettings
from agent.camera.sources import Opener, opener
from agent.camera.state import CameraState, CameraStatus

NOTICED_S, BACK_S = 10.0, 15.0
QUICK = {"stalled_s": 0.5, "give_up_s": 1.0}


class Watched:
    """A camera that is read all the time, as the main loop does."""

    def __init__(
        self,
        source: str,
        credentials: tuple[str, str] = ("", ""),
        open_source: Opener | None = None,
        **settings: float | str,
    ) -> None:
        self.states: list[CameraState] = []
        self.waits = 0
        self._frames: list[Frame] = []
        self._news = threading.Condition()
        asked = CameraSettings(source, *credentials, **settings)  # type: ignore[arg-type]
        self.camera = Camera(open_source or opener(asked), asked, on_state=self._told)
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.camera.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _told(self, status: CameraStatus) -> None:
        self.states.append(status.state)

    def _watch(self) -> None:
        with self.camera:
            for frame in self.camera.frames_or_waits():
                with self._news:
                    self._frames = [frame] if frame else self._frames
                    self.waits += frame is None
                    self._news.notify_all()

    def until(self, wanted: Callable[[Frame], bool], limit_s: float) -> Frame:
        """Wait for a frame that is ``wanted``, of those after now; return it."""
        begin_s = time.monotonic()
        with self._news:
            found = self._news.wait_for(
                lambda: self._frames and self._frames[0].time_s > begin_s and wanted(self._frames[0]), limit_s
            )
            assert found, f"not within {limit_s} s: {self.camera.status}"
            return self._frames[0]

    def live(self, limit_s: float = BACK_S) -> Frame:
        """Wait for a live frame."""
        return self.until(lambda frame: frame.live, limit_s)

    def state(self, wanted: CameraState, limit_s: float = NOTICED_S) -> None:
        """Wait until the camera has been told to be in the state ``wanted``."""
        with self._news:
            assert self._news.wait_for(lambda: self.camera.status.state is wanted, limit_s), self.camera.status


def children_of(word: str) -> list[int]:
    """Return the children of this process that live and have ``word`` in their command line."""
    text = ""
    for task in Path("/proc/self/task").iterdir():
        text += " " + read(f"{task}/children")
    return sorted(pid for pid in {int(pid) for pid in text.split()} if word in read(f"/proc/{pid}/cmdline"))


def children() -> list[int]:
    """Return the decoders that this process has started and that live."""
    return children_of("\0nut\0")


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def kill_all(pids: list[int]) -> None:
    """End them at once."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def stop_all(pids: list[int]) -> None:
    """Stop them as they are."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def read(path: str) -> str:
    """Return what a file of /proc says, or nothing when its process is gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
