"""Owns how ``publish`` speaks of a publish server: progress, waiting, and what came of it. Refuses to send."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloud_tools.commands.terminal import option_name, show_progress
from cloud_tools.setting_errors import Sentence

if TYPE_CHECKING:
    from cloud_tools.publishing.server_client import Answered


def publish_there(bundle: Path, url: str, token_file: Path, choices: dict[str, Any], *, as_json: bool) -> None:
    """Publish ``bundle`` by the server at ``url``, and print what came of it; ``choices``: see ``ServerOrder``."""
    from cloud_tools.publishing.server_client import ServerOrder, publish_to_server, read_token

    order = ServerOrder(bundle=bundle, url=url, token=read_token(token_file), **choices)

    def say(sentence: Sentence) -> None:
        click.echo(sentence.named(option_name), err=True)

    with show_progress() as progress:
        answered = publish_to_server(order, progress, say)
    _show(answered, as_json=as_json)


def _show(answered: "Answered", *, as_json: bool) -> None:
    result = answered.result
    release = result["release"]
    if as_json:
        steps = [{"s": seconds, "text": text} for seconds, text in answered.steps]
        body = {key: value for key, value in result.items() if key != "release"}
        click.echo(json.dumps({**body, **release, "seconds": answered.seconds, "steps": steps}, sort_keys=True))
        return
    whole = sum(entry["size"] for entry in release["files"].values())
    click.echo(f"{release['model']} {release['version']}: {answered.outcome}, channel {result['channel']}")
    click.echo(f"  whole: {whole:,} bytes in {len(release['files'])} files")
    for patch in release["patches"]:
        click.echo(f"  {patch['file']}: patch of {patch['size']:,} bytes from {patch['base'][:12]}")
    for seconds, text in answered.steps:
        click.echo(f"  after {seconds:.1f} s: {text}")
    click.echo(f"  the server took {answered.seconds:.1f} s")
