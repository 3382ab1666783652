"""Owns what is known of each visit beside its track: votes, best crop, zone, times. Refuses pictures for longer than
the next vote.

A visit is what a track is to a person: somebody came, was perhaps named, and left. Crops are looked at when they are
sharpest and largest: between two votes the best one waits.
"""

from collections import Counter
from dataclasses import dataclass, field

from agent.vision.consensus import ConsensusSettings, Decision, Votes, counted, decide
from agent.vision.sightings import utc_text
from contract.messages import Sighting
from contract.preprocess import Box, Image


@dataclass(frozen=True, eq=False)
class Shot:
    """One crop of a person: the picture, how much can be seen on it, and where it was cut."""

    image: Image
    detail: float
    frame: int
    box: Box


@dataclass(frozen=True)
class Best:
    """Where the best crop that was voted on is; the picture itself is not kept."""

    detail: float
    frame: int
    box: Box


@dataclass
class Visit:
    """One person's visit, while its track lives; ``begin`` fields are of its first look, before it counted."""

    track: int
    begin_frame: int
    begin_wall_s: float
    last_frame: int = 0
    last_wall_s: float = 0.0
    picture: tuple[int, int] = (0, 0)
    votes: Votes = field(default_factory=Votes)
    waiting: Shot | None = None
    best: Best | None = None
    slot: str | None = None
    zones: Counter[str | None] = field(default_factory=Counter)

    def seen(self, frame: int, wall_s: float, shape: tuple[int, ...], zone: str | None) -> None:
        """Take a look in which the person was there; ``shape`` is the frame's (height, width, ...)."""
        self.last_frame, self.last_wall_s = frame, wall_s
        self.picture = (shape[1], shape[0])
        self.zones[zone] += 1

    def offer(self, shot: Shot) -> None:
        """Take a crop, if it is better than the one that waits."""
        if self.waiting is None or shot.detail >= self.waiting.detail:
            self.waiting = shot

    def voted(self, votes: Votes, shot: Shot, slot: str | None) -> None:
        """Take the votes after ``shot`` was looked at; a new release's votes begin anew, and so does the best."""
        anew = votes.electorate is not self.votes.electorate
        if self.best is None or anew or shot.detail > self.best.detail:
            self.best = Best(shot.detail, shot.frame, shot.box)
        self.votes, self.waiting, self.slot = votes, None, slot

    def decide(self, settings: ConsensusSettings, *, ended: bool = False) -> tuple[Decision | None, bool]:
        """Return the decision if there is something to tell now, and whether it corrects an earlier one.

        That is a decision made just now, or, when the visit has ended, the one that stands.
        """
        before = self.votes.decision
        self.votes, made = decide(self.votes, settings, ended=ended)
        return (self.votes.decision if ended else made), bool(made and before)

    def sighting(self, device: str, visit: str, decision: Decision, *, upgrade: bool, ended: bool) -> Sighting:
        """Return what to tell of the visit; ``visit`` is its own name, the same in every message of it."""
        assert self.best is not None  # a decision needs votes, and each came with a crop
        assert self.votes.electorate is not None
        return Sighting(
            device=device,
            visit=visit,
            track=self.track,
            label=decision.label,
            name=self.votes.electorate.names.get(decision.label),
            confidence=decision.confidence,
            version=decision.version,
            slot=self.slot,
            crops=self.votes.crops,
            votes=counted(self.votes),
            frame=self.best.frame,
            box=self.best.box,
            picture=self.picture,
            zone=self.zones.most_common(1)[0][0] if self.zones else None,
            first_frame=self.begin_frame,
            last_frame=self.last_frame,
            start=utc_text(self.begin_wall_s),
            end=utc_text(self.last_wall_s) if ended else None,
            upgrade=upgrade,
        )
