"""Owns what a video file says of itself, asked by an ffprobe child; refuses files that are no video.

Raises InputError alone: a file is what a person gave.
"""

import json
import stat
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from contract.errors import InputError
from contract.video.child import Complaints, environment, limited, program
from contract.video.inputs import file_options

LIMIT_S = 30.0  # of looking at a file
UNKNOWN_FPS = 25.0  # for a file that does not say
MOST_FPS = 1000.0
FIELDS = "stream=codec_name,field_order,avg_frame_rate,r_frame_rate:stream_disposition=attached_pic"


@dataclass(frozen=True)
class FileInfo:
    """Pictures a second, on average; whether they are interlaced."""

    fps: float
    interlaced: bool


def probe(path: Path) -> FileInfo:
    """Ask what is in a video file.

    Raises:
        InputError: no such file, not a file, empty, no video, sound alone, or ffprobe is not installed.
    """
    _check_file(path)
    streams = [stream for stream in _streams(path) if not stream.get("disposition", {}).get("attached_pic")]
    if not streams:
        raise InputError(f"{path}: no video in it")
    stream = streams[0]
    fps = _rate(stream.get("avg_frame_rate")) or _rate(stream.get("r_frame_rate")) or UNKNOWN_FPS
    return FileInfo(fps, stream.get("field_order") in ("tt", "bb", "tb", "bt"))


def _check_file(path: Path) -> None:
    try:
        found = path.stat()
        with path.open("rb") if stat.S_ISREG(found.st_mode) else path.parent.open("rb") as file:
            file.read(1)
    except IsADirectoryError as error:
        raise InputError(f"{path}: not a file") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if found.st_size == 0:
        raise InputError(f"{path}: the file is empty")


def _streams(path: Path) -> list[dict[str, Any]]:
    ask = ("-v", "error", "-select_streams", "v", "-show_entries", FIELDS, "-of", "json")
    try:
        done = subprocess.run(
            limited([program("ffprobe"), *ask, *file_options(path)]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path}: not a video that can be read in {LIMIT_S:g} s") from error
    if done.returncode:
        said = Complaints()
        said.add(done.stderr.decode(errors="replace"))
        raise InputError(f"{path}: not a video that can be read ({said.first or f'exit code {done.returncode}'})")
    found = json.loads(done.stdout)["streams"]
    return list(found)


def _rate(text: object) -> float:
    """Return a rate such as 30000/1001, or 0 for none that can be."""
    try:
        rate = float(Fraction(str(text)))
    except (ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return rate if 0 < rate <= MOST_FPS else 0.0
