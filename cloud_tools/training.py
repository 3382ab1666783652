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

from cloud_tools.backbone_choice import HOUSEHOLD, BackboneChoice, check_choice, choose_backbone
from cloud_tools.backbones import Backbone
from cloud_tools.bundle_writer import BundleParts, created_now, write_bundle
from cloud_tools.dataset import Crop, Dataset, check_trainable
from cloud_tools.embeddings import embed
from cloud_tools.evaluation import Evaluation
from cloud_tools.heads import EPOCHS, KINDS, Side, TrainedHead, Weights, train_head, warm_start
from cloud_tools.keys import check_model_name
from cloud_tools.splits import TEST, TRAIN
from cloud_tools.tflite_file import read_model
from cloud_tools.trial_head import fit_familiarity
from cloud_tools.unknown import Fit
from contract.errors import InputError
from contract.manifest import Manifest, load_bundle

Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True)
class Settings:
    """What a person chooses; None takes the default that the text of the command states."""

    model: str = "household"
    head: str = "pooled"
    backbone: str | None = None
    precision: str | None = None
    weights: str | None = None
    pixels: str | None = None
    calibrate: str = HOUSEHOLD
    version: int | None = None
    seed: int = 0
    epochs: int | None = None

    @property
    def choice(self) -> BackboneChoice:
        """What was named of the backbone."""
        return BackboneChoice(self.backbone, self.weights, self.precision, self.pixels, self.calibrate, self.seed)


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
    backbone = _backbone(settings, dataset, base, progress)
    train_side = _side(dataset, TRAIN, labels, backbone, settings, progress)
    held_out = _side(dataset, TEST, labels, backbone, settings, progress)
    head = _head(settings, labels, train_side, held_out, backbone, base, progress)
    version = settings.version or (base.manifest.version + 1 if base else 1)
    parts = BundleParts(
        settings.model,
        version,
        labels,
        backbone.preprocess,
        backbone.data,
        head.data,
        _provenance(settings, backbone, head, base),
        _familiarity(dataset, settings, labels, train_side, backbone, head, progress),
    )
    return write_bundle(out, parts, dataset, base.folder if base else None, progress)


def _check(out: Path, settings: Settings) -> None:
    """Refuse what cannot be before anything is computed; a base's backbone would hide a precision it has not."""
    if out.exists():
        raise InputError(f"{out} exists; name a folder that does not")
    if settings.head not in KINDS:
        raise InputError(f"no head {settings.head!r} (known: {', '.join(KINDS)})")
    check_choice(settings.choice)
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
    if len(base.manifest.stages) != 2 or base.manifest.preprocess != base.backbone.preprocess:
        raise InputError(f"{folder} is no backbone and head that are trained here; train without --base")
    return base


def _labels(dataset: Dataset, base: Base | None) -> tuple[str, ...]:
    """Give the labels: the base's first, in its order, so that their weights keep their places in the file."""
    check_trainable(dataset)
    people = dataset.people
    kept = tuple(label for label in base.manifest.labels if label in people) if base else ()
    return (*kept, *(name for name in people if name not in kept))


def _backbone(settings: Settings, dataset: Dataset, base: Base | None, progress: Progress) -> Backbone:
    progress("backbone", 0, 1)
    backbone = choose_backbone(settings.choice, dataset, base.backbone if base else None)
    progress("backbone", 1, 1)
    return backbone


def _side(
    dataset: Dataset, split: str, labels: tuple[str, ...], backbone: Backbone, settings: Settings, progress: Progress
) -> Side:
    crops: tuple[Crop, ...] = dataset.side(split)
    name = f"features ({split})"
    features = embed(
        dataset, crops, backbone, backbone.preprocess, KINDS[settings.head], lambda a, b: progress(name, a, b)
    )
    return Side(features, np.array([labels.index(crop.person) for crop in crops], np.int64))


def _head(
    settings: Settings,
    labels: tuple[str, ...],
    train_side: Side,
    held_out: Side,
    backbone: Backbone,
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
        shape=backbone.features,
        epochs=settings.epochs,
        seed=settings.seed,
        progress=lambda done, total: progress("head", done, total),
    )


def _familiarity(
    dataset: Dataset,
    settings: Settings,
    labels: tuple[str, ...],
    train_side: Side,
    backbone: Backbone,
    head: TrainedHead,
    progress: Progress,
) -> Fit | None:
    foreign = tuple(crop for split in (TRAIN, TEST) for crop in dataset.side(split, strangers=True))
    return fit_familiarity(
        settings.head,
        labels,
        (dataset.side(TRAIN), train_side),
        (foreign, embed(dataset, foreign, backbone, backbone.preprocess, KINDS[settings.head])),
        head.data,
        shape=backbone.features,
        epochs=settings.epochs,
        seed=settings.seed,
        progress=lambda done, total: progress("trial head", done, total),
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
