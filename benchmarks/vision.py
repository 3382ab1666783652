"""Measures detection, tracks and the pipeline on the sample video and on clips, as docs/vision.md reports them.

    python -m benchmarks.vision [VIDEO] [--bundle FOLDER] [--clips FOLDER]

Clips are other cameras' (KINWATCH_CLIPS names their folder as well); without them those lines are left out. The
labels were made from background subtraction: overlap (IoU) favours motion, and people who are not labelled are
visible too, so that precision cannot be measured. Milliseconds are processor time of one thread, without decoding.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from agent.camera.camera import open_camera
from agent.camera.settings import CameraSettings
from agent.vision.boxes import overlap
from agent.vision.classifier import LoadedModel, load_model
from agent.vision.finding import MOVING_TRACKS
from agent.vision.gate import Gate
from agent.vision.motion import MotionDetector, MotionSettings
from agent.vision.tracking import Observation, Track, Tracks, TrackSettings, advance
from benchmarks.vision_events import events
from benchmarks.vision_run import Run, timed, watch
from cloud_tools.datasets.labels import Labels, load_labels
from cloud_tools.detectors.choice import DEFAULT, detector_maker
from cloud_tools.inputs import LABELS, sample_video
from contract.messages import Sighting
from contract.preprocess import Box, Image

TINY = Path(__file__).parents[1] / "tests" / "vectors" / "bundle_tiny"
VISIT_GAP = 30  # frames without a label of a person that end a visit
STILL_FRAMES, STILL_BEFORE = 150, 60


@dataclass(frozen=True)
class MotionScore:
    """Share of labelled boxes whose centre is in a found box; that overlap one by half; boxes and time a frame."""

    centre: float
    overlap: float
    boxes: float
    frame_ms: float


@dataclass(frozen=True)
class TrackScore:
    """``tracks``: all counted. ``covered``: share of labelled boxes in a track. ``per_visit``: tracks a visit.

    ``purity``: share of labelled boxes that belong to their track's main person. ``mixed``: tracks of two people.
    """

    tracks: int
    visits: int
    per_visit: float
    covered: float
    purity: float
    mixed: int


def images(video: Path) -> Iterator[Image]:
    """Return the frames of ``video``, none dropped."""
    with open_camera(CameraSettings(str(video), pace=0)) as camera:
        for frame in camera:
            yield frame.image


def labelled(labels: Labels) -> dict[int, list[tuple[str, Box]]]:
    """Return who stands where, by frame."""
    found: dict[int, list[tuple[str, Box]]] = {}
    for person, boxes in {**labels.household, **labels.strangers}.items():
        for frame, box in boxes.items():
            found.setdefault(frame, []).append((person, box))
    return found


def find_boxes(frames: Iterator[Image], settings: MotionSettings | None = None) -> tuple[list[list[Box]], float]:
    """Return the boxes of every frame, and the mean processor time a frame in ms, without decoding."""
    detector, gate, boxes, busy = MotionDetector(settings), Gate(), [], 0.0
    for number, image in enumerate(frames):
        begin = time.thread_time()
        look = gate.look(image, number / 10)
        boxes.append(detector.find(look) if look else [])
        busy += time.thread_time() - begin
    return boxes, 1000 * busy / max(1, len(boxes))


def score_motion(boxes: Sequence[Sequence[Box]], labels: Labels, frame_ms: float = 0.0, step: int = 1) -> MotionScore:
    """Compare found boxes with the labels; ``boxes`` are those of every ``step``-th frame."""
    centres = overlaps = total = 0
    for frame, people in labelled(labels).items():
        for _, box in people if frame % step == 0 else ():
            total += 1
            overlaps += any(overlap(box, found) >= 0.5 for found in boxes[frame // step])
            centres += any(_holds_centre(found, box) for found in boxes[frame // step])
    return MotionScore(centres / total, overlaps / total, sum(map(len, boxes)) / len(boxes), frame_ms)


def _holds_centre(found: Box, box: Box) -> bool:
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    return found[0] <= x <= found[0] + found[2] and found[1] <= y <= found[1] + found[3]


def follow(boxes: Sequence[Sequence[Box]], settings: TrackSettings = MOVING_TRACKS) -> list[tuple[Track, ...]]:
    """Return the tracks of motion seen in every frame, at 10 frames a second."""
    tracks, seen = Tracks(), []
    for number, found in enumerate(boxes):
        done = advance(tracks, [Observation(box) for box in found], number / 10, settings)
        tracks = done.tracks
        seen.append(done.seen)
    return seen


def score_tracks(seen: Sequence[tuple[Track, ...]], labels: Labels) -> TrackScore:
    """Compare tracks with the labels: a labelled box belongs to the track that overlaps it most, by 0.3 at least."""
    people: dict[int, dict[str, int]] = {}
    per_visit, covered, total = [], 0, 0
    for person, visit in visits(labels):
        mine: dict[int, int] = {}
        for frame, box in visit:
            total += 1
            best = max(seen[frame], key=lambda track: overlap(track.box, box), default=None)
            if best is None or overlap(best.box, box) < 0.3:
                continue
            covered += 1
            mine[best.id] = mine.get(best.id, 0) + 1
            counted = people.setdefault(best.id, {})
            counted[person] = counted.get(person, 0) + 1
        per_visit.append(sum(count >= 3 for count in mine.values()))
    main = sum(max(counted.values()) for counted in people.values())
    return TrackScore(
        len({track.id for tracks in seen for track in tracks}),
        len(per_visit),
        sum(per_visit) / len(per_visit),
        covered / total,
        main / sum(sum(counted.values()) for counted in people.values()),
        sum(sum(count >= 3 for count in counted.values()) > 1 for counted in people.values()),
    )


def visits(labels: Labels) -> list[tuple[str, list[tuple[int, Box]]]]:
    """Return each person's stretches of labelled frames."""
    found: list[tuple[str, list[tuple[int, Box]]]] = []
    for person, boxes in {**labels.household, **labels.strangers}.items():
        last = None
        for frame, box in sorted(boxes.items()):
            if last is None or frame - last > VISIT_GAP:
                found.append((person, []))
            found[-1][1].append((frame, box))
            last = frame
    return found


