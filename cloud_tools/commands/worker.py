"""Owns the command ``worker``: one more worker for a publish server. Refuses to work by itself."""

import os
from pathlib import Path

import click

from cloud_tools.commands.terminal import EXISTING_FOLDER


@click.command("worker")
@click.option("--data", type=EXISTING_FOLDER, required=True, help="The publish server's folder.")
def worker_command(data: Path) -> None:
    """Do a publish server's jobs, beside the worker that `cloud_tools serve` starts, until SIGTERM."""
    from cloud_tools.publish_server.config import PREFIX
    from cloud_tools.publish_server.process.worker import work

    os.environ[f"{PREFIX}DATA"] = str(data)
    work()
