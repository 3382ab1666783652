"""What the metrics say of the stages: means since the last message, and nothing where nothing was done."""

from pathlib import Path

import numpy as np
import pytest

from agent.camera.camera import Camera
from agent.camera.settings import CameraSettings
from agent.home import metrics
from agent.home.metrics import CameraRate, StageTimes, temperature_c
from contract.messages import Metrics
from tests.vision_scenes import ScriptedSource

COUNTED = Metrics(fps=25.0, frame_ms=3.0, frames=100, crops=4)


def counters(frames: int, crops: int) -> dict[str, float]:
    return {
        "frames": frames,
        "crops": crops,
        "looks": frames / 2,
        "motion_ms": 0.5 * frames,
        "detect_ms": 7.0 * frames,
        "tracking_ms": 0.125 * frames,
        "classify_ms": 4.0 * crops,
    }


def test_times_are_means_since_the_last_message() -> None:
    times = StageTimes()
    times.add(COUNTED, {**counters(100, 4), "motion_ms": 9000.0})
    told = times.add(COUNTED, {**counters(200, 6), "motion_ms": 9050.0})
    assert (told.motion_ms, told.detect_ms, told.tracking_ms, told.classify_ms) == (0.5, 14.0, 0.25, 4.0)
    assert (told.fps, told.frames) == (COUNTED.fps, COUNTED.frames)


def test_a_stage_that_did_nothing_is_left_out_of_the_payload() -> None:
    times = StageTimes()
    told = times.add(COUNTED, counters(100, 0))
    assert told.classify_ms is None
    assert b"classify_ms" not in told.encode()
    assert times.add(COUNTED, counters(100, 0)).motion_ms is None


def test_the_camera_tells_its_state_rate_lost_pictures_and_restarts() -> None:
    source = ScriptedSource([np.full((48, 64, 3), n, np.uint8) for n in range(12)], hang=True)
    rate = CameraRate()
    with Camera(lambda: source, CameraSettings("/dev/video0")) as camera:
        frames = camera.frames_or_waits()
        next(frame for frame in frames if frame and frame.sequence == 11)
        health = rate.health(camera)
        again = rate.health(camera)
    assert (health.state, health.restarts) == ("live", 0)
    assert health.lost == camera.dropped
    assert health.fps > 0 == again.fps


@pytest.mark.parametrize(("text", "celsius"), [("51234\n", 51.234), ("", None), ("x", None), (None, None)])
def test_the_temperature_is_what_the_kernel_tells_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, celsius: float | None
) -> None:
    monkeypatch.setattr(metrics, "_THERMAL", tmp_path / "temp")
    if text is not None:
        (tmp_path / "temp").write_text(text)
    assert temperature_c() == celsius
