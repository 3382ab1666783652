"""Owns how a release tells strangers: fitting the familiarity score, its threshold, and the rates that it reaches.

Refuses to see pictures and to train (``training.held_out_head`` does): it takes features and probabilities. The score
itself is ``contract.familiarity_score``. What is fitted, and on what:

- The members' means: on all train crops.
- The weight of the energy and the threshold: on the later part of each visit of the train side, scored by a head and
  means that never saw it (the held-out head, trained on the earlier part). The test side has no say.
- Strangers, where there are any, choose among the thresholds that keep KEEP of the members' held-out windows. A rate
  of strangers is measured with a threshold that was chosen without the stranger in question.

A window is up to five consecutive crops of a visit, as a track is on the device; its score is their mean.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.datasets.dataset import Crop
from cloud_tools.evaluation.threshold import windows
from contract.familiarity import Familiarity, pack_means
from contract.familiarity_score import FamiliarityScore, energy, pooled

EARLY = 0.75  # share of a visit's train crops that the held-out head sees
GAP_S = 1.0  # neighbouring frames are near-duplicates; a late crop this near to an early one proves nothing
# Of the members' held-out windows. They are harder than what a release meets: its head learned from a third more
# crops. On the sample, 80 % kept there were 91 % kept on the test side (the number was chosen on that sample).
KEEP = 0.8
ACCEPT = 0.5  # mean probability that a name needs beside familiarity: under a half the members are mixed up
RULE = f"familiar, and {ACCEPT:g} of the probability; keeps {KEEP:.0%} of held-out windows"
LEAST_WINDOWS = 10  # held out; with fewer a threshold is a guess, and the release goes without
CHANNELS = 320  # at most, for the means: all 1280 cost four times the bytes and gain less than 0.01 AUROC
LEVELS = 3  # of the means' grid; see docs/accuracy.md

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Crops with their features (n x ... x channels) and the probabilities (n x labels) of a head for them."""

    crops: tuple[Crop, ...]
    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Fit:
    """The score's data. ``without``: the threshold chosen without each stranger (by name), for honest rates."""

    familiarity: Familiarity
    member_windows: int
    stranger_windows: int
    without: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """Crops with what a bundle said of them: probabilities (n x labels), familiarity (n)."""

    crops: tuple[Crop, ...]
    probabilities: NDArray[np.float32]
    familiarity: Scores


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the score and the whole rule do, as shares; None where there was no stranger.

    ``auroc``: of the score, single crops; ``auroc5``: windows of five. ``far5`` (false accepts): strangers' windows
    that get a name; with ``held_out``, each stranger's at the threshold that was chosen without that stranger.
    ``frr5`` (false rejects): members' windows that get none. ``wrong5``: members' windows that get another's.
    """

    auroc: float | None
    auroc5: float | None
    far5: float | None
    frr5: float
    wrong5: float
    member_windows: int
    stranger_windows: int
    strangers: int
    held_out: bool


def hold_out(crops: Sequence[Crop], gap_s: float = GAP_S) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the early and the late crops: of each visit the first EARLY (at least one), and the rest.

    A late crop less than ``gap_s`` seconds from an early one of the same person is in neither.
    """
    visits: dict[tuple[str, str], list[int]] = {}
    for i in sorted(range(len(crops)), key=lambda i: crops[i].frame):
        visits.setdefault((crops[i].person, crops[i].visit), []).append(i)
    early = [i for rows in visits.values() for i in rows[: max(1, int(EARLY * len(rows)))]]
    times: dict[str, list[float]] = {}
    for i in early:
        times.setdefault(crops[i].person, []).append(crops[i].time_s)
    late = sorted(set(range(len(crops))) - set(early))
    kept = [i for i in late if np.abs(np.array(times[crops[i].person]) - crops[i].time_s).min() >= gap_s]
    return np.array(sorted(early), np.int64), np.array(kept, np.int64)


def can_fit(late: Sequence[Crop]) -> bool:
    """Return whether held-out crops are enough for a threshold."""
    return len(windows(late)) >= LEAST_WINDOWS


