"""Owns applying a patch from file to file, and how a new file gets its name: whole or not at all.

Refuses to write where it reads. A target is a temporary file in the target's folder until it is complete, checked
and on disk; no temporary stays after an error. After a power cut or kill -9 one may, named `.NAME.*.part`.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from modelpatch.applying import Applied, apply_stream
from modelpatch.errors import BaseMismatchError, PatchError, SamePathError
from modelpatch.header import DEFAULT_MEMORY_BYTES

PathLike = str | os.PathLike[str]
_DEFAULT_MODE = 0o666


def apply_file(
    base: PathLike | None,
    patch: PathLike,
    target: PathLike,
    *,
    max_target_bytes: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Applied:
    """Write to the file `target` what the file `patch` makes of the file `base`; an older `target` is replaced.

    The bytes and the name are on disk when this returns. `base` may be None for a whole-file patch. Limits are
    those of `apply_stream`.

    Raises:
        SamePathError: two of the three are one file.
        PatchError: as `apply_stream`; the message names the file at fault, `target` is as it was.
        OSError: a file cannot be read or written (missing, disk full); `target` is as it was.
    """
    refuse_same_path(target, [base, patch])
    with (
        open_or_none(base) as base_stream,
        Path(patch).open("rb") as patch_stream,
        naming(base, patch),
        replacing(target) as out,
    ):
        return apply_stream(
            base_stream, patch_stream, out, max_target_bytes=max_target_bytes, max_memory_bytes=max_memory_bytes
        )


def refuse_same_path(target: PathLike, others: list[PathLike | None]) -> None:
    """Refuse to write to a file that is also read, by whatever name or link.

    Raises:
        SamePathError: `target` is one of `others`.
    """
    real = Path(target).resolve()
    for other in others:
        if other is None:
            continue
        path = Path(other)
        if path.resolve() == real or (path.exists() and real.exists() and path.samefile(real)):
            raise SamePathError(f"{target}: this is also an input; name another target")


@contextmanager
def open_or_none(path: PathLike | None) -> Iterator[BinaryIO | None]:
    """Open `path` for reading, or give None where there is none."""
    if path is None:
        yield None
        return
    with Path(path).open("rb") as stream:
        yield stream


@contextmanager
def naming(base: PathLike | None, patch: PathLike) -> Iterator[None]:
    """Put the name of the file at fault in front of the message of a `PatchError`."""
    try:
        yield
    except BaseMismatchError as e:
        raise BaseMismatchError(f"{patch if base is None else base}: {e}") from e
    except PatchError as e:
        raise type(e)(f"{patch}: {e}") from e


@contextmanager
def replacing(target: PathLike) -> Iterator[BinaryIO]:
    """Give a stream whose bytes become the file `target` when the block ends well, and vanish when it does not.

    The order survives a power cut: write, fsync the file, rename, fsync the folder.
    """
    path = Path(target)
    if path.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), _mode_for(path))
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:  # whatever stops the block, a signal included, takes the temporary with it
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mode_for(path: Path) -> int:
    """Return the mode of the file that is replaced, or what the process gives to new files."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return _DEFAULT_MODE & ~mask
