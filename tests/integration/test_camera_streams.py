"""Cameras on loopback absent, killed, paused, frozen or of garbage: always back, and nothing is left over."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.camera.camera import Camera, open_camera
from agent.camera.frame import Frame
from agent.camera.settings import CameraSettings
from agent.camera.state import CameraState
from tests.camera_servers import SIDEWAYS, SIZE, CameraServer

NOTICED_S, BACK_S = 10.0, 15.0
SECRET = ("cam", "p@ss:w/rd#1?% 'x'")
QUICK = {"stalled_s": 0.5, "give_up_s": 1.0}


class Watched:
    """A camera that is read all the time, as the main loop does."""

    def __init__(self, url: str, credentials: tuple[str, str] = ("", ""), **settings: float) -> None:
        self.states: list[CameraState] = []
        self.waits = 0
        self._frames: list[Frame] = []
        self._news = threading.Condition()
        asked = CameraSettings(url, *credentials, **settings)  # type: ignore[arg-type]
        self.camera: Camera = open_camera(asked, lambda status: self.states.append(status.state))
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.camera.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

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


@pytest.fixture(params=["http", "rtsp"])
def server(request: pytest.FixtureRequest) -> Iterator[CameraServer]:
    with CameraServer(request.param, credentials=SECRET) as running:
        yield running


@pytest.fixture
def mjpeg() -> Iterator[CameraServer]:
    with CameraServer() as running:
        yield running


def test_a_stream_gives_pictures_by_a_password_with_any_signs_that_nobody_sees(
    server: CameraServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Watched(server.url, SECRET) as watched:
        frame = watched.live()
        assert frame.image.shape == (SIZE[1], SIZE[0], 3)
        commands = [read(f"/proc/{pid}/cmdline") for pid in children()]
        assert any("ffmpeg" in command for command in commands)
        assert not any("p%40ss" in command or SECRET[1] in command for command in commands if "concat" in command)
    assert "p%40ss" not in caplog.text


def test_a_wrong_password_is_said(mjpeg: CameraServer) -> None:
    with CameraServer(credentials=SECRET) as locked, Watched(locked.url, ("cam", "other")) as watched:
        watched.state(CameraState.LOST)
        assert "401" in watched.camera.status.reason


def test_a_killed_camera_is_lost_and_comes_back(server: CameraServer) -> None:
    with Watched(server.url, SECRET) as watched:
        watched.live()
        server.kill()
        watched.state(CameraState.LOST)
        server.start()
        watched.live()
        assert watched.states == [CameraState.LIVE, CameraState.LOST, CameraState.LIVE]


def test_a_paused_camera_is_stalled_let_go_of_and_comes_back(server: CameraServer) -> None:
    with Watched(server.url, SECRET, **QUICK) as watched:
        watched.live()
        server.pause()
        watched.state(CameraState.STALLED)
        watched.state(CameraState.LOST)
        server.resume()
        watched.live()


def test_an_absent_camera_is_waited_for() -> None:
    server = CameraServer()
    with Watched(server.url) as watched:
        watched.state(CameraState.LOST)
        with server:
            watched.live()
    assert watched.waits


@pytest.mark.parametrize("shows", ["garbage", "silent", "hangup"])
def test_what_is_no_picture_is_noticed_and_gone_when_pictures_come(mjpeg: CameraServer, shows: str) -> None:
    with Watched(mjpeg.url, **QUICK) as watched:
        watched.live()
        mjpeg.show(shows)
        watched.state(CameraState.LOST)
        mjpeg.show("live")
        watched.live()


@pytest.mark.parametrize("state", [CameraState.FROZEN, CameraState.BLACK])
def test_pictures_without_worth_are_noticed_and_count_as_not_live(mjpeg: CameraServer, state: CameraState) -> None:
    with Watched(mjpeg.url) as watched:
        watched.live()
        mjpeg.show(state.value)
        watched.until(lambda frame: not frame.live, 5.0)
        watched.state(state)
        mjpeg.show("live")
        watched.live()
        watched.state(CameraState.LIVE)


def test_a_size_that_changes_or_is_turned_gives_whole_pictures_of_the_new_size(mjpeg: CameraServer) -> None:
    with Watched(mjpeg.url) as watched:
        watched.live()
        for width, height in (SIDEWAYS, (200, 100), SIZE):
            mjpeg.show(f"{width}x{height}")
            shape = (height, width, 3)
            frame = watched.until(lambda frame, shape=shape: frame.image.shape == shape, BACK_S)  # type: ignore[misc]
            assert frame.image.std() > 20


def test_twenty_reconnects_leave_no_thread_descriptor_or_child(mjpeg: CameraServer) -> None:
    with Watched(mjpeg.url) as watched:
        watched.live()
        before = (threading.active_count(), descriptors(), len(children()))
        for _ in range(20):
            known = children()
            kill_all(known)
            watched.until(lambda frame, old=known: frame.live and children() not in ([], old), BACK_S)  # type: ignore[misc]
        after = (threading.active_count(), descriptors(), len(children()))
        assert after == before
    assert children() == []


def children() -> list[int]:
    """Return the decoders that this process has started and that live."""
    text = ""
    for task in Path("/proc/self/task").iterdir():
        text += " " + read(f"{task}/children")
    found = {int(pid) for pid in text.split()}
    return sorted(pid for pid in found if "nut" in read(f"/proc/{pid}/cmdline").split("\0"))


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, 9)


def read(path: str) -> str:
    """Return what a file of /proc says, or nothing when its process is gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
