"""Owns the command ``evaluate``: a bundle measured on a dataset, as table, JSON or page. Refuses to measure."""

from pathlib import Path

import click

from cloud_tools.commands.terminal import A_PATH, AS_JSON, show, show_progress


@click.command("evaluate")
@click.argument("bundle", type=A_PATH)
@click.argument("dataset", type=A_PATH)
@click.option("--html", type=A_PATH, metavar="FILE", help="Write one HTML page, with the worst mistakes as pictures.")
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
    lines = report_lines(report, shown_by="--html FILE shows the worst")
    show(report.to_json(), as_json, lines + ([f"page: {html}"] if html else []))
