"""Measures scores for telling strangers, on a bundle and its dataset. Refuses to fit thresholds.

    python -m benchmarks.strangers BUNDLE DATASET     a table for docs/accuracy.md

BUNDLE must have a pooled head and a familiarity score, DATASET strangers. Scores are fitted on the train side, and
AUROC is over members' test crops and strangers' crops: alone, and as means of windows of five. FAR: strangers at the
threshold that refuses a tenth of the members' test crops or windows; it compares scores, and is no promise.
Bytes: what the score would add to an update (0: it is known from the head), a value a byte unless it is packed.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_tools.backbones.backbone import Backbone
from cloud_tools.datasets.dataset import Crop, Dataset, label_numbers, load_dataset
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.evaluation.baseline import histogram
from cloud_tools.evaluation.strangers import auroc, fit_means, window_means
from cloud_tools.tflite.tflite_file import TfliteFile, read_model
from cloud_tools.training.features import embed
from cloud_tools.training.held_out_head import probabilities
from contract.errors import InputError
from contract.familiarity import Familiarity
from contract.familiarity_score import FamiliarityScore, energy
from contract.manifest import load_bundle

Rows = NDArray[np.float64]
FLOOR = 1e-12


@dataclass(frozen=True)
class Views:
    """One set of crops: features (n x channels), logits and probabilities (n x labels), histograms (n x bins)."""

    crops: tuple[Crop, ...]
    features: Rows
    logits: Rows
    probabilities: NDArray[np.float32]
    colours: Rows


@dataclass(frozen=True)
class Bench:
    """The head's weights, the train side with its label numbers, and the two sets to tell apart."""

    weights: Rows
    energy: float  # the weight of the energy in the score that ships
    labels: NDArray[np.int64]
    train: Views
    members: Views
    strangers: Views


def load(bundle: Path, dataset: Dataset) -> Bench:
    """Compute all views with the bundle's own files."""
    manifest = load_bundle(bundle)
    backbone = Backbone(read_model(bundle / manifest.stages[0].file), {})
    head = read_model(bundle / manifest.stages[1].file)
    matrix, bias = TfliteFile(head).layer("FULLY_CONNECTED")
    weights = np.asarray(matrix.T, np.float64)
    if manifest.familiarity is None:
        raise InputError(f"{bundle} has no familiarity score")

    def views(crops: tuple[Crop, ...]) -> Views:
        features = embed(dataset, crops, backbone, manifest.preprocess)
        colours = np.stack([histogram(dataset.image(crop)) for crop in crops]).astype(np.float64)
        wide = features.astype(np.float64)
        return Views(crops, wide, wide @ weights + bias, probabilities(head, features), colours)

    train = dataset.side(TRAIN)
    numbers = label_numbers(train, manifest.labels)
    foreign = views(dataset.side(TEST, strangers=True))
    return Bench(weights, manifest.familiarity.energy, numbers, views(train), views(dataset.side(TEST)), foreign)


def from_the_head(bench: Bench, views: Views) -> Iterator[tuple[str, int, Rows]]:
    """Return the scores that the head knows (centring costs the centre): name, bytes, and a value a crop.

    A higher one is more like a member.
    """
    sure = np.maximum(views.probabilities.astype(np.float64), FLOOR)
    ordered = np.sort(views.logits, axis=1)
    top = ordered[:, -1]
    yield "largest probability (softmax)", 0, sure.max(axis=1)
    yield "entropy", 0, (sure * np.log(sure)).sum(axis=1)
    yield "margin of the two largest logits", 0, top - ordered[:, -2]
    yield "largest logit", 0, top
    yield "energy (log sum exp of the logits)", 0, top + np.log(np.exp(views.logits - top[:, None]).sum(axis=1))
    yield "energy from probabilities (mean of -log p)", 0, energy(views.probabilities)
    yield "cosine with the head's weights", 0, (unit(views.features) @ unit(bench.weights.T).T).max(axis=1)
    centre = bench.train.features.mean(axis=0)
    spread = unit((bench.weights - bench.weights.mean(axis=1, keepdims=True)).T)
    yield "the same, both centred", bench.weights.shape[0], (unit(views.features - centre) @ spread.T).max(axis=1)


