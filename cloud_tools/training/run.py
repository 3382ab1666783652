"""Owns what one training is about: base, people and their labels, crops, features. Refuses to train.

A release with a base takes the base's backbone file as it is, and its labels first, so that what did not change has
the same bytes in the same places.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_tools.backbones.backbone import Backbone
from cloud_tools.backbones.choice import choose_backbone
from cloud_tools.datasets.dataset import Crop, Dataset, check_trainable, label_numbers
from cloud_tools.datasets.people import call_people, forget_people, read_renames, rename_people
from cloud_tools.datasets.person_ids import label_of
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.detectors.choice import choose_detector
from cloud_tools.detectors.detector import DetectorFile
from cloud_tools.evaluation.strangers import hold_out
from cloud_tools.progress import Progress, Ticks, ticks_of
from cloud_tools.setting_errors import Setting, SettingError
from cloud_tools.tflite.tflite_file import read_model
from cloud_tools.training.augmentation import vary
from cloud_tools.training.features import Features, embed
from cloud_tools.training.heads import KINDS, HeadSpec, Side, warm_start
from cloud_tools.training.settings import Settings
from cloud_tools.training.weight_grid import Weights
from contract.manifest import Manifest, load_bundle


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

    @property
    def detector(self) -> DetectorFile | None:
        """The base's detector file, as it is; None: it has none."""
        described = self.manifest.detector
        if described is None:
            return None
        origin = self.manifest.provenance.get("detector", {})
        data = read_model(self.folder / described.file)
        return DetectorFile(data, origin if isinstance(origin, dict) else {}, described)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one training is about."""

    dataset: Dataset
    settings: Settings
    labels: tuple[str, ...]
    backbone: Backbone
    detector: DetectorFile | None
    base: Base | None
    progress: Progress

    @functools.cached_property
    def head(self) -> HeadSpec:
        """What the head is to be."""
        chosen = self.settings
        return HeadSpec(
            kind=chosen.head,
            labels=self.labels,
            shape=self.backbone.features,
            seed=chosen.seed,
            epochs=chosen.epochs,
        )

    @functools.cached_property
    def start(self) -> Weights | None:
        """First weights from the base; None for a cold start. Who is forgotten taught the base: none of it stays."""
        if self.base is None or self.settings.forget:
            return None
        old = self.base.head
        return warm_start(self.settings.head, old, self.base.labels, self.labels, self.settings.seed)

    def ticks(self, what: str) -> Ticks:
        """Return what tells of the stretch of work ``what``."""
        return ticks_of(self.progress, what)

    def with_backbone(self, backbone: Backbone) -> "Run":
        """Return the same run on another backbone."""
        return replace(self, backbone=backbone)

    def features(self, crops: tuple[Crop, ...], what: str) -> Features:
        """Return the features that the head is trained on."""
        kind, how = KINDS[self.settings.head], self.backbone.preprocess
        return embed(self.dataset, crops, self.backbone, how, kind, self.ticks(what))

    def side(self, split: str) -> Side:
        """Return one side of the dataset."""
        crops = self.dataset.side(split)
        return Side(self.features(crops, f"features ({split})"), label_numbers(crops, self.labels))


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Features of all crops. ``crops`` are those of the train side, row by row; ``early`` and ``late`` number rows of
    it: what a held-out head learns from, and what it is measured on. ``variants`` are of the train side's crops."""

    crops: tuple[Crop, ...]
    train: Side
    test: Side
    strangers: tuple[Crop, ...]
    strangers_features: Features
    variants: Side | None
    early: NDArray[np.int64]
    late: NDArray[np.int64]

    def learn(self, rows: NDArray[np.int64] | None = None) -> Side:
        """Return what is learned from: the ``rows`` of the train side (all unless given), and their variants."""
        return with_variants(self.train, self.variants, rows)

    @property
    def held_out(self) -> Side:
        """The late part of the train side."""
        return self.train.rows(self.late)


