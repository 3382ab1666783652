"""Owns which detections of successive looks are the same person: pure functions from tracks and detections to tracks.

Refuses pictures, clocks and names. Two thresholds, as in ByteTrack: what is surely a person begins a track, what is
perhaps one only goes on with a track that is there. A track is a promise about identity that votes are summed over,
so two people in one track do more harm than one person in two: after contact or a gap the colours must agree.

Times are seconds and lengths are shares of a box, so that no rate, resolution or aspect of a camera matters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from agent.vision.boxes import Region, centre, inside, overlap

Colours = tuple[float, ...]


@dataclass(frozen=True)
class TrackSettings:
    """How detections are joined to tracks. Lengths are shares of a box's height."""

    least_hits: int = 3  # detections before a track counts: a shadow that flickers makes no sighting ...
    least_whole: int = 2  # ... and so many sure ones of a whole body: neither does an arm
    memory_s: float = 2.0  # a track without a detection for longer has ended ...
    still_memory_s: float = 10.0  # ... unless it stood still: who sits in the dark has not left
    tentative_s: float = 0.7  # a track that does not count yet ends after so long
    least_overlap: float = 0.3  # of the expected box and a detection (intersection over union) ...
    reach: float = 0.15  # ... or their centres are nearer than this ...
    reach_per_s: float = 1.0  # ... and this for each second between them ...
    most_reach: float = 0.75  # ... up to this
    most_growth: float = 1.4  # between the heights of two such
    most_jump: float = 2.5  # of a height, or over a stride of a width, from one detection to the next: else a group
    least_likeness: float = 0.7  # of colours, after contact ...
    gap_likeness: float = 0.85  # ... and after a gap ...
    gap_s: float = 0.7  # ... which is longer than this
    hidden_s: float = 1.0  # who was last seen so long ago may be hidden behind somebody

    def __post_init__(self) -> None:
        """Refuse settings under which no track could live."""
        if not 0 <= self.least_whole <= self.least_hits or self.least_hits < 1:
            raise ValueError("least_hits must be at least 1, least_whole not over it")
        if not 0 < self.tentative_s <= self.memory_s <= self.still_memory_s:
            raise ValueError("0 < tentative_s <= memory_s <= still_memory_s is needed")
        if (
            not 0 < self.least_overlap <= 1
            or not 0 < self.reach <= self.most_reach
            or min(self.most_growth, self.most_jump) <= 1
        ):
            raise ValueError(
                "least_overlap must be in (0, 1], 0 < reach <= most_reach, most_growth and most_jump above 1"
            )


@dataclass(frozen=True, eq=False)
class Observation:
    """A detection, with what tracks need to know of its picture.

    ``sure``: its score may begin a track; what is less sure only goes on with one. ``whole``: it shows a body, not a
    part of one. ``colours``: a histogram of unit length; None where there is none.
    """

    box: Region
    sure: bool = True
    whole: bool = True
    colours: Colours | None = None


@dataclass(frozen=True, eq=False)
class Track:
    """One person followed through looks.

    ``hits`` counts detections, ``whole_hits`` the sure ones of a whole body; ``velocity`` is smoothed, in pixels
    a second; ``clear`` tells that nobody else is in its newest box; ``touched`` that somebody was
    since ``colours`` are of. ``still_since_s``: since when it has not moved.
    """

    id: int
    box: Region
    begin_s: float
    last_s: float
    hits: int = 1
    whole_hits: int = 0
    whole: bool = True
    velocity: tuple[float, float] = (0.0, 0.0)
    clear: bool = True
    touched: bool = False
    colours: Colours | None = None
    still_box: Region = (0.0, 0.0, 0.0, 0.0)
    still_since_s: float = 0.0

    def expected(self, time_s: float) -> Region:
        """Return where the box should be at ``time_s``, going on at the same velocity."""
        # Most of a second of straight walking is believed; people turn.
        ahead_s = min(time_s - self.last_s, 0.8)
        x, y, width, height = self.box
        return x + self.velocity[0] * ahead_s, y + self.velocity[1] * ahead_s, width, height

    def still_s(self) -> float:
        """Return for how long it has not moved, when it was last seen."""
        return self.last_s - self.still_since_s


@dataclass(frozen=True, eq=False)
class Tracks:
    """All living tracks; ``next_id`` only grows, so an id never comes back."""

    living: tuple[Track, ...] = ()
    next_id: int = 1


@dataclass(frozen=True, eq=False)
class Advance:
    """What a look did. ``seen``: tracks that were detected in it; ``ended``: those it ended; counted ones only."""

    tracks: Tracks
    seen: tuple[Track, ...] = ()
    ended: tuple[Track, ...] = ()


