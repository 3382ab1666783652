"""Owns the command ``publish``: a bundle becomes a signed release, and the broker is told. Refuses to judge it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloud_tools.commands.publish_to_server import publish_there
from cloud_tools.commands.terminal import EXISTING_FILE, EXISTING_FOLDER, KEYS, ONE_JSON_OBJECT, option_name
from contract.errors import PeerError
from contract.rollout import LONGEST_JITTER_S

if TYPE_CHECKING:
    from cloud_tools.publishing.publish import Order, Published
    from contract.broker import BrokerAddress


@click.command("publish")
@click.argument("bundle", type=EXISTING_FOLDER)
@click.option("--site", type=EXISTING_FOLDER, help="Sign into this publish site's folder.")
@KEYS
@click.option("--server", metavar="URL", help="Let this publish server do it, instead of a folder here.")
@click.option("--token-file", type=EXISTING_FILE, metavar="FILE", help="With a server: the token to use, in a file.")
@click.option("--channel", default="stable", show_default=True)
@click.option("--rollout", type=click.IntRange(0, 100), default=100, show_default=True, help="Percent of devices.")
@click.option("--jitter", type=click.IntRange(0, LONGEST_JITTER_S), default=0, show_default=True, metavar="SECONDS")
@click.option(
    "--patches-from",
    type=click.IntRange(0, 8),
    show_default="3; by a server 5",
    help="Patch so many earlier releases.",
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
@click.option(
    "--broker",
    metavar="URL",
    help="mqtt://[user:password@]host[:port] to tell, or mqtts://; in a password # is written %23, / %2F, @ %40.",
)
@ONE_JSON_OBJECT
def publish_command(
    bundle: Path,
    site: Path | None,
    keys: Path | None,
    server: str | None,
    token_file: Path | None,
    channel: str,
    rollout: int,
    jitter: int,
    patches_from: int | None,
    margin: float,
    held_out: Path | None,
    accept_regression: bool,
    broker: str | None,
    as_json: bool,
) -> None:
    """Diff BUNDLE against earlier releases, sign it, and tell the broker. Safe to run again."""
    choices = {
        "channel": channel,
        "rollout_percent": rollout,
        "jitter_s": jitter,
        "margin_points": margin,
        "accept_regression": accept_regression,
        **({} if patches_from is None else {"patches_from": patches_from}),
    }
    if server is not None:
        if site or keys or held_out or broker:
            raise click.UsageError("--server has site, keys and broker of its own, and no held-out dataset")
        if token_file is None:
            raise click.UsageError("--server needs --token-file")
        return publish_there(bundle, server, token_file, choices, as_json=as_json)
    if site is None or token_file is not None:
        raise click.UsageError("give either --site, or --server with --token-file")
    return _publish_here(bundle, site, keys, held_out, broker, choices, as_json=as_json)


def _publish_here(
    bundle: Path,
    site: Path,
    keys: Path | None,
    held_out: Path | None,
    broker: str | None,
    choices: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    from cloud_tools.publishing.keys import default_folder
    from cloud_tools.publishing.publish import Order, publish
    from contract.broker import parse_broker

    address = parse_broker(broker) if broker else None
    order = Order(bundle=bundle, site=site, keys=keys or default_folder(site), held_out=held_out, **choices)
    published = publish(order, lambda note: click.echo(note.named(option_name), err=True))
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
        body = {"outcome": published.outcome.name.lower(), "notified": notified, "digest": published.digest}
        channel = {"channel": published.channel, "channel_version": published.channel_version}
        click.echo(json.dumps({**body, **channel, **target.custom()}, sort_keys=True))
        return
    whole = sum(entry.size for entry in target.files.values())
    click.echo(f"{target.model} {target.version}: {published.outcome.value}, channel {published.channel}")
    click.echo(f"  whole: {whole:,} bytes in {len(target.files)} files")
    for patch in target.patches:
        click.echo(f"  {patch.file}: patch of {patch.size:,} bytes from {patch.base[:12]}")
    if published.channel_version != target.version:
        click.echo(f"  channel {published.channel} has moved on to {published.channel_version}")
    if notified:
        click.echo("  the broker has the notice")
