"""Owns what the metrics message says of the machine and the pipeline. Refuses to send it."""

from collections.abc import Mapping
from pathlib import Path

_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")


class StageTimes:
    """Milliseconds that each stage took, on average between two calls, from counters that only grow."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def take(self, counters: Mapping[str, float]) -> dict[str, float]:
        """Return ``motion_ms`` and ``tracking_ms`` a frame and ``classify_ms`` a crop since the last call."""
        grown = {key: value - self._last.get(key, 0.0) for key, value in counters.items()}
        self._last = dict(counters)
        per = {"motion_ms": "frames", "tracking_ms": "frames", "classify_ms": "crops"}
        return {key: round(grown[key] / grown[count], 3) for key, count in per.items() if grown.get(count)}


def temperature() -> dict[str, float]:
    """Return the board's temperature in degrees Celsius where the kernel tells it."""
    try:
        return {"temperature_c": int(_THERMAL.read_text()) / 1000}
    except (OSError, ValueError):
        return {}
