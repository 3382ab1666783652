"""Owns the pictures of the demo's page: timeline, bytes, and crops of the sample video. Refuses household pictures:
what it cuts comes from the public sample video, by the boxes that the sightings name.
"""

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from contract.preprocess import Image, crop
from contract.video.reader import pictures
from demo.story import Step, Story

INK, PALE, GREEN, RED, BLUE = "#1d2733", "#c9d3de", "#2a7d4f", "#b3402f", "#2f6db3"
LANES = {"cloud": BLUE, "house": INK}


def overview(story: Story) -> str:
    """Draw what each place did over the whole run, a row a place; return an SVG."""
    lanes = list(dict.fromkeys(step.lane for step in story.steps))
    figure, axes = plt.subplots(figsize=(11, 0.9 + 0.62 * len(lanes)))
    for step in story.steps:
        row, length_s = lanes.index(step.lane), max(step.end_s - step.begin_s, 0.3)
        axes.barh(row, length_s, left=step.begin_s, height=0.5, color=LANES.get(step.lane, GREEN), edgecolor="white")
        if length_s > 0.04 * story.steps[-1].end_s:
            axes.text(step.begin_s, row - 0.34, _short(step.name), fontsize=7, color=INK, va="bottom")
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.5, -0.8)
    axes.set_xlabel("seconds since the beginning")
    axes.set_title("The whole run", loc="left", fontsize=11, color=INK)
    return _svg(figure, axes)


def timeline(story: Story, version: int) -> str:
    """Draw the deployment of one release step by step, after the paper's Fig. 4 with measured times, as SVG."""
    steps = [step for step in story.steps if is_deployment(step, version)]
    begin_s, end_s = min(step.begin_s for step in steps), max(step.end_s for step in steps)
    figure, axes = plt.subplots(figsize=(11, 1.1 + 0.28 * len(steps)))
    for row, step in enumerate(steps):
        left, length_s = step.begin_s - begin_s, step.end_s - step.begin_s
        axes.barh(row, max(length_s, 0.02), left=left, height=0.62, color=LANES.get(step.lane, GREEN))
        axes.text(left + length_s + 0.08, row, f"{length_s:.2f} s", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(steps)), [f"{step.lane}: {_short(step.name)}" for step in steps], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, (end_s - begin_s) * 1.12)
    axes.set_xlabel("seconds since publishing began")
    axes.set_title(f"Deployment of release {version}", loc="left", fontsize=11, color=INK)
    return _svg(figure, axes)


def is_deployment(step: Step, version: int) -> bool:
    """Return whether ``step`` is part of bringing ``version`` from the site to the devices."""
    return step.name.endswith(f"publish release {version}") or f"(release {version})" in step.name


def _short(name: str) -> str:
    return name.split(" (release")[0]


def bytes_sent(story: Story, update_bytes: dict[str, dict[str, int]]) -> str:
    """Draw the bytes of the full model beside what one device received for the update; return an SVG."""
    names = ["full model", *(f"update of {device}" for device in update_bytes)]
    values = [story.full_bytes, *(sum(kinds.values()) for kinds in update_bytes.values())]
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.5 * len(names)))
    axes.barh(names, values, color=[PALE, *[GREEN] * len(update_bytes)], height=0.6)
    for row, value in enumerate(values):
        axes.text(
            value * 1.05, row, f"{value:,} bytes ({100 * value / story.full_bytes:.2f} %)", va="center", fontsize=9
        )
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 4, story.full_bytes * 30)
    axes.invert_yaxis()
    axes.set_xlabel("bytes, logarithmic")
    axes.set_title("Bytes that one device receives, counted at the relay", loc="left", fontsize=11, color=INK)
    return _svg(figure, axes)


def accuracy(evaluations: dict[int, dict[str, Any]], people: list[str], names: dict[str, str]) -> str:
    """Draw accuracy per person before and after the update, on held-out crops; return an SVG.

    ``people`` are labels, ``names`` what is shown instead of one.
    """
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.5 * len(people)))
    for offset, version, color in ((-0.18, 1, PALE), (0.18, 2, GREEN)):
        values = [evaluations[version]["per_person"].get(name, {}).get("accuracy", 0.0) for name in people]
        rows = [row + offset for row in range(len(people))]
        axes.barh(rows, values, height=0.34, color=color, label=f"release {version}")
        for row, value in zip(rows, values, strict=True):
            axes.text(value + 0.01, row, f"{100 * value:.1f} %", va="center", fontsize=8)
    shown = [names.get(label, label) for label in people]
    axes.set_yticks(range(len(people)), shown, parse_math=False)  # a name may have a dollar sign
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 1.12), ncols=2, frameon=False, fontsize=8)
    axes.set_title("Right names on held-out crops (time split)", loc="left", fontsize=11, color=INK)
    return _svg(figure, axes)


def sighting_crops(video: Path, sightings: Iterable[dict[str, Any]]) -> list[str]:
    """Cut the crop of each sighting out of the sample video; return data URLs of JPEG pictures, in the same order."""
    wanted = [(int(item["frame"]), tuple(item["box"])) for item in sightings]
    frames = _frames(video, {frame for frame, _ in wanted})
    return [_jpeg(crop(frames[frame], box)) if frame in frames else "" for frame, box in wanted]


def _frames(video: Path, numbers: set[int]) -> dict[int, Image]:
    found: dict[int, Image] = {}
    for picture in pictures(video):
        if picture.number in numbers:
            found[picture.number] = picture.pixels
        if picture.number >= max(numbers, default=0):
            break
    return found


def _jpeg(image: Image) -> str:
    height = 160
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    ok, data = cv2.imencode(".jpg", cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))
    assert ok
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _svg(figure: Figure, axes: Any) -> str:
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    out = io.StringIO()
    figure.savefig(out, format="svg")
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]
