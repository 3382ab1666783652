"""Owns what the metrics message says of the machine, the camera and the pipeline. Refuses to send it."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agent.camera.camera import Camera
from contract.messages import CameraHealth, Metrics

_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")


class StageTimes:
    """Milliseconds that each stage took, on average between two calls, from counters that only grow."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def add(self, metrics: Metrics, counters: Mapping[str, float]) -> Metrics:
        """Return ``metrics`` with ``motion_ms`` a frame, ``detect_ms`` and ``tracking_ms`` a look, and so on."""
        grown = {key: value - self._last.get(key, 0.0) for key, value in counters.items()}
        self._last = dict(counters)

        def mean(key: str, count: str) -> float | None:
            return round(grown[key] / grown[count], 3) if grown[count] else None

        return replace(
            metrics,
            motion_ms=mean("motion_ms", "frames"),
            detect_ms=mean("detect_ms", "looks"),
            tracking_ms=mean("tracking_ms", "looks"),
            classify_ms=mean("classify_ms", "crops"),
        )


class CameraRate:
    """Knows how many pictures a camera gave between two calls."""

    def __init__(self) -> None:
        self._pictures, self._since_s = 0, time.monotonic()

    def health(self, camera: Camera) -> CameraHealth:
        """Return how ``camera`` does."""
        now_s, pictures = time.monotonic(), camera.pictures
        fps = (pictures - self._pictures) / max(now_s - self._since_s, 1e-3)
        self._pictures, self._since_s = pictures, now_s
        lost = camera.dropped + camera.damaged
        return CameraHealth(state=camera.status.state, fps=round(fps, 2), lost=lost, restarts=camera.restarts)


def temperature_c() -> float | None:
    """Return the board's temperature in degrees Celsius; None where the kernel does not tell it."""
    try:
        return int(_THERMAL.read_text()) / 1000
    except (OSError, ValueError):
        return None
