"""Owns when a track has a name: which crops to look at, and what their votes amount to. Pure; refuses pictures.

The rule, in full:
- The first crops of a track come every ``spacing_s``; after ``crops`` of them only every ``later_s``.
- A winner is named if its mean probability is at least the release's ``accept`` and, where the release can tell
  strangers (``familiarity``), the track's mean familiarity is at least that threshold: softmax is sure of strangers.
- A track is decided when it has enough crops (``crops``, or the release's ``least_crops`` if that is more) and its
  winner is named. A track that is not sure goes on voting.
- A track that ends undecided is decided then: the winner if it meets the release's own thresholds, ``unknown``
  otherwise. A track without a single crop is never decided.
- Upgrade: a decided track goes on voting. When another label is named over all crops, and there are at least
  twice as many as at the decision, it is decided once more, and never a third time.
- Votes of two releases are never added up: their labels differ. The first vote of a new release begins an undecided
  track's count anew; until then the old votes stand. A decided track keeps its decision and hears no new release.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from contract.manifest import UNKNOWN, Manifest

SLACK_S = 0.02  # cameras jitter


@dataclass(frozen=True)
class ConsensusSettings:
    """How many crops of a track are looked at, and how often."""

    crops: int = 5  # voting over five gained 2-4 points of accuracy over one
    spacing_s: float = 0.4  # neighbouring frames show the same pose: a vote twice over
    later_s: float = 2.0
    most_crops: int = 40  # somebody who sits in view all day costs no more than this

    def __post_init__(self) -> None:
        """Refuse settings under which no track could be decided."""
        if self.crops < 1 or self.most_crops < self.crops:
            raise ValueError("crops must be at least 1, most_crops at least crops")
        if self.spacing_s <= 0 or self.later_s <= 0:
            raise ValueError("spacing_s and later_s must be above 0")


@dataclass(frozen=True)
class Electorate:
    """What the votes of one loaded release are counted by; ``generation`` differs for every load of a model.

    ``names``: what people see instead of labels, where the release says so.
    """

    generation: int
    version: int
    labels: tuple[str, ...]
    accept: float
    least_crops: int
    familiar: float | None = None  # least mean familiarity; None: the release has no such score
    names: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(manifest: Manifest, generation: int) -> "Electorate":
        """Return the electorate of a release."""
        thresholds, data = manifest.thresholds, manifest.familiarity
        return Electorate(
            generation=generation,
            version=manifest.version,
            labels=manifest.labels,
            accept=thresholds.accept,
            least_crops=thresholds.least_crops,
            familiar=None if data is None else data.accept,
            names=manifest.names,
        )


@dataclass(frozen=True)
class Decision:
    """``confidence``: the winner's mean probability (for ``unknown``, of the member it was most like)."""

    label: str
    confidence: float
    crops: int
    version: int


@dataclass(frozen=True)
class Votes:
    """The votes of one track: ``total`` is the sum of probabilities, a value a label of ``electorate``;
    ``winners`` counts the crops that were most like each; ``familiarity`` is the sum of that."""

    electorate: Electorate | None = None
    total: tuple[float, ...] = ()
    winners: tuple[int, ...] = ()
    crops: int = 0
    last_s: float | None = None
    decision: Decision | None = None
    upgraded: bool = False
    familiarity: float = 0.0


def wants_crop(votes: Votes, time_s: float, settings: ConsensusSettings) -> bool:
    """Return whether a crop should be classified at ``time_s``."""
    if votes.last_s is None:
        return True
    if votes.crops >= settings.most_crops:
        return False
    wait_s = settings.spacing_s if votes.crops < settings.crops else settings.later_s
    return time_s - votes.last_s >= wait_s - SLACK_S


def counted(votes: Votes) -> dict[str, int]:
    """Return how many crops were most like each label; labels without any are left out."""
    labels = votes.electorate.labels if votes.electorate else ()
    return {label: count for label, count in zip(labels, votes.winners, strict=True) if count}


def hears(votes: Votes, electorate: Electorate) -> bool:
    """Return whether a vote of ``electorate`` may still count for this track."""
    return votes.decision is None or votes.electorate is None or votes.electorate.generation == electorate.generation


def add_vote(
    votes: Votes,
    electorate: Electorate,
    probabilities: Sequence[float],
    time_s: float,
    familiarity: float | None = None,
) -> Votes:
    """Return ``votes`` with one crop's probabilities and familiarity added; a new release begins anew.

    Raises:
        ValueError: not one probability a label, a track that ``hears`` this release no more, or no familiarity where
            the release wants it.
    """
    if electorate.familiar is not None and familiarity is None:
        raise ValueError("a vote of this release needs the crop's familiarity")
    if len(probabilities) != len(electorate.labels):
        raise ValueError(f"{len(probabilities)} probabilities for {len(electorate.labels)} labels")
    if not hears(votes, electorate):
        raise ValueError("a decided track takes no vote of another release")
    if votes.electorate is None or votes.electorate.generation != electorate.generation:
        count = len(electorate.labels)
        votes = Votes(electorate, (0.0,) * count, (0,) * count)
    best = max(range(len(probabilities)), key=lambda i: probabilities[i])
    return replace(
        votes,
        total=tuple(old + float(new) for old, new in zip(votes.total, probabilities, strict=True)),
        winners=tuple(count + (i == best) for i, count in enumerate(votes.winners)),
        crops=votes.crops + 1,
        last_s=time_s,
        familiarity=votes.familiarity + (familiarity or 0.0),
    )


def decide(votes: Votes, settings: ConsensusSettings, *, ended: bool = False) -> tuple[Votes, Decision | None]:
    """Return the votes, and a decision if one was made just now (the module's rule)."""
    if votes.electorate is None or votes.crops == 0:
        return votes, None
    label, confidence = _winner(votes, votes.electorate)
    sure = confidence >= votes.electorate.accept and votes.crops >= votes.electorate.least_crops
    named = sure and _familiar(votes, votes.electorate)
    if not named:
        label = UNKNOWN
    if votes.decision is not None:
        return _upgraded(votes, label, confidence)
    if not ended and not (named and votes.crops >= settings.crops):
        return votes, None
    decision = Decision(label, confidence, votes.crops, votes.electorate.version)
    return replace(votes, decision=decision), decision


def _upgraded(votes: Votes, label: str, confidence: float) -> tuple[Votes, Decision | None]:
    before = votes.decision
    assert before is not None
    assert votes.electorate is not None
    if votes.upgraded or label in (UNKNOWN, before.label) or votes.crops < 2 * before.crops:
        return votes, None
    decision = Decision(label, confidence, votes.crops, votes.electorate.version)
    return replace(votes, decision=decision, upgraded=True), decision


def _familiar(votes: Votes, electorate: Electorate) -> bool:
    return electorate.familiar is None or votes.familiarity / votes.crops >= electorate.familiar


def _winner(votes: Votes, electorate: Electorate) -> tuple[str, float]:
    """Return the label with the highest mean probability and that mean; of equals the first."""
    best = max(range(len(votes.total)), key=lambda i: votes.total[i])
    return electorate.labels[best], min(1.0, max(0.0, votes.total[best] / votes.crops))
