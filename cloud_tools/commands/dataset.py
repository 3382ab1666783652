"""Owns the commands of datasets: ``dataset from-video``, ``import``, ``stats``. Refuses to look at a picture."""

from pathlib import Path
from typing import Any

import click

from cloud_tools.commands.terminal import A_PATH, AS_JSON, GAP_S, show, show_progress
from cloud_tools.progress import ticks_of

SHOWN = 20  # left-out files on a terminal; dataset.json and --json list all


@click.group("dataset")
def dataset_group() -> None:
    """Make and look at datasets: crops of people, split by time."""


@dataset_group.command("from-video")
@click.argument("video", type=A_PATH)
@click.argument("labels", type=A_PATH)
@click.argument("out", type=A_PATH)
@click.option("--people", default="", help="Household members to take, with commas between them; all unless given.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Take every nth labelled frame.")
@click.option(
    "--detector",
    help="Cut what this finds of them, as devices do: nanodet-384 unless given, or another of `train`'s; "
    "none: cut the labelled boxes.",
)
@GAP_S
@AS_JSON
def from_video(
    video: Path,
    labels: Path,
    out: Path,
    *,
    people: str,
    every: int,
    detector: str | None,
    gap_s: float,
    as_json: bool,
) -> None:
    """Cut the people that LABELS names out of VIDEO into the new folder OUT."""
    from cloud_tools.datasets.dataset import dataset_stats
    from cloud_tools.datasets.from_video import dataset_from_video
    from cloud_tools.datasets.labels import load_labels
    from cloud_tools.detectors.choice import detector_maker

    chosen = [name.strip() for name in people.split(",") if name.strip()]
    with show_progress() as tell:
        dataset = dataset_from_video(
            video,
            load_labels(labels),
            out,
            people=chosen,
            every=every,
            gap_s=gap_s,
            detector=detector_maker(detector),
            ticks=ticks_of(tell, "frames"),
        )
    if lost := dataset.source.get("lost_frames"):
        click.echo(f"{video}: damaged; {lost} frames of it could not be read and have no crops", err=True)
    if missed := dataset.source.get("not_found"):
        click.echo(f"the detector did not find {missed} of the labelled boxes; they have no crops", err=True)
    stats = dataset_stats(dataset)
    show(stats, as_json, stats_lines(stats))


@dataset_group.command("stats")
@click.argument("dataset", type=A_PATH)
@AS_JSON
def stats_command(dataset: Path, as_json: bool) -> None:
    """Count the crops of DATASET, a person and a side."""
    from cloud_tools.datasets.dataset import dataset_stats, load_dataset

    stats = dataset_stats(load_dataset(dataset))
    show(stats, as_json, stats_lines(stats))


@dataset_group.command("import")
@click.argument("folder", type=A_PATH)
@click.argument("out", type=A_PATH)
@GAP_S
@click.option("--held-out", is_flag=True, help="Put every picture on the test side: a set to evaluate releases on.")
@AS_JSON
def import_command(folder: Path, out: Path, gap_s: float, held_out: bool, as_json: bool) -> None:
    """Make the new dataset OUT from FOLDER: a folder of pictures for each person.

    Pictures are JPEG, PNG or WebP, each of one person who fills it; strangers lie in the folder "unknown". A
    crops.jsonl in FOLDER may name them instead.
    """
    from dataclasses import asdict

    from cloud_tools.datasets.dataset import dataset_stats
    from cloud_tools.datasets.from_folder import import_folder

    with show_progress() as tell:
        made = import_folder(folder, out, gap_s=gap_s, held_out=held_out, ticks=ticks_of(tell, "pictures"))
    left, moved = ([asdict(one) for one in rows] for rows in (made.skipped, made.moved))
    stats = dataset_stats(made.dataset)
    lines = stats_lines(stats)
    lines += _file_lines("not taken", left, out)
    lines += _file_lines("near-duplicates, moved to the train side", moved, out)
    show(stats | {"skipped": left, "moved_to_train": moved}, as_json, lines)


def stats_lines(stats: dict[str, Any]) -> list[str]:
    """Return the counts of a dataset as a table."""
    from cloud_tools.datasets.person_ids import fitted

    names = stats["names"]
    rows = [
        f"{fitted(names.get(label, label), 20)} {part['train']:6} {part['test']:6} {part['visits']:6}"
        + (f"  (label {label})" if label in names else "")
        for label, part in stats["people"].items()
    ]
    return [f"{'person':20} {'train':>6} {'test':>6} {'visits':>6}", *rows, f"digest {stats['digest']}"]


def _file_lines(what: str, rows: list[dict[str, Any]], out: Path) -> list[str]:
    if not rows:
        return []
    lines = ["", f"{what}: {len(rows)}", *(f"  {row['file']}: {row['reason']}" for row in rows[:SHOWN])]
    more = len(rows) - SHOWN
    return [*lines, f"  and {more} more, listed in {out}/dataset.json"] if more > 0 else lines
