"""Owns the files of a publish site: where they lie, how they appear, and the lock of those who write.

Refuses to sign and to know what a release is. Whatever has a final name is whole and synced; leftovers of a killed
writer have names that start with a dot, are never served, and go when the next writer starts.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from contract.errors import InputError, PeerError, StorageError, describe_os_error
from contract.files import CHUNK_BYTES, atomic_file, atomic_write, fsync_folder, read_capped, sha256_file
from contract.manifest import FileEntry
from contract.release import content_path

SERVED = ("metadata", "targets", "content")
METADATA_MOST_BYTES = 2_000_000  # what a client accepts (contract.trust)
LOCK_LIMIT_S = 600.0  # longer than diffing a 500 MB model takes
LOCK_POLL_S = 0.1


class SiteFolder:
    """The files of one site, read and written by their role in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the served folders."""
        for name in SERVED:
            (self.path / name).mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self, limit_s: float = LOCK_LIMIT_S) -> Iterator[None]:
        """Be the only writer; the kernel gives the lock back when a writer dies.

        Raises:
            InputError: this is no site.
            PeerError: another writer kept the lock longer than ``limit_s``.
        """
        try:
            descriptor = os.open(self.path / "metadata", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise InputError(f"{self.path} is no publish site (make one: cloud_tools keys init)") from error
        try:
            _wait_for_lock(descriptor, self.path, limit_s)
            yield
        finally:
            os.close(descriptor)

    def remove_leftovers(self) -> None:
        """Remove what a killed writer left; call it with the lock held."""
        shutil.rmtree(self.path / ".work", ignore_errors=True)
        for name in SERVED:
            for leftover in (self.path / name).rglob(".*.tmp"):
                leftover.unlink()

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Return a folder for patches in the making, on the site's own disk; gone afterwards."""
        place = self.path / ".work"
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def metadata(self, name: str) -> bytes | None:
        """Read a metadata file, or None when it is not there; InputError when it is longer than clients accept."""
        try:
            return read_capped(self.path / "metadata" / name, METADATA_MOST_BYTES)
        except FileNotFoundError:
            return None

    def write_metadata(self, name: str, data: bytes) -> None:
        """Write a metadata file. ``timestamp.json`` is the commit point: write it last."""
        atomic_write(self.path / "metadata" / name, data)

    def write_target(self, path: str, data: bytes) -> None:
        """Write a target under its consistent-snapshot name, with its digest in front of the last part."""
        folder, _, name = path.rpartition("/")
        place = self.path / "targets" / folder
        place.mkdir(parents=True, exist_ok=True)
        for parent in (place.parent, place.parent.parent):
            fsync_folder(parent)
        atomic_write(place / f"{hashlib.sha256(data).hexdigest()}.{name}", data)

    def content(self, sha256: str) -> Path:
        """Return where the object ``sha256`` lies, or will."""
        return self.path / content_path(sha256)

    def has_content(self, entry: FileEntry) -> bool:
        """Return whether the object is there and is what its name says."""
        place = self.content(entry.sha256)
        return place.is_file() and place.stat().st_size == entry.size and sha256_file(place) == entry.sha256

    def add_content(self, source: Path, entry: FileEntry) -> bool:
        """Copy ``source`` into the contents, unless it is there whole; say whether it was copied.

        Raises:
            InputError: ``source`` is not ``entry`` (it changed after it was checked).
            OSError: the disk refused.
        """
        if self.has_content(entry):
            return False
        digest = hashlib.sha256()
        with source.open("rb") as old, atomic_file(self.content(entry.sha256)) as new:
            while chunk := old.read(CHUNK_BYTES):
                digest.update(chunk)
                new.write(chunk)
            if digest.hexdigest() != entry.sha256:
                raise InputError(f"{source}: it changed while it was published")
        return True


@contextlib.contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn what the disk refuses into one line that says what was being done.

    Raises:
        StorageError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        reason = describe_os_error(error)
        raise StorageError(f"{doing}: {reason}; the site is whole, run this again to finish") from error


def _wait_for_lock(descriptor: int, site: Path, limit_s: float) -> None:
    limit = time.monotonic() + limit_s
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > limit:
                raise PeerError(f"{site}: another publisher has been at work for over {limit_s:.0f} s") from error
        time.sleep(LOCK_POLL_S)
