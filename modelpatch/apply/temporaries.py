"""Owns the temporaries that targets are written to, and the removal of those that a dead process left behind.

Refuses to remove what another process holds: the writer of a temporary keeps it locked (flock) until it has its final
name, so an unlocked one is left over from kill -9 or a power cut. Where a file system has no flock, none is removed.
A temporary of the target NAME is `.NAME.XXXXXXXX.part` beside it, NAME cut to 100 bytes.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SUFFIX = ".part"
_NAME_BYTES = 100
# What `tempfile` puts in the middle: without a dot, so that the leftovers of `a.b` are not taken for those of `a`.
_RANDOM = "[a-z0-9_]{8}"
_HELD_BY_ANOTHER = (errno.EWOULDBLOCK, errno.EACCES)
_TRIES = 100


def remove_stale(target: Path) -> None:
    """Remove the temporaries of `target` that nobody holds. What cannot be removed stays, without an error."""
    ours = re.compile(re.escape(_prefix(target)) + _RANDOM + re.escape(_SUFFIX))
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_unless_held(Path(entry.path))


@contextlib.contextmanager
def temporary_file(target: Path) -> Iterator[tuple[int, Path]]:
    """Return the handle and the name of a new, held file beside `target`. It is closed, and removed if still there.

    Raises:
        OSError: it cannot be made; the error names `target`.
    """
    with _held(target, folder=False) as (handle, name):
        try:
            yield handle, name
        finally:
            with contextlib.suppress(OSError):  # it is gone, or stays for the next writer to remove
                name.unlink()


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Return a new, held folder beside `target`, which is removed if it is still there at the end.

    Raises:
        OSError: it cannot be made; the error names `target`.
    """
    with _held(target, folder=True) as (_, name):
        try:
            yield name
        finally:
            shutil.rmtree(name, ignore_errors=True)


@contextlib.contextmanager
def _held(target: Path, *, folder: bool) -> Iterator[tuple[int, Path]]:
    """Return a locked temporary. Another process may remove it before the lock is ours: then another one is made."""
    for _ in range(_TRIES):
        handle, name = _make(target, folder)
        try:
            if _lock(handle) is not False and _is_at(handle, name):
                yield handle, name
                return
        finally:
            os.close(handle)
    raise FileExistsError(errno.EEXIST, "Another process removes its temporary again and again", str(target))


def _make(target: Path, folder: bool) -> tuple[int, Path]:
    try:
        if not folder:
            handle, made = tempfile.mkstemp(prefix=_prefix(target), suffix=_SUFFIX, dir=target.parent)
            return handle, Path(made)
        made = tempfile.mkdtemp(prefix=_prefix(target), suffix=_SUFFIX, dir=target.parent)
    except OSError as e:
        raise type(e)(e.errno, e.strerror, str(target)) from e
    try:
        return os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), Path(made)
    except FileNotFoundError:
        return _make(target, folder)  # removed as stale in between


def _prefix(target: Path) -> str:
    return f".{os.fsencode(target.name)[:_NAME_BYTES].decode(errors='ignore')}."


def _remove_unless_held(path: Path) -> None:
    folder = path.is_dir() and not path.is_symlink()
    if not folder and not path.is_file():
        return
    # Locks over NFS need a handle that may write.
    handle = os.open(path, os.O_NOFOLLOW | (os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR))
    try:
        if _lock(handle) and _is_at(handle, path):
            shutil.rmtree(path) if folder else path.unlink()
    finally:
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Lock `handle`; False where another process holds it, None where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        return False if e.errno in _HELD_BY_ANOTHER else None
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Return whether `path` is still the name of the open file: another process may have removed or renamed it."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(handle))
