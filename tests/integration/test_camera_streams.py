"""Cameras on loopback absent, killed, paused, frozen or of garbage: always back, and nothing is left over."""

import threading
from collections.abc import Iterator

import pytest

from agent.camera.state import CameraState
from tests.camera_servers import SIDEWAYS, SIZE, CameraServer
from tests.watched import BACK_S, QUICK, Watched, children, descriptors, kill_all, read

SECRET = ("cam", "p@ss:w/rd#1?% 'x'")


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