def empty_scene(video: Path) -> Image:
    """Return the street without people: the median of every twentieth frame."""
    return np.asarray(np.median(np.stack(list(images(video))[::20]), axis=0), np.uint8)


def false_motion(scene: Image) -> dict[str, tuple[int, float]]:
    """Give, for things that are no motion, the frames with a box among 150, and ms a frame."""
    random = np.random.default_rng(1)
    noise = [random.normal(0, 4, scene.shape).astype(np.float32) for _ in range(7)]

    def noisy(image: np.ndarray, number: int) -> Image:
        return np.clip(image + noise[number % 7], 0, 255).astype(np.uint8)

    def ramp(number: int) -> float:
        return 1 + 0.4 * min(1.0, max(0, number - STILL_BEFORE) / 30)

    scenes: dict[str, Callable[[int], Image]] = {
        "frozen frame": lambda number: scene,
        "noise (sigma 4)": lambda number: noisy(scene, number),
        "light switched off (to 60 %)": lambda n: noisy(scene * np.float32(0.6 if n >= STILL_BEFORE else 1), n),
        "light switched on (to 150 %)": lambda n: noisy(scene * np.float32(1.5 if n >= STILL_BEFORE else 1), n),
        "exposure ramp (+40 % in 30 frames)": lambda n: noisy(scene * np.float32(ramp(n)), n),
        "lamp in one corner (quarter of the picture, +60)": lambda n: noisy(_lamp(scene, n >= STILL_BEFORE), n),
        "camera shakes (2 pixels)": lambda n: noisy(np.roll(scene, (n * 7 % 5 - 2, n * 3 % 5 - 2), (0, 1)), n),
        "camera turned once (40 pixels)": lambda n: noisy(np.roll(scene, 40 * (n >= STILL_BEFORE), 1), n),
    }
    found = {}
    for name, make in scenes.items():
        boxes, ms = find_boxes(make(number) for number in range(STILL_BEFORE + STILL_FRAMES))
        found[name] = sum(bool(some) for some in boxes[STILL_BEFORE:]), ms
    return found


