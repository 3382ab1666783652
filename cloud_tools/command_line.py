"""Owns the command line ``cloud_tools``: it puts the commands together and turns errors into exit codes.

Refuses to know what a command does. Nothing heavy is imported before a command runs.
"""

import os
from collections.abc import Sequence
from typing import Any

import click

from cloud_tools.commands.dataset import dataset_group
from cloud_tools.commands.diff import diff_command
from cloud_tools.commands.evaluate import evaluate_command
from cloud_tools.commands.inputs import inputs_command
from cloud_tools.commands.keys import keys_group
from cloud_tools.commands.publish import publish_command
from cloud_tools.commands.reproduce import reproduce_group
from cloud_tools.commands.serve import serve_command
from cloud_tools.commands.terminal import options_named
from cloud_tools.commands.train import train_command
from cloud_tools.commands.worker import worker_command
from contract import __version__
from contract.errors import run_command


class _Interrupted(BaseException):
    """Ctrl-C on its way past click, which would print an empty line before ours."""


class _Program(click.Group):
    def invoke(self, context: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt as error:
            raise _Interrupted from error


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 118})
@click.version_option(__version__, prog_name="cloud_tools")
def cloud_tools() -> None:
    """Train, publish and serve the models of Kinwatch."""


for command in (
    *(inputs_command, dataset_group, train_command, evaluate_command, reproduce_group),
    *(keys_group, publish_command, diff_command, serve_command, worker_command),
):
    cloud_tools.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration."""
    # OpenCV and its FFmpeg would put lines of their own before ours about the same file; they read this at import.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    return run_command("cloud_tools", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int | None:
    try:
        with options_named():
            result = cloud_tools.main(
                args=None if arguments is None else list(arguments), prog_name="cloud_tools", standalone_mode=False
            )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, _Interrupted) as error:
        raise KeyboardInterrupt from error
    return result if isinstance(result, int) else None
