"""Owns the way of a frame: gate, people, tracks, crops, classifier, consensus, sighting. Refuses to know of updates.

People are found by the release's detector, in the whole frame and only as often as the room needs it; a release
without one has boxes of what moves. Everything that follows from a frame without the classifier (tracks, sightings of
visits that ended) is done before it runs: a model that fails loses no track and no earlier vote.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.camera.frame import Frame
from agent.vision.bodies import detail
from agent.vision.boxes import Region
from agent.vision.consensus import Electorate, add_vote, hears, wants_crop
from agent.vision.finding import DetectedPeople, Finder, MovingThings, PersonDetector
from agent.vision.gate import Gate, Look
from agent.vision.scene_clock import SceneClock
from agent.vision.settings import VisionSettings
from agent.vision.tracking import Observation, Track, Tracks, advance, counts
from agent.vision.visits import Shot, Visit
from agent.vision.zones import zone_of
from contract.manifest import Manifest
from contract.messages import Sighting
from contract.preprocess import Box, Image, crop


class Model(Protocol):
    """What the pipeline needs of a loaded release."""

    @property
    def manifest(self) -> Manifest:
        """The release's manifest."""

    @property
    def detector(self) -> PersonDetector | None:
        """What finds people; None in a release that brings nothing for that."""

    def judge(self, image: Image) -> tuple[NDArray[np.float32], float | None]:
        """Return probabilities (labels,) and familiarity of a BGR crop; ReleaseError when the model does not run."""


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """What came of one frame.

    ``looked``: people were looked for in it. ``boxes``: x, y, width, height in pixels; ``tracks``: those seen in it.
    """

    motion: bool
    looked: bool = False
    boxes: tuple[Box, ...] = ()
    tracks: tuple[Track, ...] = ()
    crops_classified: int = 0
    sightings: tuple[Sighting, ...] = ()


@dataclass
class PipelineCounters:
    """Sums since the start; times are milliseconds of wall time spent in each part."""

    frames: int = 0
    motion_frames: int = 0
    looks: int = 0  # frames in which people were looked for
    blind_frames: int = 0  # a scene change under way: nothing that moves can be found
    crops: int = 0
    crops_unfit: int = 0  # left out: somebody else in the box, or a body that is cut off
    sightings: int = 0  # visits that were told of
    motion_ms: float = 0.0
    detect_ms: float = 0.0
    tracking_ms: float = 0.0
    classify_ms: float = 0.0

    def fields(self) -> dict[str, float]:
        """Return the counters by name, for metrics."""
        return asdict(self)


@dataclass(frozen=True)
class _Loaded:
    """A release in use, with what its votes count by and what finds people for it."""

    model: Model
    electorate: Electorate
    slot: str | None


