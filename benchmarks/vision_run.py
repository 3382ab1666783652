"""Owns one run of a video through the whole pipeline, and where its tracks were in each frame; refuses to score."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from agent.camera.frame import Frame
from agent.vision.boxes import Region
from agent.vision.classifier import LoadedModel
from agent.vision.pipeline import Pipeline
from agent.vision.settings import VisionSettings
from agent.vision.tracking import Track
from contract.messages import Sighting
from contract.preprocess import Box, Image
from contract.video.reader import pictures


@dataclass(frozen=True)
class Run:
    """What came of a video: tracks by frame where it was looked at, sightings, counters, processor time a frame."""

    looks: dict[int, tuple[Track, ...]]
    frames: int
    boxes: dict[int, tuple[Box, ...]]
    sightings: list[Sighting]
    counters: dict[str, float]
    frame_ms: float

    @property
    def visits(self) -> int:
        """Sightings as whoever counts them takes them."""
        return sum(sighting.end is not None for sighting in self.sightings)

    @property
    def tracks(self) -> int:
        """Tracks that counted."""
        return len({track.id for tracks in self.looks.values() for track in tracks})

    def seen(self) -> list[tuple[Track, ...]]:
        """Return where each counted track is in every frame: between two looks on the straight line."""
        paths: dict[int, list[tuple[int, Track]]] = {}
        for frame, tracks in self.looks.items():
            for track in tracks:
                paths.setdefault(track.id, []).append((frame, track))
        found: list[list[Track]] = [[] for _ in range(self.frames)]
        for path in paths.values():
            for (first, before), (last, after) in zip(path, [*path[1:], path[-1]], strict=True):
                for frame in range(first, max(last, first + 1)):
                    share = (frame - first) / max(1, last - first)
                    found[frame].append(replace(before, box=_between(before.box, after.box, share)))
        return [tuple(tracks) for tracks in found]


def _between(before: Region, after: Region, share: float) -> Region:
    x, y, width, height = ((1 - share) * one + share * other for one, other in zip(before, after, strict=True))
    return x, y, width, height


def watch(frames: Iterable[tuple[Image, float]], model: LoadedModel) -> Run:
    """Take frames with their times through the whole pipeline."""
    sightings: list[Sighting] = []
    pipeline = Pipeline("bench", VisionSettings(), sightings.append)
    pipeline.use(model)
    looks, boxes, busy, number = {}, {}, 0.0, -1
    for number, (image, time_s) in enumerate(frames):
        begin = time.thread_time()
        result = pipeline.step(Frame(image, number, number, time_s))
        busy += time.thread_time() - begin
        if result.looked:
            looks[number], boxes[number] = result.tracks, result.boxes
    pipeline.finish()
    count = number + 1
    return Run(looks, count, boxes, sightings, pipeline.counters.fields(), 1000 * busy / max(1, count))


def timed(video: Path) -> Iterator[tuple[Image, float]]:
    """Return the frames of any video with their times."""
    return ((picture.pixels, picture.time_s) for picture in pictures(video))
