"""Owns the command ``serve``: a publish site over HTTP until it is told to stop. Refuses to answer by itself."""

from pathlib import Path

import click

from cloud_tools.commands.terminal import EXISTING_FOLDER


@click.command("serve")
@click.option("--site", type=EXISTING_FOLDER, required=True, help="The publish site's folder.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8470, show_default=True, help="0 takes a free one.")
@click.option("--access-log", is_flag=True, help="Log each request with its bytes to stderr.")
def serve_command(site: Path, listen: str, port: int, access_log: bool) -> None:
    """Serve a publish site over HTTP until SIGTERM."""
    from cloud_tools.publishing.site_server import serve
    from contract.events import start_logging

    start_logging()
    serve(site, listen, port, access_log=access_log, ready=lambda url: click.echo(f"serving {site} at {url}"))
