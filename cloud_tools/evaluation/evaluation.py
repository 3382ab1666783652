"""Owns the truth about a bundle on a dataset: what its TFLite files answer on the test side. Refuses to train.

Accuracy is over household members. One whom the model does not know counts as wrong every time: that is what the
house sees. Needs no TensorFlow.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cloud_tools.cache import digest_of
from cloud_tools.datasets.dataset import Crop, Dataset, label_numbers
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.evaluation import baseline
from cloud_tools.evaluation.strangers import Limits, Rates, Scored, rates
from cloud_tools.evaluation.threshold import windows
from cloud_tools.progress import Ticks, no_ticks
from cloud_tools.tflite.tflite_file import load_runner
from contract.bundle_runner import BundleRunner, Probabilities, Scores
from contract.errors import InputError
from contract.manifest import UNKNOWN, Manifest, load_bundle

HELD_OUT_DIGITS = 16  # hexadecimal, of the digest of held-out crops: release.json travels with every update


@dataclass(frozen=True)
class Score:
    """Shares from 0 to 1: of single crops rightly named, and of windows of five (mean of the probabilities).

    ``held_out`` names the crops: two scores with the same one can be compared.
    """

    accuracy: float
    vote5: float
    crops: int
    in_model: bool = True
    held_out: str = ""


@dataclass(frozen=True, kw_only=True)
class Strangers:
    """How well strangers are told from members, as shares; windows of five crops unless said otherwise.

    ``named``: strangers' windows that got a name by the release's own rule (false accepts); ``rejected``: members'
    that got none (false rejects). ``auroc``: of the score (familiarity; an older release: the largest probability) on
    single crops, ``auroc5`` on windows. ``held_out``: the threshold for each stranger was chosen without that one.
    """

    named: float
    crops: int
    auroc: float
    auroc5: float
    rejected: float
    windows: int
    people: int
    held_out: bool


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a bundle does on the test side of a dataset.

    ``confusion[truth][answer]`` counts crops; the answer is the likeliest label, no threshold applied. ``known`` is
    over the people the model has a label for, ``overall`` over all members of the dataset. ``accept`` is the
    release's threshold for probability, ``familiar`` the one for familiarity. Without ``familiar`` (None), ``accept``
    was chosen on the test side of the dataset that the release was trained on: ``strangers`` flatters there.
    ``names``: what people see instead of labels.
    """

    model: str
    version: int
    dataset: str
    overall: Score
    known: Score | None
    per_person: dict[str, Score]
    confusion: dict[str, dict[str, int]]
    strangers: Strangers | None
    accept: float
    baseline: dict[str, Any] | None
    familiar: float | None = None
    names: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    def shown(self, label: str) -> str:
        """Return what people see of a label."""
        return self.names.get(label, label)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The bundle's probabilities (n x labels) and familiarity (n) for the members' and the strangers' test crops."""

    crops: tuple[Crop, ...]
    probabilities: Probabilities
    stranger_crops: tuple[Crop, ...]
    stranger_probabilities: Probabilities
    familiarity: Scores | None = None
    stranger_familiarity: Scores | None = None


def evaluate_bundle(
    bundle: Path, dataset: Dataset, ticks: Ticks = no_ticks, *, with_baseline: bool = True
) -> Evaluation:
    """Run the bundle in the folder ``bundle`` on the test side of ``dataset``.

    Raises:
        InputError: no bundle, damaged files, or a dataset without test crops.
        ReleaseError: the bundle does not run.
    """
    manifest = load_bundle(bundle)
    answers = answer(load_runner(bundle, manifest), dataset, ticks)
    return score(manifest, dataset, answers, with_baseline=with_baseline)


def answer(runner: BundleRunner, dataset: Dataset, ticks: Ticks = no_ticks) -> Answers:
    """Return what ``runner`` says about every test crop; InputError when there is none."""
    members, strangers = dataset.side(TEST), dataset.side(TEST, strangers=True)
    if not members:
        raise InputError(f"{dataset.folder}: no test crops of household members")
    done, total = 0, len(members) + len(strangers)

    def tick() -> None:
        nonlocal done
        done += 1
        ticks(done, total)

    known, familiarity = runner.judge_all((dataset.image(crop) for crop in members), tick)
    others, stranger_familiarity = runner.judge_all((dataset.image(crop) for crop in strangers), tick)
    return Answers(
        crops=members,
        probabilities=known,
        familiarity=familiarity,
        stranger_crops=strangers,
        stranger_probabilities=others,
        stranger_familiarity=stranger_familiarity,
    )


