"""Owns the order of making a release: dataset, backbone, features, head, checks, bundle. Refuses to publish it.

A release with a base takes the base's backbone file as it is, so that the backbone costs no byte to send, whatever
converter is installed today. The same dataset, settings, base and versions of the libraries give the same bytes,
``created`` apart, which SOURCE_DATE_EPOCH sets.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.augmentation import vary, with_variants
from cloud_tools.backbone_choice import HOUSEHOLD, BackboneChoice, check_choice, choose_backbone
from cloud_tools.backbones import Backbone
from cloud_tools.bundle_writer import HEAD, BundleParts, created_now, write_bundle
from cloud_tools.dataset import Crop, Dataset, check_trainable
from cloud_tools.embeddings import Features, embed
from cloud_tools.evaluation import Evaluation
from cloud_tools.frontier import Candidate, Frontier
from cloud_tools.heads import EPOCHS, KINDS, STEPS, Side, TrainedHead, Weights, train_head, warm_start
from cloud_tools.keys import check_model_name
from cloud_tools.people import forget_people, parse_renames, rename_people
from cloud_tools.splits import TEST, TRAIN
from cloud_tools.tflite_file import read_model
from cloud_tools.trial_head import fit_familiarity, train_trial
from cloud_tools.unknown import Fit, hold_out
from cloud_tools.update_budget import Plan, Progress, Search
from cloud_tools.update_size import UpdateSize, update_size
from contract.errors import InputError
from contract.files import sha256_file
from contract.manifest import NAME, Manifest, load_bundle

SLACK = 200  # bytes that the guess of release.json's size may be too large: names and numbers differ in length
SLACK_MEASURED = 40  # the same, once one was written


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


def train(
    dataset: Dataset,
    out: Path,
    settings: Settings,
    base_folder: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    told: Callable[[Frontier], None] = lambda frontier: None,
) -> tuple[Manifest, Evaluation]:
    """Train a release on ``dataset`` and write its bundle to the new folder ``out``.

    With a limit for the update, ``told`` gets what was tried, once something was chosen.

    Raises:
        InputError: the dataset cannot be trained on, ``out`` exists, unknown setting, wrong base or weights, nothing
            fits in the limit.
        PeerError: the weights cannot be fetched.
        ExportError: TFLite and Keras disagree. ReleaseError: what was made does not run.
        OSError: the disk refused. In every case nothing is left at ``out``.
    """
    _check(out, settings, base_folder)
    base = _open_base(base_folder, settings)
    dataset, base = _people(dataset, base, settings)
    run = Run(dataset, settings, _labels(dataset, base), _backbone(settings, dataset, base, progress), base, progress)
    _ = run.start  # a base of another kind is refused before minutes of work
    sides = Sides(run.side(TRAIN), run.side(TEST), _strangers(run), _variants(run))
    trial = _trial(run, sides)
    if settings.max_update_bytes is None:
        head = _head(run, sides, trial)
        return write_bundle(out, _parts(run, sides, trial, head), dataset, base.folder if base else None, progress)
    assert base is not None  # _check
    return _fitting(run, sides, trial, out, base, told)


def _check(out: Path, settings: Settings, base: Path | None) -> None:
    """Refuse what cannot be before anything is computed; a base's backbone would hide a precision it has not."""
    if out.exists():
        raise InputError(f"{out} exists; name a folder that does not")
    if settings.head not in KINDS:
        raise InputError(f"no head {settings.head!r} (known: {', '.join(KINDS)})")
    check_choice(settings.choice)
    check_model_name(settings.model)
    created_now()  # SOURCE_DATE_EPOCH
    asked = {
        "--forget": settings.forget,
        "--rename": settings.rename,
        "--max-update-bytes": settings.max_update_bytes,
    }
    for option, value in asked.items():
        if value and base is None:
            raise InputError(f"{option} needs --base: the release that it is about")


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
    """Give dataset and base without the forgotten, the others by their new names."""
    if base is None:
        return dataset, None
    dataset, labels = forget_people(dataset, base.labels, settings.forget)
    dataset, labels = rename_people(dataset, labels, parse_renames(settings.rename))
    return dataset, replace(base, labels=labels)


def _labels(dataset: Dataset, base: Base | None) -> tuple[str, ...]:
    """Give the labels: the base's first, in its order, so that their weights keep their places in the file."""
    check_trainable(dataset)
    people = dataset.people
    kept = tuple(label for label in base.labels if label in people) if base else ()
    return (*kept, *(name for name in people if name not in kept))


def _backbone(settings: Settings, dataset: Dataset, base: Base | None, progress: Progress) -> Backbone:
    progress("backbone", 0, 1)
    backbone = choose_backbone(settings.choice, dataset, base.backbone if base else None)
    progress("backbone", 1, 1)
    return backbone


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
        """Give the features that the head is trained on."""
        kind, how = KINDS[self.settings.head], self.backbone.preprocess
        return embed(self.dataset, crops, self.backbone, how, kind, self.tell(what))

    def side(self, split: str) -> Side:
        """Give one side of the dataset."""
        crops = self.dataset.side(split)
        numbers = [self.labels.index(crop.person) for crop in crops]
        return Side(self.features(crops, f"features ({split})"), np.array(numbers, np.int64))

    def tell(self, what: str) -> Callable[[int, int], None]:
        """Give a function (done, total) for the progress of ``what``."""
        return lambda done, total: self.progress(what, done, total)

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
        """Give what is learned from: the ``rows`` of the train side (all unless given), and their variants."""
        return with_variants(self.train, self.variants, rows)


