"""Owns how files are written and checked; nobody else writes state. Refuses to know what is in them."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from contract.errors import InputError

CHUNK_BYTES = 1 << 20


def fsync_folder(folder: Path) -> None:
    """Make names in ``folder`` durable; without this a power cut may undo a rename that was reported."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the name ``path`` when the block ends without an error.

    The temporary is in the same folder; file and folder are synced, so that a power cut leaves the old file or
    the new one, whole. On any error the old file stays and no temporary is left.

    Raises:
        OSError: the disk refused.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:  # Ctrl-C too must leave no temporary
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    fsync_folder(path.parent)


def atomic_rename(source: Path, target: Path) -> None:
    """Give the finished file ``source`` its name, durably; what had that name is gone. Both are in one folder.

    Raises:
        OSError: the disk refused.
        ValueError: they are not in one folder.
    """
    if source.parent != target.parent:
        raise ValueError(f"{source} and {target} are not in one folder")
    source.replace(target)
    fsync_folder(target.parent)


@contextlib.contextmanager
def atomic_folder(path: Path, mode: int = 0o755) -> Iterator[Path]:
    """Return a temporary folder beside ``path`` that takes its name when the block ends without an error.

    ``path`` must not be there yet, or be an empty folder. On any error nothing of the folder is left.

    Raises:
        OSError: the disk refused, or the name was taken meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        building.chmod(mode)
        yield building
        building.rename(path)
    except BaseException:  # Ctrl-C too must leave no half folder
        shutil.rmtree(building, ignore_errors=True)
        raise
    fsync_folder(path.parent)


def atomic_write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write ``data`` as ``path`` so that a power cut leaves the old file or the new one, whole."""
    with atomic_file(path, mode) as file:
        file.write(data)


def json_bytes(value: Any) -> bytes:
    """Return ``value`` as UTF-8 JSON, indented and with sorted keys: the same value gives the same bytes."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def compact_json_bytes(value: Any) -> bytes:
    """Return ``value`` as ``json_bytes`` does, without the blanks: for what travels with every update."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, reading it in pieces of 1 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_capped(path: Path, limit_bytes: int) -> bytes:
    """Read a file that must not be longer than ``limit_bytes``.

    Raises:
        InputError: the file is longer.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise InputError(f"{path}: longer than {limit_bytes} bytes")
    return data