def _lamp(scene: Image, lit: bool) -> np.ndarray:
    image = scene.astype(np.float32)
    image[: scene.shape[0] // 2, : scene.shape[1] // 2] += 60.0 * lit
    return image


def hard_cases(video: Path, labels: Labels) -> dict[str, MotionScore]:
    """Return how many people are found when the sample video is made harder."""

    def shaken() -> Iterator[Image]:
        for number, image in enumerate(images(video)):
            yield np.roll(image, (number * 7 % 5 - 2, number * 3 % 5 - 2), (0, 1))

    def dark() -> Iterator[Image]:
        return ((image * np.float32(0.2)).astype(np.uint8) for image in images(video))

    return {
        "camera shakes by 2 pixels": score_motion(*_boxes_of(shaken(), labels)),
        "a fifth of the light": score_motion(*_boxes_of(dark(), labels)),
    }


def _boxes_of(frames: Iterator[Image], labels: Labels) -> tuple[list[list[Box]], Labels, float]:
    boxes, ms = find_boxes(frames)
    return boxes, labels, ms


def found_share(run: Run, labels: Labels, least_height: float = 0.12) -> float:
    """Return the share of labelled people over ``least_height`` of the frame that a look found at IoU .5."""
    people = labelled(labels)
    wanted = [
        (frame, box)
        for frame in run.boxes
        for _, box in people.get(frame, [])
        if box[3] >= least_height * labels.height
    ]
    return sum(any(overlap(box, found) >= 0.5 for found in run.boxes[frame]) for frame, box in wanted) / len(wanted)


def score_names(
    sightings: Sequence[Sighting], labels: Labels, known: Sequence[str], after: float = 0.0
) -> dict[str, int]:
    """Count sightings whose box lies on a labelled person: right, wrong, and unknown, for members and strangers.

    With ``after``, only those decided after that share of a person's labelled frames: the training split's cut.
    """
    people, counted = (
        labelled(labels),
        dict.fromkeys(
            ("member right", "member wrong", "member unknown", "stranger named", "stranger unknown", "not labelled"),
            0,
        ),
    )
    for sighting in (one for one in sightings if one.end):
        best = max(people.get(sighting.frame, []), key=lambda item: overlap(item[1], sighting.box), default=None)
        unknown = sighting.label == "unknown"
        if best is None or overlap(best[1], sighting.box) < 0.3:
            key = "not labelled"
        elif sighting.frame < _frame_at(labels, best[0], after):
            continue
        elif best[0] in known:
            key = "member unknown" if unknown else "member right" if sighting.label == best[0] else "member wrong"
        elif best[0] in labels.household:
            key = "member not trained: unknown" if unknown else "member not trained: named"
        else:
            key = "stranger unknown" if unknown else "stranger named"
        counted[key] = counted.get(key, 0) + 1
    return counted


def _frame_at(labels: Labels, person: str, share: float) -> int:
    frames = sorted({**labels.household, **labels.strangers}[person])
    return frames[int(share * (len(frames) - 1))]


def load(bundle: Path) -> LoadedModel:
    """Return the bundle, with the default detector where it brings none; converting that takes TensorFlow, once."""
    model = load_model(bundle)
    if model.detector is not None:
        return model
    make = detector_maker(DEFAULT)
    assert make is not None
    return replace(model, detector=make())


def report_motion(video: Path, labels: Labels) -> None:
    """Print what releases without a detector see."""
    boxes, ms = find_boxes(images(video))
    print("motion:", score_motion(boxes, labels, ms))
    print("motion:", score_tracks(follow(boxes), labels))
    for name, (frames, still_ms) in false_motion(empty_scene(video)).items():
        print(f"motion, {name}: {frames} of {STILL_FRAMES} frames with boxes, {still_ms:.2f} ms a frame")
    for name, score in hard_cases(video, labels).items():
        print(f"motion, {name}:", score)


def report_people(video: Path, labels: Labels, model: LoadedModel) -> None:
    """Print what a release with a detector sees on the sample video, and who was named where that was trained."""
    run = watch(timed(video), model)
    print(
        f"people found at IoU .5: {found_share(run, labels):.3f}; {run.frame_ms:.1f} ms a frame; {run.visits} visits"
    )
    print("people:", score_tracks(run.seen(), labels))
    print({name: round(value, 1) for name, value in run.counters.items()})
    known = model.manifest.labels
    if set(known) & set(labels.household):
        print("all:", score_names(run.sightings, labels, known))
        print("after 60 % of a person's frames:", score_names(run.sightings, labels, known, after=0.6))


def report_nobody(scene: Image, model: LoadedModel) -> None:
    """Print the sightings of what is nobody, and the cost of an empty room."""
    for name, frames in events(scene):
        run = watch(frames, model)
        print(f"{name}: {run.visits} sightings, {run.tracks} tracks, {run.frame_ms:.2f} ms a frame")
    still = watch(((scene, number / 10) for number in range(600)), model)
    print(f"an empty room: {still.frame_ms:.2f} ms a frame")


def report_clips(folder: Path | None, model: LoadedModel) -> None:
    """Print the tracks and sightings of other cameras' clips."""
    clips = sorted(path for path in folder.iterdir() if path.suffix in (".gif", ".mp4")) if folder else []
    for clip in clips:
        run = watch(timed(clip), model)
        print(f"{clip.name}: {run.tracks} tracks, {run.visits} visits, {run.frame_ms:.1f} ms a frame")
    if not clips:
        print("no clips (--clips FOLDER or KINWATCH_CLIPS): left out")


def main() -> None:
    """Print everything that docs/vision.md reports."""
    parser = argparse.ArgumentParser(description="Measure detection, tracks and pipeline on the sample video.")
    parser.add_argument("video", nargs="?", type=Path, help="vtest.avi; fetched if not given")
    parser.add_argument("--bundle", type=Path, default=TINY, help="a trained bundle (default: the tests' tiny one)")
    parser.add_argument(
        "--clips", type=Path, default=os.environ.get("KINWATCH_CLIPS"), help="a folder of other videos"
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    video, labels = arguments.video or sample_video(), load_labels(LABELS)
    report_motion(video, labels)
    model = load(arguments.bundle)
    report_people(video, labels, model)
    report_nobody(empty_scene(video), model)
    report_clips(arguments.clips, model)


if __name__ == "__main__":
    main()
