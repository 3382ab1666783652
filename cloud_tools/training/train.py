"""Owns the order of making a release: dataset, backbone, features, head, checks, bundle. Refuses to publish it.

A release with a base takes the base's backbone file as it is, so that the backbone costs no byte to send, whatever
converter is installed today. The same dataset, settings, base and versions of the libraries give the same bytes,
``created`` apart, which SOURCE_DATE_EPOCH sets.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cloud_tools.backbones.networks import SCRATCH, SIZE
from cloud_tools.datasets.dataset import Dataset
from cloud_tools.datasets.people import call_people
from cloud_tools.detectors.choice import choose_detector
from cloud_tools.evaluation.evaluation import Evaluation
from cloud_tools.progress import Progress, no_progress, ticks_of
from cloud_tools.setting_errors import Setting, SettingError
from cloud_tools.training.bundle_writer import BACKBONE, HEAD, WHOLE, BundleParts, created_now, write_bundle
from cloud_tools.training.fine_tuning import fine_tune
from cloud_tools.training.frontier import Candidate, Frontier
from cloud_tools.training.heads import EPOCHS, PAPER_HEAD, TrainedHead, train_head
from cloud_tools.training.held_out_head import fit_familiarity, train_held_out_head
from cloud_tools.training.run import Base, Run, Sides, open_run, read_sides, release_labels
from cloud_tools.training.scratch import train_scratch
from cloud_tools.training.settings import Settings, check_settings
from cloud_tools.training.update_budget import HeadUpdate, Search, search_heads
from cloud_tools.training.update_size import manifest_size, update_size
from cloud_tools.training.weight_grid import STEPS
from contract.errors import InputError
from contract.files import atomic_folder, sha256_file
from contract.manifest import NAME, Manifest, Preprocess

SLACK = 100  # bytes that the guess of release.json's size may be too large: names and numbers differ in length
SLACK_MEASURED = 40  # the same, once one was written


@dataclass(frozen=True)
class Trained:
    """A release that was written; ``frontier`` is what was tried for an update of limited size."""

    manifest: Manifest
    evaluation: Evaluation
    frontier: Frontier | None = None


def train(
    dataset: Dataset,
    out: Path,
    settings: Settings,
    base_folder: Path | None = None,
    progress: Progress = no_progress,
) -> Trained:
    """Train a release on ``dataset`` and write its bundle to the new folder ``out``.

    Raises:
        InputError: the dataset cannot be trained on, ``out`` exists, unknown setting, wrong base or weights, nothing
            fits in the limit.
        PeerError: the weights cannot be fetched.
        ExportError: TFLite and Keras disagree. ReleaseError: what was made does not run.
        OSError: the disk refused. In every case nothing is left at ``out``.
    """
    if out.exists():
        raise InputError(f"{out} exists; name a folder that does not")
    check_settings(settings, base_folder)
    created_now()  # SOURCE_DATE_EPOCH
    if settings.backbone == SCRATCH:
        return _train_whole(dataset, settings, out, progress)
    run = open_run(dataset, settings, base_folder, progress)
    if settings.fine_tune is not None:
        run = run.with_backbone(fine_tune(run, settings.fine_tune))
    sides = read_sides(run)
    learned = _Learned(run, sides, train_held_out_head(run.head, sides, run.ticks("held-out head")))
    if run.base is not None and settings.max_update_bytes is not None:
        return _train_within(settings.max_update_bytes, learned, run.base, out)
    parts = _parts(learned, _head(learned))
    with atomic_folder(out) as building:
        return _write(building, parts, run)


@dataclass(frozen=True)
class _Learned:
    """What heads of one release are made from; ``held_out`` is the held-out head (None: too few crops for it)."""

    run: Run
    sides: Sides
    held_out: TrainedHead | None


def _train_whole(dataset: Dataset, settings: Settings, out: Path, progress: Progress) -> Trained:
    """Write a release of one file, a network trained from random weights."""
    dataset = call_people(dataset, dataset.names, settings.name)
    labels = release_labels(dataset)
    epochs = settings.epochs or EPOCHS[settings.head]
    data = train_scratch(dataset, labels, epochs, settings.seed, ticks_of(progress, "epochs"))
    origin = {"name": SCRATCH, "precision": "float32", "weights": "trained from random ones"}
    head = {"kind": PAPER_HEAD, "epochs": epochs, "seed": settings.seed}
    detector = choose_detector(settings.detector, None, has_base=False)
    parts = BundleParts(
        model=settings.model,
        version=settings.version or 1,
        labels=labels,
        names=dataset.names,
        preprocess=Preprocess(SIZE),
        stages=((WHOLE, data),),
        provenance={"backbone": origin, "base": None, "head": head},
        detector=detector,
    )
    with atomic_folder(out) as building:
        return Trained(*write_bundle(building, parts, dataset, None, progress))


def _head(learned: _Learned) -> TrainedHead:
    """Train the head on the grid that the held-out head found; the test side is measured and has no say."""
    run, sides, held_out = learned.run, learned.sides, learned.held_out
    # With nothing held out, the finest: it costs nothing.
    step = held_out.step if held_out else STEPS[-1]
    return train_head(run.head, sides.learn(), sides.test, start=run.start, step=step, ticks=run.ticks("head"))


def _train_within(limit: int, learned: _Learned, base: Base, out: Path) -> Trained:
    """Write the most accurate release whose update has at most ``limit`` bytes."""
    run, sides = learned.run, learned.sides
    if not len(sides.late):
        few = f"{run.dataset.folder}: too few crops to hold some out, which "
        raise SettingError(few, Setting.MAX_UPDATE_BYTES, " needs")
    old = base.labels if run.start is not None else ()
    search = search_heads(HeadUpdate(head=run.head, base=base.head, start=run.start, old=old), sides, run.progress)
    # The first guess of release.json's size; what is written corrects it.
    frontier = search.frontier(limit, manifest_size(base.manifest.to_bytes()) - SLACK)
    if not frontier.fitting():
        raise _nothing_fits(frontier)
    with atomic_folder(out) as building:
        return _first_that_fits(building, frontier, search, learned, base)


def _first_that_fits(building: Path, tried: Frontier, search: Search, learned: _Learned, base: Base) -> Trained:
    """Write candidates to the folder ``building``, the best first, until one fits by the bytes of its very files."""
    left = tried
    while left.fitting():
        chosen = left.fitting()[0]
        head = search.finish(chosen, learned.sides.test)
        made = _write(building, _parts(learned, head, chosen), learned.run)
        size = update_size(base.folder, building)
        if size.total <= tried.limit:
            shown = tried.choose(chosen, size.files[HEAD], size.total - size.files[HEAD])
            return replace(made, frontier=shown)
        left = left.without(chosen, size.files[NAME] - SLACK_MEASURED)
    raise _nothing_fits(tried)


def _nothing_fits(tried: Frontier) -> SettingError:
    return SettingError(
        f"no head fits in an update of {tried.limit:,} bytes: the smallest is about {tried.smallest():,}, "
        f"{tried.overhead:,} of them release.json; raise ",
        Setting.MAX_UPDATE_BYTES,
    )


def _write(building: Path, parts: BundleParts, run: Run) -> Trained:
    return Trained(*write_bundle(building, parts, run.dataset, run.base.folder if run.base else None, run.progress))


def _parts(learned: _Learned, head: TrainedHead, chosen: Candidate | None = None) -> BundleParts:
    run, sides, held_out = learned.run, learned.sides, learned.held_out
    return BundleParts(
        model=run.settings.model,
        version=run.settings.version or (run.base.manifest.version + 1 if run.base else 1),
        labels=run.labels,
        names=run.dataset.names,
        preprocess=run.backbone.preprocess,
        stages=((BACKBONE, run.backbone.data), (HEAD, head.data)),
        provenance=_provenance(run, head, chosen),
        detector=run.detector,
        fit=fit_familiarity(len(run.labels), sides, head.data, held_out) if held_out else None,
    )


def _provenance(run: Run, head: TrainedHead, chosen: Candidate | None) -> dict[str, Any]:
    settings, base = run.settings, run.base
    more = {} if chosen is None else {"max_update_bytes": settings.max_update_bytes}
    if settings.augment:
        more["augment"] = settings.augment
    return {
        "backbone": run.backbone.origin,
        "base": sha256_file(base.folder / NAME) if base else None,
        "head": {
            "kind": settings.head,
            "epochs": chosen.epochs if chosen else run.head.passes,
            "seed": settings.seed,
            "grid_step": head.step,
            "held_out_accuracy": round(head.accuracy, 4),
            "held_out_accuracy_without_grid": round(head.unsnapped, 4),
            **more,
        },
    }
