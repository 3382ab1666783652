"""What the metrics say of the stages: means since the last message, and nothing where nothing was done."""

from pathlib import Path

import pytest

from agent.home import metrics
from agent.home.metrics import StageTimes, temperature_c
from contract.messages import Metrics

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


@pytest.mark.parametrize(("text", "celsius"), [("51234\n", 51.234), ("", None), ("x", None), (None, None)])
def test_the_temperature_is_what_the_kernel_tells_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, celsius: float | None
) -> None:
    monkeypatch.setattr(metrics, "_THERMAL", tmp_path / "temp")
    if text is not None:
        (tmp_path / "temp").write_text(text)
    assert temperature_c() == celsius