def advance(tracks: Tracks, found: Sequence[Observation], time_s: float, settings: TrackSettings) -> Advance:
    """Join what was ``found`` at ``time_s`` to tracks, one to one, and end tracks that are overdue.

    Raises:
        ValueError: ``time_s`` is not later than the newest look.
    """
    if any(track.last_s >= time_s for track in tracks.living):
        raise ValueError(f"a look at {time_s} comes after later ones")
    # Sorted, so that neither matches nor ids depend on the order in which a detector gives them.
    found = sorted(found, key=lambda one: (not one.sure, one.box))
    expected = [track.expected(time_s) for track in tracks.living if _near_in_time(track, time_s, settings)]
    touching = [_touches(one, found, expected) for one in found]
    matched = _match(tracks.living, found, touching, time_s, settings)
    moved = [
        _moved(track, found[matched[track.id]], touching[matched[track.id]], time_s)
        for track in tracks.living
        if track.id in matched
    ]
    missing = [track for track in tracks.living if track.id not in matched]
    kept = [track for track in missing if not _overdue(track, time_s, settings)]
    taken = set(matched.values())
    free = [(one, touch) for i, (one, touch) in enumerate(zip(found, touching, strict=True)) if i not in taken]
    fresh = [pair for pair in free if _begins(pair[0], found)]
    started = [_started(tracks.next_id + i, *pair, time_s) for i, pair in enumerate(fresh)]
    moved = [replace(track, clear=_clear(track, found, kept, time_s, settings)) for track in moved]
    living = tuple(sorted([*moved, *kept, *started], key=lambda track: track.id))
    return Advance(
        Tracks(living, tracks.next_id + len(started)),
        tuple(track for track in living if track.last_s == time_s and counts(track, settings)),
        tuple(track for track in missing if counts(track, settings) and _overdue(track, time_s, settings)),
    )


def counts(track: Track, settings: TrackSettings) -> bool:
    """Return whether a track has had enough detections to be believed, and was ever more than an arm."""
    return track.hits >= settings.least_hits and track.whole_hits >= settings.least_whole


def likeness(first: Colours | None, second: Colours | None) -> float:
    """Return how alike two colour histograms are, 0 to 1; what is not known is alike."""
    if first is None or second is None:
        return 1.0
    return math.fsum(one * other for one, other in zip(first, second, strict=True))


def _match(
    tracks: Sequence[Track],
    found: Sequence[Observation],
    touching: Sequence[bool],
    time_s: float,
    settings: TrackSettings,
) -> dict[int, int]:
    """Return the number of the detection of each track that has one: sure detections first, best pairs first."""
    matched: dict[int, int] = {}
    taken: set[int] = set()
    for sure in (True, False):
        pairs = []
        for track in tracks:
            for number, one in enumerate(found):
                if track.id in matched or number in taken or one.sure is not sure:
                    continue
                fit = _fit(track, one, touching[number], time_s, settings)
                if fit > 0:
                    pairs.append((-fit, track.id, number))
        for _, track_id, number in sorted(pairs):
            if track_id not in matched and number not in taken:
                matched[track_id] = number
                taken.add(number)
    return matched


def _fit(track: Track, one: Observation, touches: bool, time_s: float, settings: TrackSettings) -> float:
    """Return how well a detection fits a track, 0 when it cannot be the same person."""
    expected, gap_s = track.expected(time_s), time_s - track.last_s
    if _jumps(track.box, one.box, settings.most_jump):
        return 0.0
    near = overlap(expected, one.box)
    if not one.sure and near < settings.least_overlap + 0.1:
        return 0.0
    if gap_s > settings.memory_s and near < 0.4:
        return 0.0  # who was still is waited for in their place alone
    gap = gap_s > settings.gap_s
    if near < settings.least_overlap and gap and not track.whole:
        return 0.0  # who was last seen cut off by the frame's edge has left; whoever comes there is another
    if near < settings.least_overlap:
        # Soon after, people may have stopped or turned as well as gone on.
        places = (expected,) if gap else (expected, track.box)
        near = max(_reached(place, one.box, gap_s, settings) for place in places)
    if near <= 0:
        return 0.0
    alike = likeness(track.colours, one.colours)
    if counts(track, settings) and alike < _least_likeness(track, touches, gap, settings):
        return 0.0
    return near + alike


