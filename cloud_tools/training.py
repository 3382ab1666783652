"""Owns the order of making a release: dataset, backbone, features, head, checks, bundle. Refuses to publish it.

A release with a base takes the base's backbone file as it is, so that the backbone costs no byte to send, whatever
converter is installed today. The same dataset, settings, base and versions of the libraries give the same bytes,
``created`` apart, which SOURCE_DATE_EPOCH sets.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud_tools.backbones import SIZE, Backbone, check_precision, make_backbone
from cloud_tools.bundle_writer import BundleParts, created_now, write_bundle
from cloud_tools.dataset import Crop, Dataset
from cloud_tools.embeddings import embed
from cloud_tools.evaluation import Evaluation
from cloud_tools.heads import EPOCHS, KINDS, Side, TrainedHead, Weights, train_head, warm_start
from cloud_tools.inputs import resolve_weights
from cloud_tools.keys import check_model_name
from cloud_tools.splits import TEST, TRAIN
from cloud_tools.tflite_file import read_model
from cloud_tools.weights import WeightsFile, open_weights
from contract.errors import InputError
from contract.manifest import Manifest, Preprocess, load_bundle

LEAST_CROPS = 5  # a person, on the train side; with fewer a head learns the pictures by heart
HOW = Preprocess((SIZE, SIZE))

Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True)
class Settings:
    """What a person chooses; None takes the default that the text of the command states."""

    model: str = "household"
    head: str = "pooled"
    precision: str = "float32"
    weights: str | None = None
    version: int | None = None
    seed: int = 0
    epochs: int | None = None


@dataclass(frozen=True)
class Base:
    """The release to start from."""

    folder: Path
    manifest: Manifest

    @property
    def backbone(self) -> Backbone:
        """The base's backbone file, as it is."""
        stage = self.manifest.stages[0]
        origin = self.manifest.provenance.get("backbone", {})
        return Backbone(read_model(self.folder / stage.file), origin if isinstance(origin, dict) else {})


def train(
    dataset: Dataset,
    out: Path,
    settings: Settings,
    base_folder: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Manifest, Evaluation]:
    """Train a release on ``dataset`` and write its bundle to the new folder ``out``.

    Raises:
        InputError: the dataset cannot be trained on, ``out`` exists, unknown setting, wrong base or weights.
        PeerError: the weights cannot be fetched.
        ExportError: TFLite and Keras disagree. ReleaseError: what was made does not run.
        OSError: the disk refused. In every case nothing is left at ``out``.
    """
    _check(out, settings)
    base = _open_base(base_folder, settings)
    labels = _labels(dataset, base)
    backbone = _backbone(settings, base, progress)
    train_side = _side(dataset, TRAIN, labels, backbone, settings, progress)
    held_out = _side(dataset, TEST, labels, backbone, settings, progress)
    head = _head(settings, labels, train_side, held_out, base, progress)
    version = settings.version or (base.manifest.version + 1 if base else 1)
    parts = BundleParts(
        settings.model, version, labels, HOW, backbone.data, head.data, _provenance(settings, backbone, head, base)
    )
    return write_bundle(out, parts, dataset, base.folder if base else None, progress)


def _check(out: Path, settings: Settings) -> None:
    """Refuse what cannot be before anything is computed; a base's backbone would hide a precision it has not."""
    if out.exists():
        raise InputError(f"{out} exists; name a folder that does not")
    if settings.head not in KINDS:
        raise InputError(f"no head {settings.head!r} (known: {', '.join(KINDS)})")
    check_precision(settings.precision)
    check_model_name(settings.model)
    created_now()  # SOURCE_DATE_EPOCH


def _open_base(folder: Path | None, settings: Settings) -> Base | None:
    if folder is None:
        return None
    base = Base(folder, load_bundle(folder))
    if base.manifest.model != settings.model:
        raise InputError(f"{folder} is a release of {base.manifest.model!r}, not of {settings.model!r} (--model)")
    if settings.version is not None and settings.version <= base.manifest.version:
        raise InputError(f"--version {settings.version} is not over the base's {base.manifest.version}")
    if len(base.manifest.stages) != 2 or base.manifest.preprocess != HOW:
        raise InputError(f"{folder} is no backbone and head for {SIZE} pixels; train without --base")
    return base


def _labels(dataset: Dataset, base: Base | None) -> tuple[str, ...]:
    """Give the labels: the base's first, in its order, so that their weights keep their places in the file."""
    people = dataset.people
    if len(people) < 2:
        raise InputError(f"{dataset.folder}: {len(people)} people; a model needs at least two to tell apart")
    for name in people:
        for side, least in ((TRAIN, LEAST_CROPS), (TEST, 1)):
            count = sum(crop.person == name for crop in dataset.side(side))
            if count < least:
                raise InputError(
                    f"{dataset.folder}: {name} has {count} {side} crops, at least {least} are needed; label more of "
                    f"this person, or leave the person out (dataset from-video --people)"
                )
    kept = tuple(label for label in base.manifest.labels if label in people) if base else ()
    return (*kept, *(name for name in people if name not in kept))


def _backbone(settings: Settings, base: Base | None, progress: Progress) -> Backbone:
    progress("backbone", 0, 1)
    named: WeightsFile | None = None
    if base is None or settings.weights is not None:
        named = open_weights(*resolve_weights(settings.weights))
    if base is not None and (named is None or base.backbone.origin.get("weights_sha256") == named.sha256):
        backbone = base.backbone
    else:
        assert named is not None
        backbone = make_backbone(named, settings.precision)
    progress("backbone", 1, 1)
    return backbone


def _side(
    dataset: Dataset, split: str, labels: tuple[str, ...], backbone: Backbone, settings: Settings, progress: Progress
) -> Side:
    crops: tuple[Crop, ...] = dataset.side(split)
    name = f"features ({split})"
    features = embed(
        dataset, crops, backbone, HOW, KINDS[settings.head], lambda done, total: progress(name, done, total)
    )
    return Side(features, np.array([labels.index(crop.person) for crop in crops], np.int64))


def _head(
    settings: Settings,
    labels: tuple[str, ...],
    train_side: Side,
    held_out: Side,
    base: Base | None,
    progress: Progress,
) -> TrainedHead:
    start: Weights | None = None
    if base is not None:
        old = read_model(base.folder / base.manifest.stages[1].file)
        start = warm_start(settings.head, old, base.manifest.labels, labels, settings.seed)
    return train_head(
        settings.head,
        labels,
        train_side,
        held_out,
        start=start,
        epochs=settings.epochs,
        seed=settings.seed,
        progress=lambda done, total: progress("head", done, total),
    )


def _provenance(settings: Settings, backbone: Backbone, head: TrainedHead, base: Base | None) -> dict[str, Any]:
    return {
        "backbone": backbone.origin,
        "base": hashlib.sha256(base.manifest.to_bytes()).hexdigest() if base else None,
        "head": {
            "kind": settings.head,
            "epochs": settings.epochs or EPOCHS[settings.head],
            "seed": settings.seed,
            "grid_step": head.step,
            "held_out_accuracy": round(head.accuracy, 4),
            "held_out_accuracy_without_grid": round(head.unsnapped, 4),
        },
    }
