"""Owns the command ``serve``: a publish site, or a whole publish server, until told to stop. Refuses to answer."""

from pathlib import Path

import click

from cloud_tools.commands.terminal import EXISTING_FOLDER, FOLDER


@click.command("serve")
@click.option("--site", type=EXISTING_FOLDER, help="Serve this publish site's folder, and nothing else.")
@click.option("--data", type=FOLDER, help="Run a publish server that keeps everything here; made if it is not there.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8470, show_default=True, help="0 takes a free one.")
@click.option("--access-log", is_flag=True, help="With a site: log each request with its bytes to stderr.")
def serve_command(site: Path | None, data: Path | None, listen: str, port: int, access_log: bool) -> None:
    """Serve a publish site over HTTP, or run a publish server (pages, API, worker, broker), until SIGTERM."""
    from contract.events import start_logging

    if (site is None) == (data is None):
        raise click.UsageError("give either --site or --data")
    start_logging()
    if site is not None:
        _serve_site(site, listen, port, access_log=access_log)
    elif data is not None:
        _serve_all(data, listen, port)


def _serve_site(site: Path, listen: str, port: int, *, access_log: bool) -> None:
    from cloud_tools.publishing.site_server import serve

    serve(site, listen, port, access_log=access_log, ready=lambda url: click.echo(f"serving {site} at {url}"))


def _serve_all(data: Path, listen: str, port: int) -> None:
    from cloud_tools.publish_server.process.server import serve

    chosen = {"DATA": str(data.resolve()), "LISTEN": listen, "PORT": str(port)}
    serve(chosen, ready=lambda url: click.echo(f"serving {data} at {url}"))