def _variants(run: Run) -> Side | None:
    settings, crops = run.settings, run.dataset.side(TRAIN)
    if not settings.augment:
        return None
    varied = vary(run.dataset, crops, settings.augment, settings.seed)
    numbers = [run.labels.index(crop.person) for crop in varied.crops]
    features = replace(run, dataset=varied).features(varied.crops, "features (variants)")
    return Side(features, np.array(numbers, np.int64))


def _strangers(run: Run) -> tuple[tuple[Crop, ...], Features]:
    crops = tuple(crop for split in (TRAIN, TEST) for crop in run.dataset.side(split, strangers=True))
    return crops, run.features(crops, "features (others)")


def _trial(run: Run, sides: Sides) -> TrainedHead | None:
    settings = run.settings
    return train_trial(
        settings.head,
        run.labels,
        run.dataset.side(TRAIN),
        sides.train,
        variants=sides.variants,
        shape=run.backbone.features,
        epochs=settings.epochs,
        seed=settings.seed,
        progress=run.tell("trial head"),
    )


def _head(run: Run, sides: Sides, trial: TrainedHead | None) -> TrainedHead:
    """Train the head on the grid that the trial head found; the test side is measured and has no say."""
    settings = run.settings
    return train_head(
        settings.head,
        run.labels,
        sides.learn(),
        sides.test,
        start=run.start,
        shape=run.backbone.features,
        epochs=settings.epochs,
        seed=settings.seed,
        # With nothing held out, the finest: it costs nothing.
        step=trial.step if trial else STEPS[-1],
        progress=run.tell("head"),
    )


def _fitting(
    run: Run, sides: Sides, trial: TrainedHead | None, out: Path, base: Base, told: Callable[[Frontier], None]
) -> tuple[Manifest, Evaluation]:
    """Write the most accurate release that fits; each is measured as it would be published before it has a name."""
    limit = run.settings.max_update_bytes or 0
    search, first = _search(run, sides, base)
    # The first guess of release.json's size; what is written corrects it.
    frontier = shown = search.frontier(limit, len(base.manifest.to_bytes()) - SLACK, first)
    while frontier.fitting():
        chosen = frontier.fitting()[0]
        parts = _parts(run, sides, trial, search.head(chosen, sides.test), chosen)
        made, size = _write_within(limit, run, out, parts, base)
        if made is not None:
            told(shown.choose(chosen, size.files[HEAD], size.total - size.files[HEAD]))
            return made
        frontier = frontier.without(chosen, size.files[NAME] - SLACK_MEASURED)
    raise InputError(
        f"no head fits in an update of {limit:,} bytes: the smallest is about {shown.smallest():,}, "
        f"{shown.overhead:,} of them release.json; raise --max-update-bytes"
    )


class _TooLargeError(Exception):
    """The bundle that was made is over the limit."""


def _write_within(
    limit: int, run: Run, out: Path, parts: BundleParts, base: Base
) -> tuple[tuple[Manifest, Evaluation] | None, UpdateSize]:
    """Write the bundle if its update is no larger than ``limit``, as measured on the very files; give its size."""
    sizes: list[UpdateSize] = []

    def check(folder: Path) -> None:
        sizes.append(update_size(base.folder, folder))
        if sizes[0].total > limit:
            raise _TooLargeError

    try:
        return write_bundle(out, parts, run.dataset, base.folder, run.progress, check), sizes[0]
    except _TooLargeError:
        return None, sizes[0]


def _search(run: Run, sides: Sides, base: Base) -> tuple[Search, Side]:
    settings, start = run.settings, run.start
    old = base.labels if start is not None else ()
    plan = Plan(settings.head, run.labels, old, run.backbone.features, settings.epochs, settings.seed)
    early, late = hold_out(run.dataset.side(TRAIN))
    if not len(late):
        raise InputError(f"{run.dataset.folder}: too few crops to hold some out, which --max-update-bytes needs")
    held = (sides.learn(early), sides.train.rows(late))
    return Search(plan, base.head, start, sides.learn(), held, run.progress), held[1]


def _parts(
    run: Run, sides: Sides, trial: TrainedHead | None, head: TrainedHead, chosen: Candidate | None = None
) -> BundleParts:
    version = run.settings.version or (run.base.manifest.version + 1 if run.base else 1)
    crops, foreign = run.dataset.side(TRAIN), sides.strangers
    fit: Fit | None = None
    if trial is not None:
        fit = fit_familiarity(run.labels, (crops, sides.train), foreign, head.data, trial=trial)
    return BundleParts(
        run.settings.model,
        version,
        run.labels,
        run.backbone.preprocess,
        run.backbone.data,
        head.data,
        _provenance(run, head, chosen),
        fit,
    )


def _provenance(run: Run, head: TrainedHead, chosen: Candidate | None) -> dict[str, Any]:
    settings, base = run.settings, run.base
    epochs = settings.epochs or EPOCHS[settings.head]
    more = {} if chosen is None else {"max_update_bytes": settings.max_update_bytes}
    if settings.augment:
        more["augment"] = settings.augment
    return {
        "backbone": run.backbone.origin,
        "base": sha256_file(base.folder / NAME) if base else None,
        "head": {
            "kind": settings.head,
            "epochs": chosen.epochs if chosen else epochs,
            "seed": settings.seed,
            "grid_step": head.step,
            "held_out_accuracy": round(head.accuracy, 4),
            "held_out_accuracy_without_grid": round(head.unsnapped, 4),
            **more,
        },
    }
