"""Owns the commands that measure and import: ``evaluate``, ``dataset import``, ``reproduce``. Refuses to compute.

Nothing heavy is imported before a command runs, so that ``--help`` is quick.
"""

from pathlib import Path

import click

from cloud_tools.commands.train import A_FILE, AS_JSON, dataset_group, show, show_progress, stats_lines

SHOWN = 20  # left-out files on a terminal; dataset.json and --json list all


@dataset_group.command("import")
@click.argument("folder", type=A_FILE)
@click.argument("out", type=A_FILE)
@click.option(
    "--gap-s", type=click.FloatRange(0), default=1.0, show_default=True, help="Least time between train and test."
)
@click.option("--held-out", is_flag=True, help="Put every picture on the test side: a set to evaluate releases on.")
@AS_JSON
def import_command(folder: Path, out: Path, gap_s: float, held_out: bool, as_json: bool) -> None:
    """Make the new dataset OUT from FOLDER: a folder of pictures for each person, or crops that an agent exported.

    Pictures are JPEG, PNG or WebP, each of one person who fills it; strangers lie in the folder "unknown".
    """
    from dataclasses import asdict

    from cloud_tools.datasets.dataset import dataset_stats
    from cloud_tools.datasets.from_folder import import_folder

    with show_progress() as tell:
        made = import_folder(
            folder, out, gap_s=gap_s, held_out=held_out, progress=lambda done, total: tell("pictures", done, total)
        )
    left, moved = ([asdict(one) for one in rows] for rows in (made.skipped, made.moved))
    stats = dataset_stats(made.dataset)
    lines = stats_lines(stats)
    for what, rows in (("not taken", left), ("near-duplicates, moved to the train side", moved)):
        if rows:
            lines += ["", f"{what}: {len(rows)}", *(f"  {row['file']}: {row['reason']}" for row in rows[:SHOWN])]
            lines += [f"  and {len(rows) - SHOWN} more, listed in {out}/dataset.json"] if len(rows) > SHOWN else []
    show(stats | {"skipped": left, "moved_to_train": moved}, as_json, lines)


@click.command("evaluate")
@click.argument("bundle", type=A_FILE)
@click.argument("dataset", type=A_FILE)
@click.option("--html", type=A_FILE, metavar="FILE", help="Write one HTML page, with the worst mistakes as pictures.")
@click.option("--no-random", is_flag=True, help="Train no heads to compare the splits: seconds instead of a minute.")
@AS_JSON
def evaluate_command(bundle: Path, dataset: Path, html: Path | None, no_random: bool, as_json: bool) -> None:
    """Say how well BUNDLE names the people on the test side of DATASET, by the files that devices run."""
    from cloud_tools.datasets.dataset import load_dataset
    from cloud_tools.reports.evaluation_page import write_page
    from cloud_tools.reports.evaluation_report import make_report
    from cloud_tools.reports.evaluation_table import report_lines

    if html is not None and not html.parent.is_dir():
        raise click.BadParameter(f"{html.parent} is no folder", param_hint="--html")
    loaded = load_dataset(dataset)
    with show_progress() as tell:
        report = make_report(bundle, loaded, tell, with_splits=not no_random)
    if html is not None:
        write_page(report, loaded, html)
    show(report.to_json(), as_json, report_lines(report) + ([f"page: {html}"] if html else []))


@click.group("reproduce")
def reproduce_group() -> None:
    """Measure again what the paper states."""


@reproduce_group.command("table1")
@click.option("--network", "networks", multiple=True, help="mobilenetv2 or vgg19; both unless given.")
@click.option("--markdown", type=A_FILE, metavar="FILE", help="Write the page docs/benchmarks/table1.md to FILE.")
@AS_JSON
def table1_command(networks: tuple[str, ...], markdown: Path | None, as_json: bool) -> None:
    """Make the paper's two networks, save and patch them as it did, and set our patches beside."""
    from cloud_tools.paper.table1 import NETWORKS, reproduce_table1
    from cloud_tools.paper.table1_page import table_lines, table_page
    from contract.files import atomic_write

    wrong = [name for name in networks if name not in NETWORKS]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not one of {', '.join(NETWORKS)}", param_hint="--network")
    if markdown is not None and not markdown.parent.is_dir():
        raise click.BadParameter(f"{markdown.parent} is no folder", param_hint="--markdown")
    with show_progress() as tell:
        table = reproduce_table1(tuple(dict.fromkeys(networks)) or NETWORKS, tell)
    if markdown is not None:
        atomic_write(markdown, table_page(table).encode())
    show(table.to_json(), as_json, table_lines(table))


commands: list[click.Command] = [evaluate_command, reproduce_group]
