"""Owns the commands that measure the paper's figures again: ``reproduce table1``. Refuses to measure."""

from pathlib import Path

import click

from cloud_tools.commands.terminal import A_PATH, AS_JSON, show, show_progress


@click.group("reproduce")
def reproduce_group() -> None:
    """Measure again what the paper states."""


@reproduce_group.command("table1")
@click.option("--network", "networks", multiple=True, help="mobilenetv2 or vgg19; both unless given.")
@click.option("--markdown", type=A_PATH, metavar="FILE", help="Write the page docs/benchmarks/table1.md to FILE.")
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
