"""Owns the figure that flatters: accuracy on a random split, beside the same head's on the split by time.

A random split of the crops that a released head was trained on says nothing, for the head has seen most of the test
side. So two heads of the release's kind are trained from scratch on the release's own backbone file, with the same
seed, epochs and number of crops a person on each side; only which crops they are differs. What the random one is
better by is the leak of neighbouring frames. Refuses to say anything of the release's own weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud_tools.backbones.backbone import Backbone
from cloud_tools.datasets.dataset import Crop, Dataset, label_numbers
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.evaluation.evaluation import window_votes
from cloud_tools.progress import Progress, Ticks, no_progress, ticks_of
from cloud_tools.tflite.tflite_file import Runner, read_model
from cloud_tools.training.features import Features, embed
from cloud_tools.training.heads import KINDS, HeadSpec, Side, map_shape, train_head
from contract.bundle_runner import Probabilities
from contract.errors import InputError
from contract.manifest import Manifest

SEED = 20  # of the random split; the head's own seed is the release's


@dataclass(frozen=True)
class SplitScore:
    """Shares from 0 to 1: of single crops and of windows of five rightly named; each person's of single crops."""

    accuracy: float
    vote5: float
    per_person: dict[str, float]
    crops: int


@dataclass(frozen=True)
class TwoSplits:
    """A head of ``kind`` trained from scratch on the train side of each split, measured on its test side."""

    kind: str
    time: SplitScore
    random: SplitScore
    seed: int = SEED


def compare_splits(bundle: Path, manifest: Manifest, dataset: Dataset, progress: Progress = no_progress) -> TwoSplits:
    """Train and measure the two heads; needs TensorFlow.

    Raises:
        InputError: the bundle is no backbone and head of a known kind, or the dataset has no two people with both
            sides.
    """
    kind, epochs, seed = _recipe(manifest)
    people = tuple(name for name in dataset.people if all(_count(dataset, side, name) for side in (TRAIN, TEST)))
    if len(people) < 2:
        raise InputError("the dataset has no two people with train and test crops")
    stage = manifest.stages[0]
    backbone = Backbone(read_model(bundle / stage.file), {})
    crops = tuple(crop for side in (TRAIN, TEST) for crop in dataset.side(side) if crop.person in people)
    how, ticks = manifest.preprocess, ticks_of(progress, "features")
    features = embed(dataset, crops, backbone, how, KINDS[kind], ticks)
    head = HeadSpec(kind=kind, labels=people, shape=map_shape(features), epochs=epochs, seed=seed)

    def measure(chosen: Sequence[int], what: str) -> SplitScore:
        return _measure(head, crops, features, chosen, ticks_of(progress, what))

    by_time = [i for i, crop in enumerate(crops) if crop.split == TRAIN]
    by_chance = draw([crop.person for crop in crops], [crop.split == TRAIN for crop in crops], SEED)
    return TwoSplits(head.kind, measure(by_time, "time split"), measure(by_chance, "random split"))


def draw(people: Sequence[str], train: Sequence[bool], seed: int) -> list[int]:
    """Return the numbers of a random train side: of each person as many crops as ``train`` marks."""
    noise = np.random.default_rng(seed)
    chosen: list[int] = []
    for name in sorted(set(people)):
        mine = [i for i, person in enumerate(people) if person == name]
        chosen += noise.permutation(mine)[: sum(train[i] for i in mine)].tolist()
    return sorted(chosen)


def _count(dataset: Dataset, side: str, name: str) -> int:
    return sum(crop.person == name for crop in dataset.side(side))


def _recipe(manifest: Manifest) -> tuple[str, int | None, int]:
    """Return kind, epochs and seed of the release's head."""
    said: Any = manifest.provenance.get("head")
    kind = said.get("kind") if isinstance(said, dict) else None
    if kind not in KINDS or len(manifest.stages) != 2:
        raise InputError("the bundle is no backbone with a head of a known kind")
    epochs, seed = said.get("epochs"), said.get("seed", 0)
    return str(kind), epochs if isinstance(epochs, int) else None, seed if isinstance(seed, int) else 0


def _measure(
    head: HeadSpec, crops: Sequence[Crop], features: Features, chosen: Sequence[int], ticks: Ticks
) -> SplitScore:
    inside = set(chosen)
    rest = [i for i in range(len(crops)) if i not in inside]
    numbers = label_numbers(crops, head.labels)
    train, test = (Side(features[rows], numbers[rows]) for rows in (list(chosen), rest))
    trained = train_head(head, train, test, ticks=ticks)
    return _score(head.labels, [crops[i] for i in rest], _answers(trained.data, features[rest]))


def _answers(head: bytes, features: Features) -> Probabilities:
    """Run a head on features; a pooled row becomes a map that is the same everywhere, whose mean it is."""
    runner = Runner(head, "head.tflite")
    shape = runner.input.shape
    rows = [np.broadcast_to(row, shape) if row.ndim == 1 else row[None] for row in features]
    return np.stack([runner.run(np.ascontiguousarray(row, np.float32))[0] for row in rows]).astype(np.float32)


def _score(people: Sequence[str], crops: Sequence[Crop], probabilities: Probabilities) -> SplitScore:
    right = np.array([people[i] == crop.person for i, crop in zip(probabilities.argmax(axis=1), crops, strict=True)])
    truth, means = window_votes(crops, probabilities)
    votes = np.array([people[i] == name for i, name in zip(means.argmax(axis=1), truth, strict=True)])
    each = {name: right[[crop.person == name for crop in crops]] for name in people}
    return SplitScore(
        round(float(right.mean()), 4),
        round(float(votes.mean()), 4),
        {name: round(float(rows.mean()), 4) for name, rows in each.items()},
        len(crops),
    )
