"""agent.camera: pacing, dropping, ends, loops, files that are no video, states and settings."""

import itertools
import logging
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.camera import decoder_words
from agent.camera.camera import Camera, open_camera
from agent.camera.connections import Connections
from agent.camera.frame import Frame
from agent.camera.live_pictures import LivePictures
from agent.camera.picture_check import PictureCheck, PictureState
from agent.camera.settings import CameraSettings, SourceKind
from agent.camera.state import CameraState, CameraStatus, StateTeller, read_status, write_status
from contract.config import load_config
from contract.errors import ConfigError, InputError, PeerError
from contract.preprocess import Image
from contract.video.child import Complaints, StalledError
from contract.video.reader import DecoderDiedError, Picture, RefusedError
from tests.vision_scenes import ScriptedSource, number_of, numbered, write_video


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


def test_nothing_is_said_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "video.avi"
    path.write_bytes(bytes(range(256)) * 400)
    with pytest.raises(InputError, match="not a video"):
        open_camera(CameraSettings(str(path)))
    assert capfd.readouterr() == ("", "")


def test_missing_empty_and_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.avi").touch()
    cases = {
        str(tmp_path / "none.avi"): "No such file",
        str(tmp_path / "empty.avi"): "empty",
        str(tmp_path): "not a file",
    }
    for source, text in cases.items():
        with pytest.raises(InputError, match=text):
            open_camera(CameraSettings(source))


def scripted(*sources: ScriptedSource, **settings: object) -> Camera:
    """Return a camera on a device that gives ``sources`` one after another, and then is absent."""
    waiting = list(sources)

    def open_next() -> ScriptedSource:
        if not waiting:
            raise PeerError("/dev/video0: no such camera")
        return waiting.pop(0)

    return Camera(open_next, CameraSettings("/dev/video0", **settings))  # type: ignore[arg-type]


def until(camera: Camera, wanted: CameraState, limit: int = 100) -> list[Frame | None]:
    """Return what ``camera`` gives until it is in the state ``wanted``."""
    seen = []
    for item in itertools.islice(camera.frames_or_waits(), limit):
        seen.append(item)
        if camera.status.state is wanted:
            return seen
    raise AssertionError(f"{camera.status} instead of {wanted}")


def test_an_absent_camera_is_lost_and_time_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "agent.camera"), scripted() as camera:
        assert until(camera, CameraState.LOST) == [None]
        assert list(itertools.islice(camera.frames_or_waits(), 2)) == [None, None], "it never ends by itself"
    assert [record.message.split()[0] for record in caplog.records] == ["camera.lost"], "and is told of once"


def test_a_camera_that_hangs_is_told_let_go_of_and_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    hanging = ScriptedSource(numbered(1), StalledError("no picture in time"))
    with (
        caplog.at_level(logging.INFO, "agent.camera"),
        scripted(hanging, ScriptedSource(noise(40), hang=True)) as camera,
    ):
        seen = [frame.sequence for frame in itertools.islice(camera, 2)]
        assert seen == sorted(set(seen))
        assert hanging.closed.wait(5)
        assert camera.status.state is CameraState.LIVE
    assert [record.message.split()[0] for record in caplog.records][:2] == ["camera.lost", "camera.back"]


def test_a_camera_that_gives_nothing_is_stalled_before_it_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    silent = ScriptedSource([], hang=True)
    with scripted(silent, stalled_s=0.1) as camera:
        until(camera, CameraState.STALLED)
    assert silent.closed.wait(5), "stop ends a read under way"
    assert "camera.stalled" in caplog.text


def test_a_reader_that_dies_is_a_camera_that_failed_not_a_video_that_ended(caplog: pytest.LogCaptureFixture) -> None:
    with (
        scripted(ScriptedSource(numbered(1), ZeroDivisionError("a fault"))) as camera,
        pytest.raises(PeerError, match="/dev/video0: ZeroDivisionError: a fault"),
    ):
        list(camera)
    assert [record.message for record in caplog.records if record.exc_info] == ["camera.fault"]


def test_what_decoders_say_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    sources = [ScriptedSource(noise(2)) for _ in range(5)]
    for source in sources:
        source.said.add("[h264 @ 0x5581] no frame!\n" * 100)
    connections = Connections(lambda: sources.pop(0), "rtsp://camera/1")
    for _ in range(5):
        with connections.open():
            pass
    told = [record.message for record in caplog.records]
    assert told == ['camera.decoder source=rtsp://camera/1 lines=100 first="no frame!"']