def fit_means(features: NDArray[np.float32], labels: NDArray[np.int64], count: int) -> tuple[str, int]:
    """Return each label's mean features, packed, and the stride of their channels.

    The grid is coarse on purpose: its step is the power of two at which the largest mean is at most LEVELS steps, and
    a release after the next crops differs in a few values. Negative means become 0 (features are ReLU's).
    """
    flat = pooled(features)
    stride = -(-flat.shape[1] // CHANNELS)
    means = np.stack([flat[labels == label, ::stride].mean(axis=0) for label in range(count)])
    step = 2.0 ** np.ceil(np.log2(max(float(means.max()), 1e-6) / LEVELS))
    return pack_means(np.clip(np.rint(means / step), 0, LEVELS).astype(int).tolist()), stride


def fit(
    means: tuple[str, int], early_means: tuple[str, int], late: Sample, strangers: Sample, labels: int
) -> Fit | None:
    """Choose weight and threshold on ``late`` (members') and ``strangers``, both scored by the held-out head.

    ``early_means`` are of what that head learned from. None when the held-out crops are too few to say anything.
    """
    if not can_fit(late.crops):
        return None
    weight = _weight(early_means, late, labels)
    rough = Familiarity(*early_means, weight, 0.0)
    members, others = (window_means(part.crops, scores(rough, part, labels)) for part in (late, strangers))
    names = window_names(strangers.crops)
    without = {name: threshold(members, others[names != name]) for name in sorted(set(names.tolist()))}
    return Fit(Familiarity(*means, weight, threshold(members, others)), len(members), len(others), without)


def to_head(fitted: Fit, held_out: NDArray[np.float32], final: NDArray[np.float32]) -> Fit:
    """Return the fit for the head that is deployed: its energy is brought to the held-out head's scale.

    A head that was trained on from an earlier release has larger logits: without this, strangers pass (82 % of their
    windows instead of 39 %, docs/accuracy.md).

    Args:
        held_out, final: probabilities (n x labels) of the two heads for the same crops, on which both were trained.
    """
    ratio = float(energy(held_out).mean() / max(float(energy(final).mean()), 1e-6))
    data = fitted.familiarity
    return dataclasses.replace(fitted, familiarity=dataclasses.replace(data, energy=round(data.energy * ratio, 5)))


def threshold(members: Scores, strangers: Scores) -> float:
    """Return the threshold among those that keep KEEP of ``members``: the largest share of members less strangers.

    Without strangers it is the largest that keeps KEEP.
    """
    ordered = np.sort(members)
    may_go = len(ordered) - int(np.ceil(round(KEEP * len(ordered), 6)))
    usable = np.floor(ordered[: may_go + 1] * 1e4) / 1e4  # four digits, never over the window itself
    if not len(strangers):
        return float(usable[-1])
    gain = [round(float((members >= t).mean() - (strangers >= t).mean()), 6) for t in usable]
    return float(usable[int(np.argmax(gain))])  # of equals the lowest


def rates(members: Scored, strangers: Scored, labels: Sequence[str], accept: float, limits: "Limits") -> Rates:
    """Measure the whole rule on members' and strangers' crops; ``accept`` is for the mean probability."""
    member_scores, stranger_scores = (window_means(part.crops, part.familiarity) for part in (members, strangers))
    best, said = _winners(members)
    names = window_names(strangers.crops)
    named = (best >= accept) & (member_scores >= limits.own)
    accepted = (_winners(strangers)[0] >= accept) & (stranger_scores >= limits.of(names))
    right = np.array([labels[i] for i in said], np.str_) == _people(members.crops)
    some = len(stranger_scores) > 0
    return Rates(
        auroc=round(auroc(members.familiarity, strangers.familiarity), 4) if some else None,
        auroc5=round(auroc(member_scores, stranger_scores), 4) if some else None,
        far5=round(float(accepted.mean()), 4) if some else None,
        frr5=round(float((~named).mean()), 4),
        wrong5=round(float((named & ~right).mean()), 4),
        member_windows=len(member_scores),
        stranger_windows=len(stranger_scores),
        strangers=len(set(names.tolist())),
        held_out=some and limits.held_out(names),
    )


@dataclass(frozen=True)
class Limits:
    """The threshold of a release, and where known those chosen without each stranger."""

    own: float
    without: dict[str, float] = field(default_factory=dict)

    def held_out(self, names: NDArray[np.str_]) -> bool:
        """Return whether each of ``names`` has a threshold of its own."""
        return set(names.tolist()) <= set(self.without)

    def of(self, names: NDArray[np.str_]) -> Scores:
        """Return the threshold for each of ``names``: all of them held out, or all the release's own."""
        chosen = self.without if self.held_out(names) else {}
        return np.array([chosen.get(name, self.own) for name in names.tolist()], np.float64)


def scores(data: Familiarity, sample: Sample, labels: int) -> Scores:
    """Return the score of each crop."""
    if not sample.crops:
        return np.zeros(0)
    return FamiliarityScore(data, labels, sample.features.shape[-1]).score(sample.features, sample.probabilities)


def window_means(crops: Sequence[Crop], values: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of ``values`` (a row a crop) over each window."""
    groups = windows(crops)
    return np.stack([values[rows].mean(axis=0) for rows in groups]) if groups else values[:0]


def _winners(part: Scored) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    means = window_means(part.crops, part.probabilities)
    return means.max(axis=1), means.argmax(axis=1)


def _people(crops: Sequence[Crop]) -> NDArray[np.str_]:
    return np.array([crops[int(rows[0])].person for rows in windows(crops)], np.str_)


def window_names(crops: Sequence[Crop]) -> NDArray[np.str_]:
    """Return whose visit each window is: what stands before the ``/`` of its name (strangers share one label)."""
    return np.array([crops[int(rows[0])].visit.rpartition("/")[0] for rows in windows(crops)], np.str_)


def auroc(members: Scores, strangers: Scores) -> float:
    """Return the probability that a random member's score is over a random stranger's; a tie counts half.

    Raises:
        ValueError: one of them is empty.
    """
    if not len(members) or not len(strangers):
        raise ValueError("an AUROC needs scores of both kinds")
    ordered = np.sort(strangers)
    below, upto = np.searchsorted(ordered, members, "left"), np.searchsorted(ordered, members, "right")
    return float((below + upto).mean() / (2 * len(strangers)))


def _weight(early_means: tuple[str, int], late: Sample, labels: int) -> float:
    """Return the weight under which energy and cosine vary alike among members: no stranger is needed."""
    by_cosine = scores(Familiarity(*early_means, 0.0, 0.0), late, labels)
    by_energy = energy(late.probabilities)
    return round(float(by_cosine.std() / max(float(by_energy.std()), 1e-6)), 4)
