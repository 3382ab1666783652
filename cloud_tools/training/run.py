"""Owns what one training is about: settings, base, people and their labels, crops, features. Refuses to train.

A release with a base takes the base's backbone file as it is, and its labels first, so that what did not change has
the same bytes in the same places.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_tools.backbones.backbone import Backbone
from cloud_tools.backbones.choice import HOUSEHOLD, BackboneChoice, choose_backbone
from cloud_tools.datasets.dataset import Crop, Dataset, check_trainable, label_numbers
from cloud_tools.datasets.people import forget_people, parse_renames, rename_people
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.tflite.tflite_file import read_model
from cloud_tools.training.augmentation import vary, with_variants
from cloud_tools.training.features import Features, embed
from cloud_tools.training.fine_tuning import is_fine_tuned
from cloud_tools.training.heads import KINDS, Side, Weights, warm_start
from cloud_tools.training.update_budget import Progress
from contract.errors import InputError
from contract.manifest import Manifest, load_bundle


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
    augment: int = 0  # variants of each train crop
    fine_tune: int | None = None  # last layers of the backbone that are trained too
    forget: tuple[str, ...] = ()
    rename: tuple[str, ...] = ()  # OLD=NEW
    max_update_bytes: int | None = None  # what a device with the base downloads, release.json included

    @property
    def choice(self) -> BackboneChoice:
        """What was named of the backbone."""
        return BackboneChoice(self.backbone, self.weights, self.precision, self.pixels, self.calibrate, self.seed)


@dataclass(frozen=True)
class Base:
    """The release to start from; ``labels`` are its labels by their new names, without who is forgotten."""

    folder: Path
    manifest: Manifest
    labels: tuple[str, ...] = ()

    @property
    def head(self) -> bytes:
        """The base's head file."""
        return read_model(self.folder / self.manifest.stages[1].file)

    @property
    def backbone(self) -> Backbone:
        """The base's backbone file, as it is."""
        stage = self.manifest.stages[0]
        origin = self.manifest.provenance.get("backbone", {})
        return Backbone(read_model(self.folder / stage.file), origin if isinstance(origin, dict) else {})


@dataclass(frozen=True)
class Run:
    """What one training is about."""

    dataset: Dataset
    settings: Settings
    labels: tuple[str, ...]
    backbone: Backbone
    base: Base | None
    progress: Progress

    def features(self, crops: tuple[Crop, ...], what: str) -> Features:
        """Return the features that the head is trained on."""
        kind, how = KINDS[self.settings.head], self.backbone.preprocess
        return embed(self.dataset, crops, self.backbone, how, kind, self.tell(what))

    def side(self, split: str) -> Side:
        """Return one side of the dataset."""
        crops = self.dataset.side(split)
        return Side(self.features(crops, f"features ({split})"), label_numbers(crops, self.labels))

    def tell(self, what: str) -> Callable[[int, int], None]:
        """Return a function (done, total) for the progress of ``what``."""
        return lambda done, total: self.progress(what, done, total)

    def with_backbone(self, backbone: Backbone) -> "Run":
        """Return the same run on another backbone."""
        return replace(self, backbone=backbone)

    @functools.cached_property
    def start(self) -> Weights | None:
        """First weights from the base; None for a cold start. Who is forgotten taught the base: none of it stays."""
        if self.base is None or self.settings.forget:
            return None
        old = self.base.head
        return warm_start(self.settings.head, old, self.base.labels, self.labels, self.settings.seed)


@dataclass(frozen=True)
class Sides:
    """Features of the members' train side (row by row its crops), their test side, and of strangers' crops."""

    train: Side
    test: Side
    strangers: tuple[tuple[Crop, ...], Features]
    variants: Side | None = None  # of the train side's crops

    def learn(self, rows: NDArray[np.int64] | None = None) -> Side:
        """Return what is learned from: the ``rows`` of the train side (all unless given), and their variants."""
        return with_variants(self.train, self.variants, rows)


def open_run(dataset: Dataset, settings: Settings, base_folder: Path | None, progress: Progress) -> Run:
    """Return what a training is about; the backbone is exported if it has to be.

    Raises:
        InputError: no such base, or one of another model or head; people or weights that are not there.
        PeerError: the weights cannot be fetched. ExportError, OSError: as ``make_backbone``.
    """
    base = _open_base(base_folder, settings)
    dataset, base = _people(dataset, base, settings)
    labels = release_labels(dataset, base.labels if base else ())
    run = Run(dataset, settings, labels, _backbone(settings, dataset, base, progress), base, progress)
    _ = run.start  # a base of another kind is refused before minutes of work
    if settings.forget and is_fine_tuned(run.backbone):
        raise InputError("--forget: the base's backbone was fine-tuned on the forgotten too; train without --base")
    return run


def read_sides(run: Run) -> Sides:
    """Return the features of all crops, computed where the cache has them not."""
    return Sides(run.side(TRAIN), run.side(TEST), _strangers(run), _variants(run))


def release_labels(dataset: Dataset, kept: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the labels: ``kept`` first, in that order, so that their weights keep their places in the file.

    Raises:
        InputError: a dataset that no model can be trained on.
    """
    check_trainable(dataset)
    people = dataset.people
    first = tuple(label for label in kept if label in people)
    return (*first, *(name for name in people if name not in first))


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
    return replace(base, labels=base.manifest.labels)


def _people(dataset: Dataset, base: Base | None, settings: Settings) -> tuple[Dataset, Base | None]:
    """Return dataset and base without the forgotten, the others by their new names."""
    if base is None:
        return dataset, None
    dataset, labels = forget_people(dataset, base.labels, settings.forget)
    dataset, labels = rename_people(dataset, labels, parse_renames(settings.rename))
    return dataset, replace(base, labels=labels)


def _backbone(settings: Settings, dataset: Dataset, base: Base | None, progress: Progress) -> Backbone:
    progress("backbone", 0, 1)
    backbone = choose_backbone(settings.choice, dataset, base.backbone if base else None)
    progress("backbone", 1, 1)
    return backbone


def _variants(run: Run) -> Side | None:
    settings, crops = run.settings, run.dataset.side(TRAIN)
    if not settings.augment:
        return None
    varied = vary(run.dataset, crops, settings.augment, settings.seed)
    features = replace(run, dataset=varied).features(varied.crops, "features (variants)")
    return Side(features, label_numbers(varied.crops, run.labels))


def _strangers(run: Run) -> tuple[tuple[Crop, ...], Features]:
    crops = tuple(crop for split in (TRAIN, TEST) for crop in run.dataset.side(split, strangers=True))
    return crops, run.features(crops, "features (others)")
