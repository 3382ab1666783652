"""Owns the order of making a release: dataset, backbone, features, head, checks, bundle. Refuses to publish it.

A release with a base takes the base's backbone file as it is, so that the backbone costs no byte to send, whatever
converter is installed today. The same dataset, settings, base and versions of the libraries give the same bytes,
``created`` apart, which SOURCE_DATE_EPOCH sets.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud_tools.backbones.backbone import Backbone
from cloud_tools.backbones.choice import check_choice
from cloud_tools.backbones.networks import SCRATCH, SIZE
from cloud_tools.datasets.dataset import Dataset
from cloud_tools.datasets.splits import TRAIN
from cloud_tools.evaluation.evaluation import Evaluation
from cloud_tools.evaluation.strangers import Fit, hold_out
from cloud_tools.publishing.keys import check_model_name
from cloud_tools.training.bundle_writer import BACKBONE, HEAD, WHOLE, BundleParts, created_now, write_bundle
from cloud_tools.training.fine_tuning import Task, fine_tune
from cloud_tools.training.frontier import Candidate, Frontier
from cloud_tools.training.heads import EPOCHS, KINDS, PAPER_HEAD, STEPS, Side, TrainedHead, train_head
from cloud_tools.training.held_out_head import fit_familiarity, train_trial
from cloud_tools.training.run import Base, Run, Settings, Sides, open_run, read_sides, release_labels
from cloud_tools.training.scratch import train_scratch
from cloud_tools.training.update_budget import Plan, Progress, Search
from cloud_tools.training.update_size import UpdateSize, manifest_size, update_size
from contract.errors import InputError
from contract.files import sha256_file
from contract.manifest import NAME, Manifest, Preprocess

SLACK = 100  # bytes that the guess of release.json's size may be too large: names and numbers differ in length
SLACK_MEASURED = 40  # the same, once one was written


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
    if settings.backbone == SCRATCH:
        return _whole(dataset, settings, out, progress)
    run = open_run(dataset, settings, base_folder, progress)
    if settings.fine_tune is not None:
        run = run.with_backbone(_fine_tuned(run, settings.fine_tune))
    sides = read_sides(run)
    trial = _trial(run, sides)
    if settings.max_update_bytes is None:
        parts = _parts(run, sides, trial, _head(run, sides, trial))
        return write_bundle(out, parts, run.dataset, run.base.folder if run.base else None, progress)
    assert run.base is not None  # _check
    return _fitting(run, sides, trial, out, run.base, told)


def _check(out: Path, settings: Settings, base: Path | None) -> None:
    """Refuse what cannot be before anything is computed; a base's backbone would hide a precision it has not."""
    if out.exists():
        raise InputError(f"{out} exists; name a folder that does not")
    if settings.head not in KINDS:
        raise InputError(f"no head {settings.head!r} (known: {', '.join(KINDS)})")
    check_choice(settings.choice)
    check_model_name(settings.model)
    created_now()  # SOURCE_DATE_EPOCH
    if settings.fine_tune is not None and settings.max_update_bytes is not None:
        raise InputError(
            "--max-update-bytes chooses a head for the base's backbone; --fine-tune changes the backbone"
        )
    if settings.backbone == SCRATCH:
        _check_whole(settings, base)
    asked = {
        "--forget": settings.forget,
        "--rename": settings.rename,
        "--max-update-bytes": settings.max_update_bytes,
    }
    for option, value in asked.items():
        if value and base is None:
            raise InputError(f"{option} needs --base: the release that it is about")


def _check_whole(settings: Settings, base: Path | None) -> None:
    """Refuse what a network without a backbone cannot have."""
    asked: dict[str, object] = {
        "--base": base,
        "--weights": settings.weights,
        "--precision": settings.precision,
        "--augment": settings.augment,
        "--fine-tune": settings.fine_tune,
    }
    for option, value in asked.items():
        if value:
            raise InputError(f"{option}: {SCRATCH} is trained from nothing, as float32, and shipped whole")
    if settings.head != PAPER_HEAD:
        raise InputError(f"--backbone {SCRATCH} is the paper's whole network: it needs --head {PAPER_HEAD}")


def _whole(dataset: Dataset, settings: Settings, out: Path, progress: Progress) -> tuple[Manifest, Evaluation]:
    """Write a release of one file, a network trained from random weights."""
    labels = release_labels(dataset)
    epochs = settings.epochs or EPOCHS[settings.head]
    data = train_scratch(dataset, labels, epochs, settings.seed, lambda done, total: progress("epochs", done, total))
    origin = {"name": SCRATCH, "precision": "float32", "weights": "trained from random ones"}
    parts = BundleParts(
        settings.model,
        settings.version or 1,
        labels,
        Preprocess(SIZE),
        ((WHOLE, data),),
        {"backbone": origin, "base": None, "head": {"kind": PAPER_HEAD, "epochs": epochs, "seed": settings.seed}},
    )
    return write_bundle(out, parts, dataset, None, progress)


def _fine_tuned(run: Run, layers: int) -> Backbone:
    settings = run.settings
    task = Task(settings.head, run.labels, layers, run.start, settings.epochs, settings.seed)
    return fine_tune(run.backbone, run.dataset, run.dataset.side(TRAIN), task, run.progress)


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
    frontier = shown = search.frontier(limit, manifest_size(base.manifest.to_bytes()) - SLACK, first)
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
    """Write the bundle if its update is no larger than ``limit``, as measured on the very files; return its size."""
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
        ((BACKBONE, run.backbone.data), (HEAD, head.data)),
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