def from_features(bench: Bench, views: Views) -> Iterator[tuple[str, int, Rows]]:
    """Return the scores that need data about the members' features."""
    known, asked = bench.train.features, views.features
    means = class_means(known, bench.labels)
    yield "distance to the nearest mean", means.size, -distances(asked, means)
    yield "cosine with the nearest mean", means.size, (unit(asked) @ unit(means).T).max(axis=1)
    packed, stride = fit_means(known.astype(np.float32), bench.labels, len(means))
    for name, weight, rows in (
        ("the same, packed (every 4th channel, coarse)", 0.0, len(packed)),
        ("packed cosine + energy (what ships)", bench.energy, len(packed)),
    ):
        score = FamiliarityScore(Familiarity(packed, stride, weight, 0.0), len(means), asked.shape[1])
        yield name, rows, score.score(asked.astype(np.float32), views.probabilities)
    size = means.size + known.shape[1] ** 2 // 2
    yield "Mahalanobis, shrunk by 0.3", size, -mahalanobis(known, bench.labels, asked)
    for count in (1, 5):
        alike = np.sort(unit(asked) @ unit(known).T, axis=1)[:, -count:]
        yield f"cosine with the {count} nearest train crops", known.size, alike.mean(axis=1)
    middle = known.mean(axis=0)
    basis = np.linalg.svd(known - middle, full_matrices=False)[2][:64]
    rest = (asked - middle) - (asked - middle) @ basis.T @ basis
    yield "what 64 principal components leave over", basis.size, -np.linalg.norm(rest, axis=1)


def from_colours(bench: Bench, views: Views) -> Iterator[tuple[str, int, Rows]]:
    """Return the scores of clothes: HSV histograms of four stripes."""
    known, asked = bench.train.colours, views.colours
    means = class_means(known, bench.labels)
    yield "HSV: cosine with the nearest mean", means.size, (unit(asked) @ unit(means).T).max(axis=1)
    yield "HSV: cosine with the nearest train crop", known.size, (unit(asked) @ unit(known).T).max(axis=1)
    size = means.size + known.shape[1] ** 2 // 2
    yield "HSV: Mahalanobis, shrunk by 0.3", size, -mahalanobis(known, bench.labels, asked)


def class_means(rows: Rows, labels: NDArray[np.int64]) -> Rows:
    """Return the mean row of each label."""
    return np.stack([rows[labels == label].mean(axis=0) for label in range(int(labels.max()) + 1)])


def distances(rows: Rows, means: Rows) -> Rows:
    """Return each row's distance to the nearest of ``means``."""
    return np.asarray(np.min([np.linalg.norm(rows - mean, axis=1) for mean in means], axis=0))


def mahalanobis(known: Rows, labels: NDArray[np.int64], asked: Rows, shrink: float = 0.3) -> Rows:
    """Return each row's squared distance to the nearest mean, under the shared covariance drawn to a round one."""
    means = class_means(known, labels)
    around = known - means[labels]
    shared = around.T @ around / len(around)
    size = len(shared)
    inverse = np.linalg.inv((1 - shrink) * shared + shrink * np.trace(shared) / size * np.eye(size))
    return np.asarray(np.min([(((asked - mean) @ inverse) * (asked - mean)).sum(axis=1) for mean in means], axis=0))


def unit(rows: Rows) -> Rows:
    """Return ``rows`` with length 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))


def far(known: Rows, foreign: Rows) -> float:
    """Return the share of strangers over the threshold that refuses a tenth of the members."""
    return float((foreign >= np.quantile(known, 0.1)).mean())


def main(arguments: list[str]) -> int:
    """Print the table."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    bench = load(Path(arguments[0]), load_dataset(Path(arguments[1])))
    known, foreign = bench.members, bench.strangers
    print("| score | bytes | AUROC, one crop | AUROC, five | FAR, one crop | FAR, five |\n|---|---|---|---|---|---|")
    for scores in (from_the_head, from_features, from_colours):
        for (name, size, one), (_, _, other) in zip(scores(bench, known), scores(bench, foreign), strict=True):
            five = window_means(known.crops, one), window_means(foreign.crops, other)
            values = auroc(one, other), auroc(*five), far(one, other), far(*five)
            print(f"| {name} | {size} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
