"""CSI cameras up to picamera2, which a stand-in plays; GStreamer pipelines, which run where it is installed."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.camera.csi import csi_source
from agent.camera.csi_program import small_size
from agent.camera.gstreamer import jetson_pipeline
from agent.camera.sources import Opener
from agent.camera.state import CameraState
from tests.watched import BACK_S, QUICK, Watched, children_of, kill_all, stop_all

# As the real one, as far as csi_program.py calls it; rows are padded. A file named after it tells what it does.
PICAMERA2 = """
import pathlib, time
import numpy as np
print("a library prints")
SHOWS = pathlib.Path(__file__).with_name("shows")
class Picamera2:
    @staticmethod
    def global_camera_info():
        return [] if SHOWS.read_text() == "nothing" else [{"Num": 0}]
    def __init__(self, number):
        self.number = number
    def create_video_configuration(self, main, lores, controls):
        assert (main["format"], lores["format"]) == ("RGB888", "YUV420")
        return {"main": main, "lores": lores}
    def configure(self, sizes):
        self.sizes = sizes
    def camera_configuration(self):
        return self.sizes
    def start(self):
        self.count = 0
    def capture_request(self):
        while SHOWS.read_text() == "hang":
            time.sleep(0.02)
        if SHOWS.read_text() == "fail":
            raise RuntimeError("Camera frontend has timed out!")
        time.sleep(0.02)
        self.count += 1
        return Request(self.sizes, self.count)
