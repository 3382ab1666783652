"""Owns the command ``diff``: the patch between two files or bundles, as a file. Refuses to make it by itself."""

import json
from pathlib import Path

import click

from cloud_tools.commands.terminal import EXISTING, ONE_JSON_OBJECT


@click.command("diff")
@click.argument("old", type=EXISTING)
@click.argument("new", type=EXISTING)
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@ONE_JSON_OBJECT
def diff_command(old: Path, new: Path, out: Path, as_json: bool) -> None:
    """Write to OUT the patch from OLD to NEW (two files, or two bundles)."""
    import modelpatch

    if old.is_dir() != new.is_dir():
        raise click.UsageError("OLD and NEW must be two files or two folders")
    header = (modelpatch.diff_folder if old.is_dir() else modelpatch.diff_file)(old, new, out)
    size = out.stat().st_size
    if as_json:
        sizes = {"base_bytes": header.base_length, "target_bytes": header.target_length, "patch_bytes": size}
        click.echo(json.dumps({**sizes, "base": header.base_sha256, "target": header.target_sha256}, sort_keys=True))
    else:
        share = 100 * size / max(header.target_length, 1)
        click.echo(f"{out}: {size:,} bytes for {header.target_length:,} ({share:.2f} %)")
