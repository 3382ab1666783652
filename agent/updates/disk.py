"""Owns what the operating system says about the disk, turned into our words. Refuses to write anything."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from contract.errors import StorageError, describe_os_error


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``StorageError`` that names the file and the reason."""
    try:
        yield
    except OSError as error:
        raise StorageError(describe_os_error(error)) from error


def free_bytes(folder: Path) -> int:
    """Return what this user may still write on the disk of ``folder``."""
    with disk_errors():
        return shutil.disk_usage(folder).free


def forget_cached(path: Path) -> None:
    """Drop ``path`` from the page cache, so that the next read comes from the medium; a hint, never an error."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