class Request:
    def __init__(self, sizes, count):
        self.sizes, self.count = sizes, count
    def make_array(self, name):
        width, height = self.sizes[name]["size"]
        noise = np.random.default_rng(self.count)
        if name == "main":
            image = np.zeros((height, width, 3), np.uint8)
            image[:, : width // 2] = (250, 0, 0)
            image[:, width // 2 :] = (0, 0, 250)
            return image + noise.integers(0, 5, image.shape, np.uint8)
        stride = width + 32
        planes = np.full((height * 3 // 2, stride), 77, np.uint8)
        planes[:height, :width] = noise.integers(30, 40, (height, width))
        chroma = planes[height:].reshape(-1, stride // 2)
        chroma[: height // 2, : width // 4], chroma[: height // 2, width // 4 : width // 2] = 235, 110
        chroma[height // 2 :, : width // 4], chroma[height // 2 :, width // 4 : width // 2] = 110, 235
        return planes
    def get_metadata(self):
        return {"SensorTimestamp": self.count * 40_000_000}
    def release(self):
        pass
"""


class PiCamera:
    """A Python with a stand-in for picamera2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "python3"
        self.python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
        self.python.chmod(0o755)
        (folder / "picamera2.py").write_text(PICAMERA2)
        self.show("live")

    def show(self, what: str) -> None:
        """Change what it does: live, hang, fail, nothing."""
        part = self.folder / "shows.part"
        part.write_text(what)
        part.rename(self.folder / "shows")

    def opener(self) -> Opener:
        """Return what opens it."""
        return lambda: csi_source("csi:0", 0, 1280, 720, 25.0, python=str(self.python))


pytestmark = pytest.mark.slow


@pytest.fixture
def pi(tmp_path: Path) -> PiCamera:
    return PiCamera(tmp_path)


def test_a_csi_camera_gives_a_small_and_a_main_picture_of_one_moment(pi: PiCamera) -> None:
    with Watched("csi:0", open_source=pi.opener()) as watched:
        frame = watched.live()
    assert frame.large is not None
    assert frame.image.shape == (360, 640, 3)
    assert frame.large.shape == (720, 1280, 3)
    assert frame.position_s > 0
    for picture in (frame.image, frame.large):
        left, right = (half.reshape(-1, 3).mean(0) for half in np.split(picture, 2, axis=1))
        assert (left.argmax(), right.argmax()) == (0, 2), "blue on the left, red on the right, and no padding between"
    assert frame.image[:, :300].std(axis=(0, 1)).max() < 20


@pytest.mark.parametrize(
    ("shows", "reason"), [("fail", "RuntimeError: Camera frontend has timed out!"), ("nothing", "no CSI camera 0")]
)
def test_a_csi_camera_that_fails_or_is_absent_is_said_in_one_line_and_waited_for(
    pi: PiCamera, shows: str, reason: str
) -> None:
    pi.show(shows)
    with Watched("csi:0", open_source=pi.opener()) as watched:
        watched.state(CameraState.LOST)
        assert watched.camera.status.reason.startswith(f"csi:0: {reason}")
        pi.show("live")
        watched.live()


def test_a_csi_camera_that_hangs_is_killed_and_begun_anew(pi: PiCamera) -> None:
    with Watched("csi:0", open_source=pi.opener(), **QUICK) as watched:
        watched.live()
        known = children_of("csi_program.py")
        pi.show("hang")
        watched.state(CameraState.LOST)
        assert children_of("csi_program.py") != known
        pi.show("live")
        watched.live()
    assert children_of("csi_program.py") == []


def test_without_picamera2_one_line_says_what_to_install(pi: PiCamera) -> None:
    (pi.folder / "picamera2.py").unlink()
    with Watched("csi:0", open_source=pi.opener()) as watched:
        watched.state(CameraState.LOST)
        assert "apt-get install python3-picamera2" in watched.camera.status.reason
        assert "\n" not in watched.camera.status.reason


@pytest.mark.parametrize("main", [(1280, 720), (640, 480), (321, 240), (4056, 3040), (1920, 1080)])
def test_the_small_picture_has_even_sides_and_is_never_larger(main: tuple[int, int]) -> None:
    width, height = small_size(*main)
    assert width <= min(640, main[0])
    assert height <= main[1]
    assert (width % 2, height % 2) == (0, 0)
    assert width / height == pytest.approx(main[0] / main[1], rel=0.02)


# --- GStreamer ---

gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None,
    reason="no GStreamer (180 MB): apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good",
)
LIVE = "gst:videotestsrc is-live=true pattern={} ! video/x-raw,width={},height=240,framerate=20/1"


@gstreamer
def test_a_pipeline_gives_pictures_in_their_colours() -> None:
    with Watched(LIVE.format("smpte", 328)) as watched:
        frame = watched.until(lambda frame: frame.sequence > 2, BACK_S)
    assert frame.image.shape == (240, 328, 3)
    yellow = frame.image[20, 328 * 3 // 14]
    assert yellow[0] < 60 < 150 < yellow[1]
    assert yellow[2] > 150


@gstreamer
@pytest.mark.parametrize("harm", [kill_all, stop_all])
def test_a_pipeline_that_is_killed_or_stopped_comes_back(harm: Callable[[list[int]], None]) -> None:
    with Watched(LIVE.format("snow", 320), **QUICK) as watched:
        watched.live()
        known = children_of("gst-launch-1.0")
        harm(known)
        watched.until(lambda frame: frame.live and children_of("gst-launch-1.0") not in ([], known), BACK_S)
        assert CameraState.LOST in watched.states
    assert children_of("gst-launch-1.0") == []


@gstreamer
@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("nosuchelement", 'no element "nosuchelement"'),
        ("videotestsrc ! video/x-raw,width=324", "324x240: the width must be a multiple of 8"),
        ("filesrc location=/nowhere ! decodebin", "gst:filesrc: "),
    ],
)
def test_a_pipeline_that_cannot_run_says_why(pipeline: str, reason: str) -> None:
    with Watched(f"gst:{pipeline}") as watched:
        watched.state(CameraState.LOST)
        assert reason in watched.camera.status.reason


@gstreamer
def test_what_a_pipeline_prints_is_no_picture() -> None:
    with Watched(
        "gst:videotestsrc is-live=true pattern=snow ! video/x-raw,width=64,height=32 ! identity dump=true"
    ) as watched:
        watched.until(lambda frame: frame.sequence > 5, BACK_S)


def test_without_gstreamer_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with Watched("jetson:0") as watched:
        watched.state(CameraState.LOST)
        assert "apt-get install gstreamer1.0-tools" in watched.camera.status.reason


def test_a_jetson_camera_is_a_pipeline_with_the_wishes_of_the_settings() -> None:
    assert jetson_pipeline(1, 1920, 1080, 30.0) == (
        "nvarguscamerasrc sensor-id=1 ! 'video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30/1' "
        "! nvvidconv ! video/x-raw,format=I420"
    )
    assert "'video/x-raw(memory:NVMM)' !" in jetson_pipeline(0, 0, 0, 0.0)
