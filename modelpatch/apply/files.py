"""Owns applying a patch from file to file, and how a new file gets its name: whole or not at all.

Refuses to write where it reads. A target is a temporary file in the target's folder until it is complete, checked
and on disk; no temporary stays after an error. After a power cut or kill -9 one may (`temporaries.py`); the next
writer of the same target removes it.
"""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from modelpatch.apply.stream import Applied, apply_stream
from modelpatch.apply.temporaries import remove_stale, temporary_file
from modelpatch.errors import BaseMismatchError, FolderError, PatchError, SamePathError
from modelpatch.format.engine import STANDARD, Engine
from modelpatch.format.header import DEFAULT_MEMORY_BYTES

PathLike = str | os.PathLike[str]
_DEFAULT_MODE = 0o666


def apply_file(
    base: PathLike | None,
    patch: PathLike,
    target: PathLike,
    *,
    max_target_bytes: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
    engine: Engine = STANDARD,
) -> Applied:
    """Write to the file `target` what the file `patch` makes of the file `base`; see `modelpatch.apply_file`."""
    refuse_same_path(target, [base, patch])
    with (
        open_or_none(base) as base_stream,
        open_named(patch) as patch_stream,
        naming(base, patch),
        replacing(target) as out,
    ):
        return apply_stream(
            base_stream,
            patch_stream,
            out,
            max_target_bytes=max_target_bytes,
            max_memory_bytes=max_memory_bytes,
            engine=engine,
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
    """Open `path` for reading, or return None where there is none."""
    if path is None:
        yield None
        return
    with open_named(path) as stream:
        yield stream


@contextmanager
def blaming(name: PathLike) -> Iterator[None]:
    """Put on an `OSError` the name of the file that the user knows, not none and not that of a temporary."""
    try:
        yield
    except OSError as e:
        e.filename = str(name)
        if e.filename2 is not None:
            del e.filename2  # an assigned None would be shown
        raise


class _NamedFile(io.FileIO):
    """A file whose errors say its name, which reads and writes of the operating system leave out."""

    def __init__(self, file: PathLike | int, mode: str, name: PathLike) -> None:
        super().__init__(file, mode)
        self._name = name

    def readinto(self, buffer: Any) -> int | None:
        with blaming(self._name):
            return super().readinto(buffer)

    def write(self, data: Any) -> int:
        with blaming(self._name):
            return super().write(data)


def open_named(path: PathLike) -> BinaryIO:
    """Return `path` opened for reading; whatever goes wrong later, the error has the name of the file."""
    return io.BufferedReader(_NamedFile(path, "rb", path))


@contextmanager
def naming(base: PathLike | None, patch: PathLike) -> Iterator[None]:
    """Put the name of the file at fault in front of the message of a `PatchError`."""
    try:
        yield
    except FolderError:  # has the name already
        raise
    except BaseMismatchError as e:
        raise BaseMismatchError(f"{patch if base is None else base}: {e}") from e
    except PatchError as e:
        raise type(e)(f"{patch}: {e}") from e


@contextmanager
def replacing(target: PathLike) -> Iterator[BinaryIO]:
    """Return a stream whose bytes become the file `target` when the block ends well, and vanish when it does not.

    Temporaries of the same target that a killed process left behind are removed first.
    """
    path = Path(target)
    remove_stale(path)
    with writing(path) as stream:
        yield stream


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Do as `replacing`, without a look for leftovers.

    The order survives a power cut: write, fsync the file, rename, fsync the folder.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    with temporary_file(path) as (handle, name):
        # The temporary stays open, and so locked, until it has its final name.
        with io.BufferedWriter(_NamedFile(os.dup(handle), "wb", path)) as stream:
            yield stream
        with blaming(path):
            os.fchmod(handle, _mode_for(path))
            os.fsync(handle)
            name.replace(path)
    with blaming(path):
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
