"""agent.camera.camera: pacing, dropping, ends, loops, stalls and files that are no video."""

import itertools
import logging
import threading
from pathlib import Path

import cv2
import pytest

from agent.camera.camera import Camera, CameraSettings, open_camera
from contract.config import load_config
from contract.errors import ConfigError, InputError, PeerError
from tests.vision_scenes import ScriptedCapture, number_of, numbered, write_video


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "numbers.avi", numbered(20))


def test_pace_0_gives_every_frame_in_order_however_late_the_consumer(video: Path) -> None:
    pause = threading.Event()
    with open_camera(CameraSettings(str(video), pace=0)) as camera:
        seen = []
        for frame in camera:
            pause.wait(0.005)
            seen.append((number_of(frame.image), frame.index, frame.sequence))
        assert seen == [(n, n, n) for n in range(20)]
        assert camera.dropped == 0


def test_a_paced_file_takes_its_time(video: Path) -> None:
    with open_camera(CameraSettings(str(video), pace=4)) as camera:
        times = [frame.time_s for frame in camera]
    assert times[-1] - times[0] >= 0.9 * (len(times) - 1) / 40


def test_a_late_consumer_of_a_paced_file_misses_frames_and_they_are_counted(video: Path) -> None:
    with open_camera(CameraSettings(str(video), pace=20)) as camera:
        frames = []
        for frame in camera:
            frames.append(frame)
            threading.Event().wait(0.03)
        assert camera.dropped > 0
        assert len(frames) + camera.dropped == 20
    assert frames[-1].sequence == 19, "the last frame waits for the consumer"
    assert [number_of(frame.image) for frame in frames] == [frame.index for frame in frames]


def test_a_loop_begins_again_with_index_0_and_counts_loops(video: Path) -> None:
    with open_camera(CameraSettings(str(video), pace=0, loop=True)) as camera:
        frames = list(itertools.islice(camera, 45))
    assert [frame.index for frame in frames] == [n % 20 for n in range(45)]
    assert [frame.sequence for frame in frames] == list(range(45))
    assert [frame.loop_count for frame in frames] == [n // 20 for n in range(45)]
    assert number_of(frames[20].image) == 0


def test_stop_ends_the_iteration_from_another_thread(video: Path) -> None:
    with open_camera(CameraSettings(str(video), pace=0, loop=True)) as camera:
        timer = threading.Timer(0.05, camera.stop)
        timer.start()
        assert sum(1 for _ in camera) > 0
        timer.join()


def test_a_loop_whose_file_vanished_ends_with_an_error(video: Path) -> None:
    with open_camera(CameraSettings(str(video), pace=0, loop=True)) as camera:
        frames = iter(camera)
        next(frames)
        video.unlink()
        with pytest.raises(InputError, match=r"numbers\.avi"):
            list(frames)


@pytest.mark.parametrize("content", [b"these are words, no video\n" * 100, bytes(5000), b"RIFF0000AVI junk"])
@pytest.mark.parametrize("name", ["video.avi", "video.txt", "video"])
def test_a_file_that_is_no_video_is_named(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: not a video"):
        open_camera(CameraSettings(str(path)))


def test_opencv_adds_no_line_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "video.avi"
    path.write_bytes(bytes(range(256)) * 400)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    with pytest.raises(InputError, match="not a video"):
        open_camera(CameraSettings(str(path)))
    with pytest.raises(PeerError, match="does not open"):
        open_camera(CameraSettings("/dev/null"))
    assert capfd.readouterr() == ("", "")


def test_missing_empty_folder_device_and_stream_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.avi").touch()
    cases = {
        str(tmp_path / "none.avi"): "No such file",
        str(tmp_path / "empty.avi"): "empty",
        str(tmp_path): "not a file",
        "/dev/video987": "no such camera",
        "rtsp://user:secret@camera/1": "network streams are not supported",
    }
    for source, text in cases.items():
        with pytest.raises(InputError, match=text) as caught:
            open_camera(CameraSettings(source))
        assert "secret" not in str(caught.value)


def test_a_device_that_is_no_camera_is_a_peer_that_fails() -> None:
    with pytest.raises(PeerError, match="does not open"):
        open_camera(CameraSettings("/dev/null"))


@pytest.mark.parametrize("then", ["nothing", "hang"])
def test_a_camera_that_stalls_is_told_and_then_given_up(then: str, caplog: pytest.LogCaptureFixture) -> None:
    capture = ScriptedCapture(numbered(1), then)
    settings = CameraSettings("/dev/video0", stalled_s=0.05, give_up_s=0.15)
    with caplog.at_level(logging.INFO, "agent.camera"), Camera(capture, settings) as camera:
        frames = iter(camera)
        next(frames)
        with pytest.raises(PeerError, match="/dev/video0: no frame for"):
            next(frames)
        capture.free.set()
    assert [record.message.split()[0] for record in caplog.records] == ["camera.stalled"]
    assert capture.released.wait(5), "the reader lets go of the device"


def test_a_reader_that_dies_is_a_camera_that_failed_not_a_video_that_ended(caplog: pytest.LogCaptureFixture) -> None:
    with Camera(ScriptedCapture(numbered(1), "fault"), CameraSettings("/dev/video0")) as camera:
        frames = iter(camera)
        with pytest.raises(PeerError, match="/dev/video0: ZeroDivisionError: a fault"):
            list(frames)
    assert [record.message for record in caplog.records] == ["camera.fault"]


def test_a_device_numbers_index_as_sequence() -> None:
    capture = ScriptedCapture(numbered(3))
    with Camera(capture, CameraSettings(give_up_s=0.2, stalled_s=0.1)) as camera:
        last = next(frame for frame in camera if frame.sequence == 2)
    assert last.index == 2


def test_the_settings_are_strict(tmp_path: Path) -> None:
    for text in ('source=""', "pace=-1.0", "stalled_s=50.0", "speed=3"):
        path = tmp_path / "camera.toml"
        path.write_text(text)
        with pytest.raises(ConfigError):
            load_config(path, CameraSettings)
