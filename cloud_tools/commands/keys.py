"""Owns the commands of a publish site's keys: ``keys init`` and ``keys refresh``. Refuses to sign by itself."""

import shlex
from pathlib import Path

import click

from cloud_tools.commands.terminal import EXISTING_FOLDER, FOLDER, KEYS


@click.group("keys")
def keys_group() -> None:
    """Make and use the keys that a publish site is signed with."""


@keys_group.command("init")
@click.argument("site", type=FOLDER)
@click.option("--model", "models", multiple=True, default=("household",), show_default=True, help="May be repeated.")
@KEYS
def init_command(site: Path, models: tuple[str, ...], keys: Path | None) -> None:
    """Make keys and an empty, signed publish site SITE."""
    from cloud_tools.publishing.keys import KeyFolder, check_apart, default_folder
    from cloud_tools.publishing.repository import check_no_site, create_site

    folder = KeyFolder(keys or default_folder(site))
    check_apart(folder.path, site)
    check_no_site(site)
    models = tuple(dict.fromkeys(models))
    folder.create(models)
    create_site(site, folder, models)
    click.echo(f"publish site {site} for {', '.join(models)}")
    click.echo(f"install {folder.root_metadata} on relays and devices: it is public")
    click.echo(f"move {folder.path / 'offline'} to a medium that is not connected, and keep a copy of it")
    where = f" --keys {shlex.quote(str(keys))}" if keys else ""
    again = f"cloud_tools keys refresh {shlex.quote(str(site))}{where}"
    click.echo(f"run this every day, or signatures expire after 14 days: {again}")


@keys_group.command("refresh")
@click.argument("site", type=EXISTING_FOLDER)
@KEYS
@click.option("--restored", is_flag=True, help="SITE was restored from an older copy: sign all that is online.")
def refresh_command(site: Path, keys: Path | None, restored: bool) -> None:
    """Sign SITE's short-lived metadata again (for cron or a systemd timer)."""
    from cloud_tools.publishing.keys import KeyFolder, default_folder
    from cloud_tools.publishing.repository import Repository
    from cloud_tools.publishing.site_folder import SiteFolder

    folder = SiteFolder(site)
    with folder.locked():
        signed = Repository(folder, KeyFolder(keys or default_folder(site))).refresh(everything=restored)
    click.echo(f"signed again: {', '.join(signed)}")
