"""Owns the commands of publishing as a person types them: keys, publish, diff, serve. Refuses to do the work itself.

Libraries are imported inside the commands: ``cloud_tools --help`` must answer at once.
"""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from contract.errors import PeerError
from contract.rollout import LONGEST_JITTER_S

if TYPE_CHECKING:
    from cloud_tools.publishing.publish import Order, Published
    from contract.broker import BrokerAddress

FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING = click.Path(path_type=Path, exists=True)
keys_option = click.option("--keys", type=FOLDER, help="Folder of the keys (default: SITE-keys, beside SITE).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def keys() -> None:
    """Make and use the keys that a publish site is signed with."""


@keys.command("init")
@click.argument("site", type=FOLDER)
@click.option("--model", "models", multiple=True, default=("household",), show_default=True, help="May be repeated.")
@keys_option
def init(site: Path, models: tuple[str, ...], keys: Path | None) -> None:
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


@keys.command("refresh")
@click.argument("site", type=EXISTING_FOLDER)
@keys_option
def refresh(site: Path, keys: Path | None) -> None:
    """Sign SITE's short-lived metadata again (for cron or a systemd timer)."""
    from cloud_tools.publishing.keys import KeyFolder, default_folder
    from cloud_tools.publishing.repository import Repository
    from cloud_tools.publishing.site_folder import SiteFolder

    folder = SiteFolder(site)
    with folder.locked():
        signed = Repository(folder, KeyFolder(keys or default_folder(site))).refresh()
    click.echo(f"signed again: {', '.join(signed)}")


@click.command()
@click.argument("bundle", type=EXISTING_FOLDER)
@click.option("--site", type=EXISTING_FOLDER, required=True, help="The publish site's folder.")
@keys_option
@click.option("--channel", default="stable", show_default=True)
@click.option("--rollout", type=click.IntRange(0, 100), default=100, show_default=True, help="Percent of devices.")
@click.option("--jitter", type=click.IntRange(0, LONGEST_JITTER_S), default=0, show_default=True, metavar="SECONDS")
@click.option(
    "--patches-from", type=click.IntRange(0, 8), default=3, show_default=True, help="Patch so many earlier releases."
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 100),
    default=2.0,
    show_default=True,
    metavar="POINTS",
    help="What anybody may lose in accuracy against the channel's release.",
)
@click.option("--held-out", type=EXISTING_FOLDER, metavar="DATASET", help="Measure both releases anew on this.")
@click.option("--accept-regression", is_flag=True, help="Publish even if somebody loses more than the margin.")
@click.option("--broker", metavar="URL", help="mqtt://[user:password@]host[:port] to tell, or mqtts://.")
@json_option
def publish(
    bundle: Path,
    site: Path,
    keys: Path | None,
    channel: str,
    rollout: int,
    jitter: int,
    patches_from: int,
    margin: float,
    held_out: Path | None,
    accept_regression: bool,
    broker: str | None,
    as_json: bool,
) -> None:
    """Diff BUNDLE against earlier releases, sign it, and tell the broker. Safe to run again."""
    from cloud_tools.publishing import keys as key_folder
    from cloud_tools.publishing.publish import Order
    from cloud_tools.publishing.publish import publish as publish_bundle
    from contract.broker import parse_broker

    address = parse_broker(broker) if broker else None
    where = keys or key_folder.default_folder(site)
    judged = (margin, held_out, accept_regression)
    order = Order(bundle, site, where, channel, rollout, jitter, patches_from, *judged)
    published = publish_bundle(order, lambda line: click.echo(line, err=True))
    failure = _tell(order, published, address) if address else None
    _show(published, as_json=as_json, notified=address is not None and failure is None)
    if failure:
        again = "the release is published; run the same command again to send the notice"
        raise PeerError(f"{failure}; {again}") from failure


def _tell(order: "Order", published: "Published", address: "BrokerAddress") -> PeerError | None:
    """Notify with the lock held, so that the broker keeps the newest notice; return an error instead of raising."""
    from cloud_tools.publishing.keys import KeyFolder
    from cloud_tools.publishing.notify import send_notice
    from cloud_tools.publishing.publish import current_notice
    from cloud_tools.publishing.site_folder import SiteFolder

    site, model = SiteFolder(order.site), published.target.model
    with site.locked():
        notice = current_notice(site, KeyFolder(order.keys), model, order.channel)
        try:
            send_notice(address, model, order.channel, notice)
        except PeerError as error:
            return error
    return None


def _show(published: "Published", *, as_json: bool, notified: bool) -> None:
    target = published.target
    if as_json:
        body = {"outcome": published.step.name.lower(), "notified": notified, "digest": published.digest}
        channel = {"channel": published.channel, "channel_version": published.channel_version}
        click.echo(json.dumps({**body, **channel, **target.custom()}, sort_keys=True))
        return
    whole = sum(entry.size for entry in target.files.values())
    click.echo(f"{target.model} {target.version}: {published.step.value}, channel {published.channel}")
    click.echo(f"  whole: {whole:,} bytes in {len(target.files)} files")
    for patch in target.patches:
        click.echo(f"  {patch.file}: patch of {patch.size:,} bytes from {patch.base[:12]}")
    if published.channel_version != target.version:
        click.echo(f"  channel {published.channel} has moved on to {published.channel_version}")
    if notified:
        click.echo("  the broker has the notice")


@click.command()
@click.argument("old", type=EXISTING)
@click.argument("new", type=EXISTING)
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def diff(old: Path, new: Path, out: Path, as_json: bool) -> None:
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


@click.command()
@click.option("--site", type=EXISTING_FOLDER, required=True, help="The publish site's folder.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8470, show_default=True, help="0 takes a free one.")
@click.option("--access-log", is_flag=True, help="Log each request with its bytes to stderr.")
def serve(site: Path, listen: str, port: int, access_log: bool) -> None:
    """Serve a publish site over HTTP until SIGTERM."""
    from cloud_tools.publishing.site_server import serve as serve_site
    from contract.events import start_logging

    start_logging()
    serve_site(site, listen, port, access_log=access_log, ready=lambda url: click.echo(f"serving {site} at {url}"))


commands: list[click.Command] = [keys, publish, diff, serve]
