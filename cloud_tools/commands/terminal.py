"""Owns what commands share: kinds of arguments, the names of options, output and progress on a terminal.

Refuses to know what any command does.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cloud_tools.progress import Progress
from cloud_tools.setting_errors import FetchError, Setting, SettingError
from contract.errors import InputError, PeerError

A_PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
EXISTING = click.Path(path_type=Path, exists=True)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
ONE_JSON_OBJECT = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
KEYS = click.option("--keys", type=FOLDER, help="Folder of the keys (default: SITE-keys, beside SITE).")
GAP_S = click.option(
    "--gap-s", type=click.FloatRange(0), default=1.0, show_default=True, help="Least time between train and test."
)


def option_name(setting: Setting) -> str:
    """Return the option by which a person gives ``setting``."""
    return "--" + setting.value.replace("_", "-")


@contextmanager
def options_named() -> Iterator[None]:
    """Let errors that are about settings name them by their options.

    Raises:
        InputError, PeerError: instead of the error that names settings.
    """
    try:
        yield
    except SettingError as error:
        raise InputError(error.sentence.named(option_name)) from error
    except FetchError as error:
        raise PeerError(error.sentence.named(option_name)) from error


def show(body: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """Print ``body`` as JSON, or ``lines``."""
    click.echo(json.dumps(body, indent=1, ensure_ascii=False) if as_json else "\n".join(lines))


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Return what shows progress as bars on stderr; a terminal sees them, a log does not."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell
