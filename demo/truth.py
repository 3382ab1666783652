"""Owns the comparison of sightings with the labels of the sample video; refuses to judge where there is no label."""

from typing import Any

LEAST_OVERLAP = 0.3  # intersection over union; boxes of the agent and of the labels come from different detectors


def judge(sightings: list[dict[str, Any]], labels: dict[str, Any]) -> None:
    """Set ``truth`` (a name, ``unknown`` for a stranger, or None without a label) and ``right`` in each sighting."""
    boxes: dict[int, list[tuple[str, list[int]]]] = {}
    for group in ("household", "strangers"):
        for person, rows in labels[group].items():
            for frame, *box in rows:
                boxes.setdefault(frame, []).append((person if group == "household" else "unknown", box))
    for item in sightings:
        found = [(overlap(item["box"], box), person) for person, box in boxes.get(int(item["frame"]), [])]
        best, person = max(found, default=(0.0, None))
        item["truth"] = person if best >= LEAST_OVERLAP else None
        item["right"] = bool(item["truth"]) and item["truth"] == item["label"]


def overlap(one: list[int], other: list[int]) -> float:
    """Return the intersection over union of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (one[2] * one[3] + other[2] * other[3] - width * height)
