"""Owns making a dataset from a video and its labels; refuses to guess who is on a picture.

Crops are cut by ``contract.preprocess.crop``, the code that the device runs (10 % context, clipped to the frame):
around the labelled boxes, or around what a detector finds there, which is what the device cuts.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2

from cloud_tools.datasets.dataset import NAME, Crop, Dataset, pixel_digest
from cloud_tools.datasets.found_people import as_found
from cloud_tools.datasets.labels import Labels
from cloud_tools.datasets.person_ids import label_of
from cloud_tools.datasets.splits import GAP, HOLE_FRAMES, RULE, TEST, split_by_time, split_visits
from cloud_tools.progress import Ticks, no_ticks
from contract.detection.runner import DetectorRunner
from contract.errors import InputError
from contract.files import atomic_folder, atomic_write, sha256_file
from contract.manifest import UNKNOWN
from contract.preprocess import Box, Image, crop
from contract.video.reader import FILE_LIMIT_S, VideoReader, open_video

Items = list[tuple[Crop, Box]]
Wanted = dict[int, Items]  # by frame


def dataset_from_video(
    video: Path,
    labels: Labels,
    out: Path,
    *,
    people: Sequence[str] = (),
    every: int = 1,
    gap_s: float = 1.0,
    detector: Callable[[], DetectorRunner] | None = None,
    ticks: Ticks = no_ticks,
) -> Dataset:
    """Cut the labelled people out of ``video`` into the new folder ``out``.

    Args:
        people: household members to take, by label or name (empty: all); others are left out, they are no strangers.
        every: take every nth labelled frame of a visit.
        gap_s: least time between a test crop and a train crop of the same person, in seconds of the video.
        detector: makes a detector, once nothing else is wrong. What it finds of the labelled people is cut; whom it
            does not find in a frame has no crop of it.

    Raises:
        InputError: ``out`` exists, no such person, no video, or not the video of the labels. Nothing is left then.
        ReleaseError: the detector does not run; and what ``detector`` raises. Nothing is left then.
        OSError: the disk refused. Nothing is left then.
    """
    people = [label_of(name, labels.names) for name in people]
    _check(video, labels, out, people, gap_s)
    with open_video(video) as reader:
        fps = reader.fps
        _check_size(video, labels, reader)
        wanted = _plan(labels, tuple(dict.fromkeys(people or labels.household)), every, gap_s, fps)
        source: dict[str, object] = {
            "video_sha256": sha256_file(video),
            "fps": fps,
            "every": every,
            "gap_s": gap_s,
            "hole_frames": HOLE_FRAMES,
            "split": RULE,
        }
        with atomic_folder(out) as building:
            frames = _frames(reader, wanted, ticks)
            if detector is not None:
                frames = _found(frames, detector(), source)
            crops = [item for frame in frames for item in _cut(*frame, building)]
            if reader.lost:
                source["lost_frames"] = reader.lost
            crops.sort(key=lambda item: (item.person, item.frame, item.file))
            there = {item.person for item in crops}
            names = {label: name for label, name in labels.names.items() if label in there}
            dataset = Dataset(out, source, tuple(crops), names)
            atomic_write(building / NAME, dataset.to_bytes())
    return dataset


def _check(video: Path, labels: Labels, out: Path, people: Sequence[str], gap_s: float) -> None:
    if not 0 <= gap_s < float("inf"):
        raise InputError(f"a gap of {gap_s} s is no time")
    missing = [name for name in people if name not in labels.household]
    if missing:
        raise InputError(f"the labels know no {missing[0]!r} (they know {', '.join(labels.household)})")
    if out.exists():
        raise InputError(f"{out} exists; name a folder that does not")
    if not video.is_file():
        raise InputError(f"{video}: no such file")
    if labels.sha256 and sha256_file(video) != labels.sha256:
        raise InputError(f"{video} is not the video of these labels (another SHA-256)")


def _check_size(video: Path, labels: Labels, reader: VideoReader) -> None:
    if reader.size != (labels.width, labels.height):
        width, height = reader.size
        raise InputError(f"{video} is {width}x{height}, the labels are for {labels.width}x{labels.height}")


def _plan(labels: Labels, people: Sequence[str], every: int, gap_s: float, fps: float) -> Wanted:
    wanted: Wanted = {}
    members = [(name, name, labels.household[name]) for name in people]
    strangers = [(UNKNOWN, name, boxes) for name, boxes in labels.strangers.items()]
    for person, name, boxes in members + strangers:
        visits = [visit[::every] for visit in split_visits(list(boxes))]
        sides = split_by_time(visits, gap_s * fps)
        for i, visit in enumerate(visits):
            for frame in visit:
                side = TEST if person == UNKNOWN else sides[frame]
                if side != GAP:
                    file = f"crops/{person}/{name}-{frame:06d}.png"
                    item = Crop(
                        file=file,
                        person=person,
                        frame=frame,
                        time_s=round(frame / fps, 3),
                        visit=f"{name}/{i}",
                        split=side,
                        pixels="",
                    )
                    wanted.setdefault(frame, []).append((item, boxes[frame]))
    return wanted


def _frames(reader: VideoReader, wanted: Wanted, ticks: Ticks) -> Iterator[tuple[Image, Items]]:
    """Return the wanted frames with what is to be cut out of them; a frame lost to damage has no crops."""
    last, number = max(wanted, default=-1), -1
    while number < last:
        picture = reader.read(FILE_LIMIT_S)
        if picture is None:
            raise InputError(f"{reader.name} ends at frame {number + 1}, the labels go on to frame {last}")
        number = picture.number
        if number in wanted:
            yield picture.pixels, wanted[number]
        ticks(min(number, last) + 1, last + 1)


def _found(
    frames: Iterator[tuple[Image, Items]], detector: DetectorRunner, source: dict[str, object]
) -> Iterator[tuple[Image, Items]]:
    """Return ``frames`` with the boxes that ``detector`` finds; ``source`` tells of it and, last, whom it missed."""
    source["detector_sha256"] = detector.detector.sha256
    missed = 0
    for image, items in frames:
        found = as_found(image, items, detector)
        missed += len(items) - len(found)
        yield image, found
    source["not_found"] = missed


def _cut(image: Image, items: Items, folder: Path) -> Iterator[Crop]:
    for item, box in items:
        cut = crop(image, box)
        path = folder / item.file
        path.parent.mkdir(parents=True, exist_ok=True)
        ok, data = cv2.imencode(".png", cut)
        if not ok:
            raise InputError(f"{item.file}: cannot be written as PNG")
        path.write_bytes(data.tobytes())
        yield dataclasses.replace(item, pixels=pixel_digest(cut))
