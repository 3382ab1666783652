"""Cameras on loopback absent, killed, paused, frozen or of garbage: always back, and nothing is left over."""

import logging
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a certificate of 127.0.0.1 that nobody else vouches for."""
    path = tmp_path_factory.mktemp("tls") / "it's a camera.pem"
    asked = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj /CN=127.0.0.1"
    names = "subjectAltName=IP:127.0.0.1"
    made = subprocess.run(
        ["openssl", "req", "-x509", *asked.split(), "-addext", names, "-keyout", "-", "-out", "-"],
        capture_output=True,
        check=True,
    )
    path.write_bytes(made.stdout)
    return path


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
@pytest.mark.parametrize("kind", ["http", "https", "rtsp", "rtsps"])
def test_a_password_with_any_signs_opens_a_camera_and_is_seen_nowhere(
    kind: str, scheme: str, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pem = certificate if kind.endswith("s") else None
    with CameraServer(kind, credentials=SECRET, scheme=scheme, certificate=pem) as server:
        with Watched(server.url, SECRET) as watched:
            frame = watched.live()
            assert frame.image.shape == (SIZE[1], SIZE[0], 3)
            decoders = children()
            seen = [read(f"/proc/{pid}/{name}") for pid in decoders for name in ("cmdline", "environ")]
            told = repr(watched.camera.status)
        assert len(decoders) == 1
        assert not any(secret in text for secret in (SECRET[1], "p%40ss") for text in (*seen, told, caplog.text))


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_a_wrong_password_is_refused_in_one_event_and_not_tried_again_at_once(
    kind: str, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        CameraServer(kind, credentials=SECRET, scheme=scheme) as locked,
        Watched(locked.url, ("cam", "hush")) as watched,
    ):
        watched.state(CameraState.REFUSED)
        reason = watched.camera.status.reason
        assert reason.startswith(f"{locked.url}: it refuses the user or the password: ")
        assert "401" in reason
        assert watched.camera.restarts == 0
    refusals = [record.message for record in caplog.records if record.message.startswith("camera.refused")]
    assert len(refusals) == 1
    assert "hush" not in caplog.text


def test_with_ca_a_camera_that_nobody_vouches_for_is_lost_and_gets_no_password(certificate: Path) -> None:
    with CameraServer("https", credentials=SECRET, certificate=certificate) as server:
        with Watched(server.url, SECRET, ca=str(certificate)) as watched:
            watched.live()
        with Watched(server.url, SECRET, ca="/etc/ssl/certs/ca-certificates.crt") as watched:
            watched.state(CameraState.LOST)
            assert "certificate" in watched.camera.status.reason


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