class Pipeline:
    """Takes frames in order, from one thread; ``use`` may be called from any.

    ``device`` is told in every sighting. ``wall_clock`` gives seconds since 1970, for the times that people read.
    """

    def __init__(
        self,
        device: str,
        settings: VisionSettings,
        on_sighting: Callable[[Sighting], None],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.device = device
        self.settings = settings
        self.counters = PipelineCounters()
        self._on_sighting = on_sighting
        self._wall_clock = wall_clock
        # With a track's number the name of a visit: numbers begin anew at each start.
        self._run = secrets.token_hex(4)
        self._gate = Gate(settings.gate)
        self._moving = MovingThings(settings.motion)
        self._people = DetectedPeople(settings.detection, settings.tracking)
        self._finder: Finder = self._moving
        self._tracks = Tracks()
        self._visits: dict[int, Visit] = {}
        self._clock = SceneClock()
        self._loop, self._motion = 0, False
        self._guard = threading.Lock()
        self._loaded: _Loaded | None = None
        self._generation = 0

    def use(self, model: Model | None, slot: str | None = None) -> None:
        """Swap the model and its detector, or take them away; the next ``step`` runs with them.

        Args:
            model: the loaded release.
            slot: where it lies, for what is told of its decisions.
        """
        with self._guard:
            self._generation += 1
            electorate = Electorate.of(model.manifest, self._generation) if model else None
            self._loaded = _Loaded(model, electorate, slot) if model and electorate else None

    def step(self, frame: Frame) -> FrameResult:
        """Take one frame through everything.

        Raises:
            ReleaseError: the model failed. The frame is counted, tracks and votes are kept; go on after ``use``.
            InputError: the frame is no BGR image.
        """
        with self._guard:
            loaded = self._loaded
        self.counters.frames += 1
        frame = replace(frame, time_s=self._clock.at(frame))
        sightings = self._begin_anew(frame, loaded)
        look = self._look(frame)
        found = self._find(frame, look)
        seen: tuple[Track, ...] = ()
        before = self.counters.crops
        if found is not None:
            seen, ended = self._track(found, frame)
            sightings += [made for track in ended if (made := self._tell(track.id, ended=True))]
            if loaded is not None:
                sightings += self._vote(frame, seen, loaded)
        return FrameResult(
            motion=self._moved(look, found),
            looked=found is not None,
            boxes=tuple(_whole_pixels(one.box) for one in found or ()),
            tracks=seen,
            crops_classified=self.counters.crops - before,
            sightings=tuple(sightings),
        )

    def finish(self) -> list[Sighting]:
        """Decide every visit that is still under way, as at the end of a video, and forget them all."""
        open_tracks = [track.id for track in self._tracks.living if counts(track, self._finder.tracking)]
        self._tracks = Tracks(next_id=self._tracks.next_id)
        made = [self._tell(track, ended=True) for track in open_tracks]
        self._visits.clear()
        return [sighting for sighting in made if sighting]

    def rest(self) -> list[Sighting]:
        """Decide and forget what is in view, before a pause: after it, it is another picture."""
        made = self.finish()
        self._gate.reset()
        self._finder.reset()
        self._motion = False
        return made

    def _begin_anew(self, frame: Frame, loaded: _Loaded | None) -> list[Sighting]:
        """Forget who is in view when the video began again, or when people are found in another way from now on."""
        detector = loaded.model.detector if loaded else None
        if detector is not None:
            self._people.use(detector)
        finder: Finder = self._moving if detector is None else self._people
        again, self._loop = frame.loop_count != self._loop, frame.loop_count
        if not again and finder is self._finder:
            return []
        made = self.finish()
        self._finder = finder
        self._finder.reset()
        if again:
            self._gate.reset()
        return made

    def _look(self, frame: Frame) -> Look | None:
        begin = time.perf_counter()
        look = self._gate.look(frame.image, frame.time_s)
        self.counters.motion_ms += (time.perf_counter() - begin) * 1000
        return look

    def _find(self, frame: Frame, look: Look | None) -> list[Observation] | None:
        begin = time.perf_counter()
        try:
            found = self._finder.find(frame, look, present=bool(self._tracks.living))
        finally:
            self.counters.detect_ms += (time.perf_counter() - begin) * 1000
        self.counters.looks += found is not None
        self.counters.blind_frames = self._moving.blind_frames
        return found

    def _track(self, found: Sequence[Observation], frame: Frame) -> tuple[tuple[Track, ...], tuple[Track, ...]]:
        begin = time.perf_counter()
        done = advance(self._tracks, found, frame.time_s, self._finder.tracking)
        self._tracks = done.tracks
        # Frames carry monotonic time and boards jump in wall time: it is read now, and only shown.
        wall_s = self._wall_clock()
        for track in done.tracks.living:
            if track.last_s == frame.time_s:
                visit = self._visits.setdefault(track.id, Visit(track.id, frame.index, wall_s))
                shape = frame.image.shape
                visit.seen(frame.index, wall_s, shape, zone_of(self.settings.zones, track.box, shape))
        known = {track.id for track in (*done.tracks.living, *done.ended)}
        self._visits = {track: visit for track, visit in self._visits.items() if track in known}
        self.counters.tracking_ms += (time.perf_counter() - begin) * 1000
        return done.seen, done.ended

    def _vote(self, frame: Frame, seen: tuple[Track, ...], loaded: _Loaded) -> list[Sighting]:
        made = []
        for track in seen:
            visit = self._visits[track.id]
            if not hears(visit.votes, loaded.electorate) or visit.votes.crops >= self.settings.consensus.most_crops:
                continue
            if track.clear and track.whole:
                visit.offer(self._shot(frame, track, loaded))
            else:
                self.counters.crops_unfit += 1
            if visit.waiting and wants_crop(visit.votes, frame.time_s, self.settings.consensus):
                self._classify(visit, frame.time_s, loaded)
                sighting = self._tell(track.id)
                made += [sighting] if sighting else []
        return made

    def _shot(self, frame: Frame, track: Track, loaded: _Loaded) -> Shot:
        box, whole = _whole_pixels(track.box), frame.image if frame.large is None else frame.large
        image = crop(whole, _at_size(track.box, frame.image, whole), loaded.model.manifest.preprocess.context)
        return Shot(image, detail(image, box[3] / frame.image.shape[0]), frame.index, box)

    def _classify(self, visit: Visit, time_s: float, loaded: _Loaded) -> None:
        shot = visit.waiting
        assert shot is not None
        begin = time.perf_counter()
        try:
            probabilities, familiarity = loaded.model.judge(shot.image)
        finally:
            self.counters.classify_ms += (time.perf_counter() - begin) * 1000
            self.counters.crops += 1
        row = [float(value) for value in probabilities]
        visit.voted(add_vote(visit.votes, loaded.electorate, row, time_s, familiarity), shot, loaded.slot)

    def _tell(self, track: int, *, ended: bool = False) -> Sighting | None:
        """Make a sighting if the visit is decided, corrected or over now, and tell of it."""
        visit = self._visits[track]
        first = visit.votes.decision is None
        decision, upgrade = visit.decide(self.settings.consensus, ended=ended)
        if ended:
            del self._visits[track]
        if decision is None:
            return None
        name = f"{self._run}-{track}"
        sighting = visit.sighting(self.device, name, decision, upgrade=upgrade, ended=ended)
        self.counters.sightings += first
        self._on_sighting(sighting)
        return sighting

    def _moved(self, look: Look | None, found: Sequence[Observation] | None) -> bool:
        """Return whether there is motion that somebody wants to hear of; between two looks as at the last one."""
        if self._finder is self._moving:
            self._motion = self._motion if found is None else bool(found)
        elif look is not None:
            people = any(counts(track, self._finder.tracking) for track in self._tracks.living)
            self._motion = people or (self.settings.detection.other_motion and look.open)
        self.counters.motion_frames += self._motion
        return self._motion


def _at_size(box: Region, image: Image, whole: Image) -> Box:
    """Return where ``box`` of ``image`` is on ``whole``, the same picture in another size."""
    wider, higher = whole.shape[1] / image.shape[1], whole.shape[0] / image.shape[0]
    return _whole_pixels((box[0] * wider, box[1] * higher, box[2] * wider, box[3] * higher))


def _whole_pixels(box: Region) -> Box:
    x, y, width, height = (round(value) for value in box)
    return x, y, max(1, width), max(1, height)