def test_complaints_of_a_connection_that_goes_on_are_one_counted_event_within_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 100_000, 5))
    monkeypatch.setattr(decoder_words.time, "monotonic", lambda: float(next(now)))
    source = ScriptedSource(noise(3000))
    connections = Connections(lambda: source, "rtsp://camera/1")
    told_at: dict[int, str] = {}
    with connections.open():
        for second in range(0, 2 * 3600, 5):
            source.said.add(f"[h264 @ 0x5581] error while decoding MB {second} {second + 7}\n" * 10)
            if second == 600:
                source.said.add("concealing 300 errors")
            connections.read(source, 1.0)
            told_at.setdefault(len(caplog.records), f"{second}")
    told = [record.message for record in caplog.records]
    assert told[0] == 'camera.decoder source=rtsp://camera/1 lines=70 first="error while decoding MB 0 7"'
    assert told_at[1] == "30"
    assert len(told) == 2, "the same words, with other numbers, are told of again after an hour"
    assert "lines=7201" in told[1]


def test_other_words_of_a_connection_that_goes_on_are_told_within_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 100_000, 5))
    monkeypatch.setattr(decoder_words.time, "monotonic", lambda: float(next(now)))
    words = decoder_words.DecoderWords("rtsp://camera/1")
    said = Complaints()
    for second in range(0, 300, 5):
        said.add("no frame!" if second < 120 else "missing picture")
        words.hear(said)
    assert [record.message.partition("first=")[2] for record in caplog.records] == [
        '"no frame!"',
        '"missing picture"',
    ]


def test_a_camera_that_refuses_the_password_is_tried_seldom_and_others_soon() -> None:
    class Waits(Connections):
        def __init__(self, error: PeerError) -> None:
            super().__init__(self._fail, "rtsp://camera/1")
            self.error, self.waits = error, list[float]()

        def _fail(self) -> ScriptedSource:
            raise self.error

        def wait(self, seconds: float) -> None:
            self.waits.append(seconds)
            if len(self.waits) == 6:
                self.end()

    waits = {}
    for error in (RefusedError("401"), PeerError("refused")):
        connections = Waits(error)
        teller = StateTeller("rtsp://camera/1", lambda status: None)
        assert list(LivePictures(connections, teller, PictureCheck(8.0), give_up_s=10.0)) == []
        waits[teller.status.state] = connections.waits
    assert waits == {
        CameraState.REFUSED: [5.0, 30.0, 120.0, 300.0, 300.0, 300.0],
        CameraState.LOST: [0.5, 1.0, 2.0, 4.0, 4.0, 4.0],
    }


def test_pictures_lost_to_damage_are_counted_over_loops(video: Path) -> None:
    class Holes(ScriptedSource):
        def read(self, limit_s: float) -> Picture | None:
            picture = super().read(limit_s)
            return picture and replace(picture, number=2 * picture.number)

    sources = [Holes(numbered(5)), Holes(numbered(5)), ScriptedSource([])]
    with Camera(lambda: sources.pop(0), CameraSettings(str(video), pace=0, loop=True)) as camera:
        frames = list(itertools.islice(camera, 10))
        assert [frame.index for frame in frames] == [0, 2, 4, 6, 8] * 2
        assert (camera.pictures, camera.damaged) == (10, 8)


def test_a_device_numbers_index_as_sequence() -> None:
    with scripted(ScriptedSource(numbered(3)), ScriptedSource(numbered(3))) as camera:
        last = next(frame for frame in camera if frame.sequence >= 4)
    assert last.index == last.sequence


def test_a_decoder_that_dies_on_a_file_is_replaced_and_skips_what_was_seen(video: Path) -> None:
    sources = [ScriptedSource(numbered(5), DecoderDiedError("killed")), ScriptedSource(numbered(20))]
    with Camera(lambda: sources.pop(0), CameraSettings(str(video), pace=0)) as camera:
        assert [frame.index for frame in camera] == list(range(20))


def test_a_decoder_that_dies_on_the_same_place_time_and_again_is_an_error(video: Path) -> None:
    def dying() -> ScriptedSource:
        return ScriptedSource(numbered(5), DecoderDiedError("it died"))

    with Camera(dying, CameraSettings(str(video), pace=0)) as camera, pytest.raises(PeerError, match="it died"):
        list(camera)


# --- pictures without worth ---


def noise(count: int) -> list[Image]:
    """Return pictures as a sensor gives them: no two are the same."""
    generator = np.random.default_rng(1)
    return [generator.integers(90, 110, (48, 64, 3), np.uint8) for _ in range(count)]


def looked(images: list[Image], period_s: float = 0.5) -> PictureCheck:
    check = PictureCheck(8.0)
    for number, image in enumerate(images):
        check.look(image, number * period_s)
    return check


def test_noise_is_live() -> None:
    check = looked(noise(40))
    assert check.state is PictureState.LIVE
    assert check.live(19.5)


def test_a_picture_that_stays_is_not_live_at_once_and_frozen_within_10_s() -> None:
    still = noise(1)
    assert not looked(still * 3).live(1.0), "a picture that never changed proves nothing"
    assert not looked(noise(4) + still * 6).live(5.0)
    assert looked(noise(4) + still * 14).state is PictureState.LIVE
    assert looked(noise(4) + still * 20).state is PictureState.FROZEN