def score(
    manifest: Manifest,
    dataset: Dataset,
    answers: Answers,
    *,
    with_baseline: bool = True,
    without: dict[str, float] | None = None,
) -> Evaluation:
    """Count ``answers`` against the names in the dataset; ``without`` is that of ``strangers.Fit``, if at hand."""
    people = sorted({crop.person for crop in answers.crops})
    by_person = {name: _score(manifest, answers, {name}) for name in people}
    known = any(part.in_model for part in by_person.values())
    return Evaluation(
        model=manifest.model,
        version=manifest.version,
        dataset=dataset.digest,
        overall=_score(manifest, answers, set(people)),
        known=_score(manifest, answers, set(manifest.labels)) if known else None,
        per_person=by_person,
        confusion=_confusion(manifest, answers),
        strangers=_strangers(manifest, answers, without),
        accept=manifest.thresholds.accept,
        baseline=_baseline(dataset) if with_baseline else None,
        familiar=manifest.familiarity.accept if manifest.familiarity else None,
        names={**dataset.names, **manifest.names},
    )


def window_votes(crops: Sequence[Crop], probabilities: Probabilities) -> tuple[list[str], Probabilities]:
    """Return the person and the mean probabilities of every window of five."""
    groups = windows(crops)
    means = [probabilities[rows].mean(axis=0) for rows in groups]
    return [crops[int(rows[0])].person for rows in groups], np.stack(means) if means else probabilities[:0]


def held_out_digest(crops: Sequence[Crop]) -> str:
    """Return the digest of held-out crops: over their pixels, whatever their order, names and times."""
    return digest_of(*sorted(crop.pixels for crop in crops))[:HELD_OUT_DIGITS]


def _score(manifest: Manifest, answers: Answers, people: set[str]) -> Score:
    rows = [i for i, crop in enumerate(answers.crops) if crop.person in people]
    crops, probabilities = [answers.crops[i] for i in rows], answers.probabilities[rows]
    truth, means = window_votes(crops, probabilities)
    in_model = all(crop.person in manifest.labels for crop in crops)
    right = _right(manifest, [crop.person for crop in crops], probabilities)
    return Score(right, _right(manifest, truth, means), len(crops), in_model, held_out_digest(crops))


def _right(manifest: Manifest, truth: Sequence[str], probabilities: Probabilities) -> float:
    said = [manifest.labels[i] for i in probabilities.argmax(axis=1)]
    return round(float(np.mean([a == b for a, b in zip(truth, said, strict=True)])), 4)


def _confusion(manifest: Manifest, answers: Answers) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    parts = ((answers.crops, answers.probabilities), (answers.stranger_crops, answers.stranger_probabilities))
    for crops, probabilities in parts:
        for crop, row in zip(crops, probabilities, strict=True):
            counts = table.setdefault(crop.person, dict.fromkeys(manifest.labels, 0))
            counts[manifest.labels[int(row.argmax())]] += 1
    return dict(sorted(table.items(), key=lambda item: (item[0] == UNKNOWN, item[0])))


def measure_rule(manifest: Manifest, answers: Answers, without: dict[str, float] | None = None) -> Rates:
    """Measure the release's own rule for naming, as devices apply it, on ``answers``."""
    # An older release has no score of its own: its largest probability is all that it goes by.
    limits = Limits(-np.inf if manifest.familiarity is None else manifest.familiarity.accept, without or {})
    members = _scored(answers.crops, answers.probabilities, answers.familiarity)
    strangers = _scored(answers.stranger_crops, answers.stranger_probabilities, answers.stranger_familiarity)
    return rates(members, strangers, manifest.labels, manifest.thresholds.accept, limits)


def _strangers(manifest: Manifest, answers: Answers, without: dict[str, float] | None) -> Strangers | None:
    found = measure_rule(manifest, answers, without)
    if found.far5 is None or found.auroc is None or found.auroc5 is None:
        return None
    return Strangers(
        named=found.far5,
        crops=len(answers.stranger_crops),
        auroc=found.auroc,
        auroc5=found.auroc5,
        rejected=found.frr5,
        windows=found.stranger_windows,
        people=found.strangers,
        held_out=found.held_out,
    )


def _scored(crops: tuple[Crop, ...], probabilities: Probabilities, familiarity: Scores | None) -> Scored:
    best = probabilities.max(axis=1).astype(np.float64)
    return Scored(crops, probabilities, best if familiarity is None else familiarity)


def _baseline(dataset: Dataset) -> dict[str, Any] | None:
    train, test, people = dataset.side(TRAIN), dataset.side(TEST), dataset.people
    if not train:
        return None
    truth = label_numbers(test, people)
    said = baseline.nearest(map(dataset.image, train), label_numbers(train, people), map(dataset.image, test))
    per_person = {
        name: round(float((said == truth)[truth == i].mean()), 4) for i, name in enumerate(people) if i in truth
    }
    return {"name": baseline.NAME, "accuracy": round(float((said == truth).mean()), 4), "per_person": per_person}
