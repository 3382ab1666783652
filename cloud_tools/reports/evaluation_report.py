"""Owns everything that is said about a bundle on a dataset, as data: what tables, JSON and the page are made of.

Refuses to format. Accuracy, people, confusion and baseline come from ``evaluation``; here they are joined by how far
confidence can be believed, by the two splits, by strangers, and by the worst mistakes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cloud_tools.datasets.dataset import Crop, Dataset
from cloud_tools.evaluation.evaluation import Answers, Evaluation, answer, score, window_votes
from cloud_tools.evaluation.reliability import Reliability, reliability
from cloud_tools.progress import Progress, no_progress, ticks_of
from cloud_tools.reports.random_split import TwoSplits, compare_splits
from cloud_tools.tflite.tflite_file import load_runner
from contract.bundle_runner import Probabilities
from contract.errors import InputError
from contract.manifest import Manifest, load_bundle

SCHEMA = 1
MOST_MISTAKES = 24  # shown, of each kind
MOST_ALIKE = 2  # of one visit with one answer: twenty frames of one glance are one mistake


@dataclass(frozen=True)
class Mistake:
    """A test crop that got a wrong name: who it is, the answer, and the probabilities of both (None: no label)."""

    crop: Crop
    said: str
    confidence: float
    truth_probability: float | None

    @property
    def worth(self) -> float:
        """How wrong it is: the answer's probability less the truth's."""
        return self.confidence - (self.truth_probability or 0.0)


@dataclass(frozen=True, kw_only=True)
class Report:
    """``splits`` is None with the reason in ``no_splits``. ``mistakes`` are members' crops with another's name,
    ``strangers_named`` strangers' crops that by themselves pass the release's rule for naming; both the worst alone,
    ``..._in_all`` counts them all."""

    evaluation: Evaluation
    confidence: Reliability
    confidence_vote5: Reliability
    splits: TwoSplits | None
    no_splits: str
    mistakes: tuple[Mistake, ...]
    mistakes_in_all: int
    strangers_named: tuple[Mistake, ...]
    strangers_named_in_all: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values: the fields of the evaluation, and beside them those of the report."""
        body = asdict(self)
        for key in ("mistakes", "strangers_named"):
            body[key] = [{**row, "crop": row["crop"]["file"], "truth": row["crop"]["person"]} for row in body[key]]
        return {"schema": SCHEMA, **body.pop("evaluation"), **body}


def make_report(
    bundle: Path,
    dataset: Dataset,
    progress: Progress = no_progress,
    *,
    with_splits: bool = True,
) -> Report:
    """Run the bundle on the test side of ``dataset`` and say everything about it.

    ``with_splits`` trains two heads (TensorFlow, tens of seconds).

    Raises:
        InputError: no bundle, damaged files, or a dataset without test crops. ReleaseError: the bundle does not run.
    """
    manifest = load_bundle(bundle)
    answers = answer(load_runner(bundle, manifest), dataset, ticks_of(progress, "crops"))
    splits, why = _splits(bundle, manifest, dataset, progress) if with_splits else (None, "not asked for")
    truth = [crop.person for crop in answers.crops]
    voters, means = window_votes(answers.crops, answers.probabilities)
    mistakes = find_mistakes(manifest.labels, answers.crops, answers.probabilities)
    named = _named_strangers(manifest, answers)
    return Report(
        evaluation=score(manifest, dataset, answers),
        confidence=reliability(answers.probabilities, truth, manifest.labels),
        confidence_vote5=reliability(means, voters, manifest.labels),
        splits=splits,
        no_splits=why,
        mistakes=tuple(worst(mistakes)),
        mistakes_in_all=len(mistakes),
        strangers_named=tuple(worst(named)),
        strangers_named_in_all=len(named),
    )


def find_mistakes(
    labels: Sequence[str], crops: Sequence[Crop], probabilities: Probabilities, least: float = 0.0
) -> list[Mistake]:
    """Return the crops whose likeliest label is not their person's and has at least ``least``; worst first."""
    found = []
    for crop, row in zip(crops, probabilities, strict=True):
        said, sure = labels[int(row.argmax())], float(row.max())
        if said != crop.person and sure >= least:
            truth = round(float(row[labels.index(crop.person)]), 4) if crop.person in labels else None
            found.append(Mistake(crop, said, round(sure, 4), truth))
    return sorted(found, key=lambda mistake: (-mistake.worth, mistake.crop.file))


def _named_strangers(manifest: Manifest, answers: Answers) -> list[Mistake]:
    """Return the strangers' crops that pass both thresholds: of probability, and of familiarity if any."""
    rows = list(range(len(answers.stranger_crops)))
    if manifest.familiarity is not None and answers.stranger_familiarity is not None:
        rows = [i for i in rows if answers.stranger_familiarity[i] >= manifest.familiarity.accept]
    crops = [answers.stranger_crops[i] for i in rows]
    return find_mistakes(manifest.labels, crops, answers.stranger_probabilities[rows], manifest.thresholds.accept)


def worst(mistakes: list[Mistake]) -> list[Mistake]:
    """Return at most MOST_MISTAKES, not more than MOST_ALIKE that are the same visit with the same answer."""
    seen: Counter[tuple[str, str]] = Counter()
    chosen = []
    for mistake in mistakes:
        key = (mistake.crop.visit, mistake.said)
        seen[key] += 1
        if seen[key] <= MOST_ALIKE:
            chosen.append(mistake)
    return chosen[:MOST_MISTAKES]


def _splits(bundle: Path, manifest: Manifest, dataset: Dataset, progress: Progress) -> tuple[TwoSplits | None, str]:
    try:
        return compare_splits(bundle, manifest, dataset, progress), ""
    except InputError as error:  # a held-out set, a foreign model: everything else can be said of it
        return None, str(error)