@pytest.mark.parametrize("colour", [(0, 0, 0), (16, 16, 16), (0, 135, 0)])
def test_one_colour_shows_nothing(colour: tuple[int, int, int]) -> None:
    blank = np.full((48, 64, 3), colour, np.uint8)
    other = blank + np.uint8(1)
    assert not looked([blank, other]).live(0.5)
    assert looked([blank, other] * 10).state is PictureState.BLACK


def test_a_dark_room_with_noise_is_live() -> None:
    dark = [np.clip(image.astype(int) - 92, 0, 255).astype(np.uint8) for image in noise(40)]
    assert looked(dark).state is PictureState.LIVE


def test_a_gap_without_pictures_is_no_frozen_picture() -> None:
    check = looked(noise(4))
    check.look(noise(5)[-1], 60.0)
    assert check.state is PictureState.LIVE


def test_the_smallest_pictures_are_looked_at() -> None:
    assert looked([image[:2, :1] for image in noise(8)]).state is PictureState.LIVE


# --- states and settings ---


def test_states_are_told_once_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent.camera")
    told: list[CameraStatus] = []
    teller = StateTeller("rtsp://camera/1", told.append)
    for state in ("live", "stalled", "lost", "stalled", "lost", "live", "live"):
        teller.change(CameraState(state), "why", 3)
    assert [status.state for status in told] == ["live", "stalled", "lost", "live"]
    events = [record.message.split()[0] for record in caplog.records]
    assert events == ["camera.stalled", "camera.lost", "camera.back"]
    assert read_status(tmp_path) is None
    write_status(tmp_path, told[1])
    kept = read_status(tmp_path)
    assert kept is not None
    assert (kept["state"], kept["reason"], kept["restarts"]) == ("stalled", "why", 3)
    write_status(tmp_path / "absent", told[1])
    assert "camera.unwritten" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        'source=""',
        "pace=-1.0",
        "stalled_s=50.0",
        "frozen_s=0.0",
        "speed=3",
        'source="ftp://camera/1"',
        'source="rtsp://"',
        'source="rtsp://camera:99999/1"',
        'source="rtsp://camera:0/1"',
        'source="rtsp://cam era/1"',
        'source="rtsp://camera/1\\noption x y"',
        'source="rtsp://cam:hushhush@rd#1?%@camera/1"',
        'source="rtsp://cam:hushhush/w@camera/1"',
        'source="rtsp://cam:hushhush@camera/1"\nuser="cam"\npassword="hushhush"',
        'source="/dev/video0"\nuser="cam"',
        'source="rtsp://camera/1"\npassword="hushhush"',
        'source="csi:"',
        'source="csi:front"',
        'source="jetson:99"',
        'source="gst:"',
        'source="gst:rtspsrc location=\'rtsp://cam:hushhush@camera/1"',
        'source="csi:0"\nuser="cam"',
        'source="rtsps://camera/1"\nca="/etc/camera.pem"',
        'source="https://camera/1"\nca="camera.pem"',
    ],
)
def test_the_settings_are_strict_and_tell_no_password(tmp_path: Path, text: str) -> None:
    path = tmp_path / "camera.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, CameraSettings)
    assert "hushhush" not in str(caught.value)


@pytest.mark.parametrize("secret", ["p@ss:w/rd#1?%", "p#ss", "100%sure", "p%zz", "ünï 'quoted\""])
def test_a_password_has_any_signs_and_is_never_shown(secret: str) -> None:
    settings = CameraSettings("rtsp://camera/1?channel=2", user="cam", password=secret)
    assert settings.credentials == ("cam", secret)
    assert settings.shown == "rtsp://camera/1"
    assert secret not in repr(settings)


@pytest.mark.parametrize(
    ("source", "kind", "shown"),
    [
        ("csi:0", SourceKind.CSI, "csi:0"),
        ("jetson:1", SourceKind.JETSON, "jetson:1"),
        ("gst:rtspsrc user-pw=hushhush ! decodebin", SourceKind.GSTREAMER, "gst:rtspsrc"),
        ("./csi:0", SourceKind.FILE, "./csi:0"),
    ],
)
def test_drivers_are_named_before_a_colon_and_of_a_pipeline_the_first_element_is_shown(
    source: str, kind: SourceKind, shown: str
) -> None:
    settings = CameraSettings(source)
    assert (settings.kind, settings.shown) == (kind, shown)
    assert "hushhush" not in repr(settings)


def test_an_address_may_hold_user_and_password() -> None:
    settings = CameraSettings("rtsp://cam:p%40ss%2F@camera:8554/1")
    assert settings.credentials == ("cam", "p@ss/")
    assert settings.shown == "rtsp://camera:8554/1"
    assert "p%40ss" not in repr(settings)
