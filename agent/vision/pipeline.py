"""Owns the way of a frame: motion, tracks, crops, classifier, consensus, sighting. Refuses to know of updates.

Everything that follows from a frame without the model (tracks, sightings of tracks that ended) is done before the
model runs: a model that fails loses no frame and no earlier vote.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.camera.frame import Frame
from agent.vision.consensus import ConsensusSettings, Decision, Electorate, Votes, add_vote, decide, hears, wants_crop
from agent.vision.motion import MotionDetector, MotionSettings
from agent.vision.sightings import utc_text
from agent.vision.tracking import Track, Tracks, TrackSettings, advance, counts
from contract.manifest import Manifest
from contract.messages import Sighting
from contract.preprocess import Box, Image, crop


class Model(Protocol):
    """What the pipeline needs of ``contract.bundle_runner.BundleRunner``."""

    @property
    def manifest(self) -> Manifest:
        """The release's manifest."""

    def judge(self, image: Image) -> tuple[NDArray[np.float32], float | None]:
        """Return probabilities (labels,) and familiarity of a BGR crop; ReleaseError when the model does not run."""


@dataclass(frozen=True)
class PipelineSettings:
    """The settings of every part, and the device's name, which every sighting carries."""

    device: str
    motion: MotionSettings = field(default_factory=MotionSettings)
    tracking: TrackSettings = field(default_factory=TrackSettings)
    consensus: ConsensusSettings = field(default_factory=ConsensusSettings)


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """What came of one frame. ``boxes``: x, y, width, height in pixels; ``tracks``: those seen in this frame."""

    motion: bool
    boxes: tuple[Box, ...]
    tracks: tuple[Track, ...]
    crops_classified: int
    sightings: tuple[Sighting, ...]


@dataclass
class PipelineCounters:
    """Sums since the start; times are milliseconds of wall time spent in each part."""

    frames: int = 0
    motion_frames: int = 0
    blind_frames: int = 0  # a scene change under way: nothing can be found
    crops: int = 0
    crops_shared: int = 0  # left out: two people in one box
    sightings: int = 0
    motion_ms: float = 0.0
    tracking_ms: float = 0.0
    classify_ms: float = 0.0

    def fields(self) -> dict[str, float]:
        """Return the counters by name, for metrics."""
        return asdict(self)


@dataclass(frozen=True)
class _Follow:
    """What is kept of a living track beside the tracker's own: votes, and when and where it was."""

    first_index: int
    first_wall_s: float
    last_index: int = 0
    last_wall_s: float = 0.0
    votes: Votes = field(default_factory=Votes)
    voted_index: int = 0
    voted_box: Box = (0, 0, 0, 0)