def open_run(dataset: Dataset, settings: Settings, base_folder: Path | None, progress: Progress) -> Run:
    """Return what a training is about; the backbone is exported if it has to be.

    Raises:
        InputError: no such base, or one of another model or head; people or weights that are not there.
        PeerError: the weights cannot be fetched. ExportError, OSError: as ``make_backbone``.
    """
    base = _open_base(base_folder, settings)
    dataset, base = _people(dataset, base, settings)
    labels = release_labels(dataset, base.labels if base else ())
    backbone = _backbone(settings, dataset, base, progress)
    run = Run(
        dataset=dataset,
        settings=settings,
        labels=labels,
        backbone=backbone,
        detector=choose_detector(settings.detector, base.detector if base else None, has_base=base is not None),
        base=base,
        progress=progress,
    )
    _ = run.start  # a base of another kind is refused before minutes of work
    if settings.forget and run.backbone.fine_tuned:
        reason = ": the base's backbone was fine-tuned on the forgotten too; train without "
        raise SettingError(Setting.FORGET, reason, Setting.BASE)
    return run


def read_sides(run: Run) -> Sides:
    """Return the features of all crops, computed where the cache has them not."""
    crops = run.dataset.side(TRAIN)
    early, late = hold_out(crops)
    strangers = tuple(crop for split in (TRAIN, TEST) for crop in run.dataset.side(split, strangers=True))
    return Sides(
        crops=crops,
        train=run.side(TRAIN),
        test=run.side(TEST),
        strangers=strangers,
        strangers_features=run.features(strangers, "features (others)"),
        variants=_variants(run, crops),
        early=early,
        late=late,
    )


def with_variants(side: Side, variants: Side | None, rows: NDArray[np.int64] | None = None) -> Side:
    """Return the ``rows`` of ``side`` (all unless given) and after them their variants, ordered as ``vary`` does."""
    count = len(side.labels)
    rows = np.arange(count) if rows is None else rows
    if variants is None:
        return side.rows(rows)
    parts = [variants.rows(rows + at) for at in range(0, len(variants.labels), count)]
    return Side(
        np.concatenate([side.features[rows], *(part.features for part in parts)]),
        np.concatenate([side.labels[rows], *(part.labels for part in parts)]),
    )


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
    manifest = base.manifest
    if manifest.model != settings.model:
        other = f"{folder} is a release of {manifest.model!r}, not of {settings.model!r} ("
        raise SettingError(other, Setting.MODEL, ")")
    if settings.version is not None and settings.version <= manifest.version:
        raise SettingError(Setting.VERSION, f" {settings.version} is not over the base's {manifest.version}")
    if len(manifest.stages) != 2 or manifest.preprocess != base.backbone.preprocess:
        foreign = f"{folder} is no backbone and head that are trained here; train without "
        raise SettingError(foreign, Setting.BASE)
    return replace(base, labels=manifest.labels)


def _people(dataset: Dataset, base: Base | None, settings: Settings) -> tuple[Dataset, Base | None]:
    """Return dataset and base without the forgotten, the others by their new names and labels."""
    if base is None:
        return call_people(dataset, dataset.names, settings.name), None
    names = {**base.manifest.names, **dataset.names}
    forgotten = [label_of(name, names) for name in settings.forget]
    dataset, labels = forget_people(dataset, base.labels, forgotten)
    renamed, names = read_renames(settings.rename, names)
    dataset, labels = rename_people(dataset, labels, renamed)
    return call_people(dataset, names, settings.name), replace(base, labels=labels)


def _backbone(settings: Settings, dataset: Dataset, base: Base | None, progress: Progress) -> Backbone:
    progress("backbone", 0, 1)
    backbone = choose_backbone(settings.choice, dataset, base.backbone if base else None)
    progress("backbone", 1, 1)
    return backbone


def _variants(run: Run, crops: tuple[Crop, ...]) -> Side | None:
    settings = run.settings
    if not settings.augment:
        return None
    varied = vary(run.dataset, crops, settings.augment, settings.seed)
    features = replace(run, dataset=varied).features(varied.crops, "features (variants)")
    return Side(features, label_numbers(varied.crops, run.labels))