def _least_likeness(track: Track, touches: bool, gap: bool, settings: TrackSettings) -> float:
    """Return how alike the colours must be: not at all while nobody else is near, people turn round."""
    if gap:
        return settings.gap_likeness
    return settings.least_likeness if track.touched or touches else 0.0


def _jumps(before: Region, after: Region, most: float) -> bool:
    """Return whether a box is so much larger or smaller that it is another thing, or several."""
    # Width changes with every step; only what is wider than a stride is a second person.
    return not 1 / most <= after[3] / before[3] <= most or after[2] > most * max(before[2], 0.5 * before[3])


def _reached(expected: Region, box: Region, gap_s: float, settings: TrackSettings) -> float:
    """Return a small fit of two boxes that do not overlap enough, when a stride is between them; else 0."""
    growth = box[3] / expected[3]
    if not 1 / settings.most_growth < growth < settings.most_growth:
        return 0.0
    distance = math.dist(centre(expected), centre(box)) / max(expected[3], box[3])
    reach = min(settings.reach + settings.reach_per_s * gap_s, settings.most_reach)
    return 0.1 * (1 - distance / reach) if distance < reach else 0.0


def _near_in_time(track: Track, time_s: float, settings: TrackSettings) -> bool:
    return counts(track, settings) and time_s - track.last_s < settings.hidden_s


def _touches(one: Observation, found: Sequence[Observation], expected: Sequence[Region]) -> bool:
    """Return whether somebody else is in a detection: seen there, or hidden where two were expected."""
    others = [other.box for other in found if other is not one]
    return any(map(partial(_touch, one.box), others)) or sum(map(partial(_touch, one.box), expected)) > 1


def _touch(first: Region, second: Region) -> bool:
    return inside(first, second) > 0.3 or inside(second, first) > 0.3


def _moved(track: Track, one: Observation, touches: bool, time_s: float) -> Track:
    gap_s = time_s - track.last_s
    (x0, y0), (x1, y1) = centre(track.box), centre(one.box)
    blend = 0.5 if track.hits < 3 else 0.35  # box edges jitter: the newest step does not count whole
    velocity = tuple(
        (1 - blend) * old + blend * step / gap_s for old, step in zip(track.velocity, (x1 - x0, y1 - y0), strict=True)
    )
    # Still: within the place where it was when it stopped. From step to step, slow walkers would be still as well.
    still = overlap(track.still_box, one.box) > 0.6
    return replace(
        track,
        box=one.box,
        last_s=time_s,
        hits=track.hits + 1,
        whole=one.whole,
        whole_hits=track.whole_hits + (one.sure and one.whole),
        velocity=(velocity[0], velocity[1]),
        touched=touches,
        colours=track.colours if touches or not one.whole else _blended(track.colours, one.colours),
        still_box=track.still_box if still else one.box,
        still_since_s=track.still_since_s if still else time_s,
    )


def _blended(old: Colours | None, new: Colours | None) -> Colours | None:
    if old is None or new is None:
        return new if old is None else old
    mixed = [0.8 * before + 0.2 * now for before, now in zip(old, new, strict=True)]
    length = math.sqrt(math.fsum(value * value for value in mixed)) or 1.0
    return tuple(value / length for value in mixed)


def _overdue(track: Track, time_s: float, settings: TrackSettings) -> bool:
    if not counts(track, settings):
        return time_s - track.last_s > settings.tentative_s
    still = track.still_s() >= settings.memory_s
    return time_s - track.last_s > (settings.still_memory_s if still else settings.memory_s)


def _begins(one: Observation, found: Sequence[Observation]) -> bool:
    """Return whether a detection without a track begins one; half of a larger one does not."""
    size = one.box[2] * one.box[3]
    larger = (other for other in found if other.box[2] * other.box[3] > size)
    return one.sure and not any(inside(one.box, other.box) > 0.8 for other in larger)


def _started(number: int, one: Observation, touches: bool, time_s: float) -> Track:
    return Track(
        number, one.box, time_s, time_s, whole_hits=int(one.whole), whole=one.whole, touched=touches,
        colours=one.colours, still_box=one.box, still_since_s=time_s,
    )  # fmt: skip


def _clear(
    track: Track, found: Sequence[Observation], waiting: Sequence[Track], time_s: float, settings: TrackSettings
) -> bool:
    """Return whether nobody else is, or should be, within the box of ``track``."""
    others = [one.box for one in found if one.sure and one.box != track.box]
    others += [other.expected(time_s) for other in waiting if _near_in_time(other, time_s, settings)]
    return not any(inside(track.box, other) > 0.15 or inside(other, track.box) > 0.5 for other in others)