class Pipeline:
    """Takes frames in order, from one thread; ``use`` may be called from any.

    ``wall_clock`` gives seconds since 1970, for the times that people read.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        on_sighting: Callable[[Sighting], None],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.counters = PipelineCounters()
        self._on_sighting = on_sighting
        self._wall_clock = wall_clock
        self._detector = MotionDetector(settings.motion)
        self._tracks = Tracks()
        self._follows: dict[int, _Follow] = {}
        self._loop = 0
        self._guard = threading.Lock()
        self._model: tuple[Model, Electorate] | None = None
        self._generation = 0

    def use(self, model: Model | None) -> None:
        """Swap the model, or take it away; the next ``step`` runs with it, the one under way ends with the old."""
        with self._guard:
            self._generation += 1
            self._model = None if model is None else (model, Electorate.of(model.manifest, self._generation))

    def step(self, frame: Frame) -> FrameResult:
        """Take one frame through everything.

        Raises:
            ReleaseError: the model failed. The frame is counted and tracked, votes are kept; go on after ``use``.
            InputError: the frame is no BGR image.
        """
        with self._guard:
            model = self._model
        sightings: list[Sighting] = []
        if frame.loop_count != self._loop:  # the video began again: nobody in it is where they were
            self._loop = frame.loop_count
            sightings += self.finish()
        boxes = self._find(frame)
        seen, ended = self._track(boxes, frame)
        sightings += [made for track in ended if (made := self._decide(track, ended=True))]
        before = self.counters.crops
        if model is not None:
            sightings += self._vote(frame, seen, *model)
        return FrameResult(
            motion=bool(boxes),
            boxes=tuple(boxes),
            tracks=seen,
            crops_classified=self.counters.crops - before,
            sightings=tuple(sightings),
        )

    def finish(self) -> list[Sighting]:
        """Decide every track that is still open, as at the end of a video, and forget them all."""
        open_tracks = [track for track in self._tracks.living if counts(track, self.settings.tracking)]
        self._tracks = Tracks(next_id=self._tracks.next_id)
        made = [self._decide(track, ended=True) for track in open_tracks]
        self._follows.clear()
        return [sighting for sighting in made if sighting]

    def _find(self, frame: Frame) -> list[Box]:
        begin = time.perf_counter()
        boxes = self._detector.find(frame.image)
        self.counters.motion_ms += (time.perf_counter() - begin) * 1000
        self.counters.frames += 1
        self.counters.motion_frames += bool(boxes)
        self.counters.blind_frames = self._detector.blind_frames
        return boxes

    def _track(self, boxes: list[Box], frame: Frame) -> tuple[tuple[Track, ...], tuple[Track, ...]]:
        begin = time.perf_counter()
        done = advance(self._tracks, boxes, frame.sequence, self.settings.tracking)
        self._tracks = done.tracks
        # Frames carry monotonic time and boards jump in wall time: it is read now, and only shown.
        wall_s = self._wall_clock()
        for track in done.seen:
            follow = self._follows.get(track.id) or _Follow(frame.index, wall_s)
            self._follows[track.id] = replace(follow, last_index=frame.index, last_wall_s=wall_s)
        self.counters.tracking_ms += (time.perf_counter() - begin) * 1000
        return done.seen, done.ended

    def _vote(self, frame: Frame, seen: tuple[Track, ...], model: Model, electorate: Electorate) -> list[Sighting]:
        made = []
        for track in seen:
            votes = self._follows[track.id].votes
            if not hears(votes, electorate) or not wants_crop(votes, frame.sequence, self.settings.consensus):
                continue
            if not track.alone:
                self.counters.crops_shared += 1
                continue
            probabilities, familiarity = self._judge(model, frame.image, track.box)
            row = [float(value) for value in probabilities]
            self._follows[track.id] = replace(
                self._follows[track.id],
                votes=add_vote(votes, electorate, row, frame.sequence, familiarity),
                voted_index=frame.index,
                voted_box=track.box,
            )
            sighting = self._decide(track)
            made += [sighting] if sighting else []
        return made

    def _judge(self, model: Model, image: Image, box: Box) -> tuple[NDArray[np.float32], float | None]:
        begin = time.perf_counter()
        try:
            return model.judge(crop(image, box, model.manifest.preprocess.context))
        finally:
            self.counters.classify_ms += (time.perf_counter() - begin) * 1000
            self.counters.crops += 1

    def _decide(self, track: Track, *, ended: bool = False) -> Sighting | None:
        """Make a sighting of ``track`` if its votes decide it now, and tell of it."""
        follow = self._follows[track.id]
        upgrade = follow.votes.decision is not None
        votes, decision = decide(follow.votes, self.settings.consensus, ended=ended)
        if ended:
            del self._follows[track.id]
        else:
            self._follows[track.id] = replace(follow, votes=votes)
        if decision is None:
            return None
        sighting = self._sighting(track.id, follow, decision, upgrade)
        self.counters.sightings += 1
        self._on_sighting(sighting)
        return sighting

    def _sighting(self, track: int, follow: _Follow, decision: Decision, upgrade: bool) -> Sighting:
        return Sighting(
            device=self.settings.device,
            track=track,
            label=decision.label,
            confidence=decision.confidence,
            version=decision.version,
            frame=follow.voted_index,
            box=follow.voted_box,
            crops=decision.crops,
            first_frame=follow.first_index,
            last_frame=follow.last_index,
            first_seen=utc_text(follow.first_wall_s),
            last_seen=utc_text(follow.last_wall_s),
            upgrade=upgrade,
        )
