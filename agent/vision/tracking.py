"""Owns which boxes of successive frames are the same thing: pure functions from tracks and boxes to tracks.

Refuses pictures, clocks and names. A track is a promise about identity that votes are summed over, so two people in
one track do more harm than one person in two tracks: where it is in doubt, a new track begins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from contract.preprocess import Box


@dataclass(frozen=True)
class TrackSettings:
    """How boxes are joined to tracks. Frames are frames of the camera; distances are shares of a box's height."""

    timeout_frames: int = 30  # a track without a box for longer has ended
    least_hits: int = 5  # boxes before a track counts: a shadow that flickers makes no sighting
    tentative_frames: int = 3  # a track that does not count yet ends after so long without a box
    reach: float = 0.3  # how far from the expected place a box may be; it does not grow while a track waits
    most_growth: float = 1.3  # a box that is so much higher or wider than the track's is another thing, or a group

    def __post_init__(self) -> None:
        """Refuse settings under which no track could live."""
        if self.timeout_frames < 1 or self.least_hits < 1 or self.tentative_frames < 1:
            raise ValueError("timeout_frames, least_hits and tentative_frames must be at least 1")
        if self.reach <= 0 or self.most_growth <= 1:
            raise ValueError("reach must be above 0 and most_growth above 1")


@dataclass(frozen=True)
class Track:
    """One thing followed through frames.

    ``hits`` counts boxes; ``velocity`` is in pixels a frame, smoothed; ``size`` is the smoothed (width, height);
    ``alone`` tells that the newest box holds no second track, so that a crop of it shows one person.
    """

    id: int
    box: Box
    last_frame: int
    hits: int = 1
    velocity: tuple[float, float] = (0.0, 0.0)
    size: tuple[float, float] = (0.0, 0.0)
    alone: bool = True

    def expected_centre(self, frame: int) -> tuple[float, float]:
        """Return where the centre should be at ``frame``, going on at the same velocity; (x, y) in pixels."""
        x, y = centre(self.box)
        # Half a second of straight walking is believed; people turn.
        frames = min(frame - self.last_frame, 8)
        return x + self.velocity[0] * frames, y + self.velocity[1] * frames


@dataclass(frozen=True)
class Tracks:
    """All living tracks; ``next_id`` only grows, so an id never comes back."""

    living: tuple[Track, ...] = ()
    next_id: int = 1


@dataclass(frozen=True)
class Advance:
    """What a frame did. ``seen``: tracks that have a box in it; ``ended``: those it ended; both counted ones only."""

    tracks: Tracks
    seen: tuple[Track, ...] = field(default=())
    ended: tuple[Track, ...] = field(default=())


def advance(tracks: Tracks, boxes: Sequence[Box], frame: int, settings: TrackSettings) -> Advance:
    """Join ``boxes`` of frame number ``frame`` to tracks, one to one, and end tracks that are overdue.

    Args:
        tracks: the state after an earlier frame.
        boxes: x, y, width, height in pixels.
        frame: grows from call to call; frames that the camera dropped may be missing.

    Raises:
        ValueError: ``frame`` is not later than the newest box of a track.
    """
    if any(track.last_frame >= frame for track in tracks.living):
        raise ValueError(f"frame {frame} comes after later ones")
    matched = _match(tracks.living, boxes, frame, settings)
    moved = [_moved(track, boxes[matched[track.id]], frame) for track in tracks.living if track.id in matched]
    missing = [track for track in tracks.living if track.id not in matched]
    kept = [track for track in missing if not _overdue(track, frame, settings)]
    fresh = _fresh_boxes(boxes, set(matched.values()))
    started = [Track(tracks.next_id + i, box, frame, size=(box[2], box[3])) for i, box in enumerate(fresh)]
    moved = [replace(track, alone=_alone(track, moved + kept, frame, settings)) for track in moved]
    living = tuple(sorted([*moved, *kept, *started], key=lambda track: track.id))
    return Advance(
        Tracks(living, tracks.next_id + len(started)),
        tuple(track for track in living if track.last_frame == frame and counts(track, settings)),
        tuple(track for track in missing if counts(track, settings) and _overdue(track, frame, settings)),
    )


def counts(track: Track, settings: TrackSettings) -> bool:
    """Return whether a track has had enough boxes to be believed."""
    return track.hits >= settings.least_hits


def centre(box: Box) -> tuple[float, float]:
    """Return the centre (x, y) of a box."""
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _match(tracks: Sequence[Track], boxes: Sequence[Box], frame: int, settings: TrackSettings) -> dict[int, int]:
    """Return the box number of each track that has one: nearest pairs first, whatever the order of the input."""
    pairs = []
    for track in tracks:
        for number, box in enumerate(boxes):
            cost = _cost(track, box, frame, settings)
            if cost is not None:
                pairs.append((cost, track.id, number))
    matched: dict[int, int] = {}
    taken: set[int] = set()
    for _, track_id, number in sorted(pairs):
        if track_id not in matched and number not in taken:
            matched[track_id] = number
            taken.add(number)
    return matched


def _cost(track: Track, box: Box, frame: int, settings: TrackSettings) -> float | None:
    """Return how badly a box fits a track (0: exactly where expected), or None when it cannot be the same thing."""
    width, height = track.size
    if max(box[3] / height, height / box[3]) > settings.most_growth:
        return None
    # Width changes with every step; only what is wider than a stride is a second person.
    if box[2] > settings.most_growth * max(width, 0.5 * height):
        return None
    expected, found = track.expected_centre(frame), centre(box)
    distance = math.hypot(expected[0] - found[0], expected[1] - found[1]) / max(height, box[3])
    if distance > settings.reach:
        return None
    missed = frame - track.last_frame - 1
    # A track that has waited long yields to one that has not, and a certain one wins over a tentative one.
    return distance + 0.02 * missed + (0.0 if counts(track, settings) else 0.1) + 0.2 * abs(math.log(box[3] / height))


def _moved(track: Track, box: Box, frame: int) -> Track:
    frames = frame - track.last_frame
    (x0, y0), (x1, y1) = centre(track.box), centre(box)
    blend = 0.5 if track.hits < 4 else 0.25  # box edges jitter by some pixels: the newest step counts a quarter
    velocity = tuple(
        (1 - blend) * old + blend * step / frames
        for old, step in zip(track.velocity, (x1 - x0, y1 - y0), strict=True)
    )
    size = tuple(0.8 * old + 0.2 * new for old, new in zip(track.size, box[2:], strict=True))
    return replace(
        track,
        box=box,
        last_frame=frame,
        hits=track.hits + 1,
        velocity=(velocity[0], velocity[1]),
        size=(size[0], size[1]),
    )


def _overdue(track: Track, frame: int, settings: TrackSettings) -> bool:
    limit = settings.timeout_frames if counts(track, settings) else settings.tentative_frames
    return frame - track.last_frame > limit


def _fresh_boxes(boxes: Sequence[Box], taken: set[int]) -> list[Box]:
    return [box for number, box in enumerate(boxes) if number not in taken]


def _alone(track: Track, others: Sequence[Track], frame: int, settings: TrackSettings) -> bool:
    """Return whether no other counted track is, or should be, within the box of ``track``."""
    x, y, width, height = track.box
    for other in others:
        if other.id == track.id or not counts(other, settings) or frame - other.last_frame > 10:
            continue
        other_x, other_y = other.expected_centre(frame)
        if x <= other_x <= x + width and y <= other_y <= y + height:
            return False
    return True
