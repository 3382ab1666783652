"""Owns putting received files together as a bundle again, and what is checked before. Refuses to judge a release.

Names of files come from the manifest, whose parser takes plain names alone; nothing is ever unpacked into a folder.
"""

import os
import shutil
import zipfile
from pathlib import Path

from cloud_tools.publish_server.uploads.store import UploadStore
from contract.checks import safe_name
from contract.errors import InputError
from contract.files import atomic_write
from contract.manifest import NAME, FileEntry, Manifest, parse_manifest

SELFTEST_MOST_BYTES = 64 << 20  # unpacked; ours have 2 MB. A device holds them in memory
SELFTEST_MOST_PARTS = 16


def check_manifest(data: bytes, store: UploadStore) -> Manifest:
    """Read a manifest, all of whose files must be here.

    Raises:
        InputError: it is wrong, a file is missing, or the self-test's inputs are no such file, or a bomb.
    """
    manifest = parse_manifest(data)
    for name, entry in manifest.files().items():
        found(store, name, entry)
    test = manifest.selftest
    check_selftest(found(store, test.file, FileEntry(test.sha256, test.size)), test.file)
    return manifest


def found(store: UploadStore, name: str, entry: FileEntry) -> Path:
    """Return where a file of a bundle lies; InputError when it was not received."""
    place = store.find(entry)
    if place is None:
        raise InputError(f"{name} is not here: send its {entry.size} bytes first")
    return place


def check_selftest(path: Path, name: str) -> None:
    """Refuse a self-test file that is no npz of a few arrays, or that unpacks to more than a device could hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    # zipfile says NotImplementedError of an archive of a later version
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise InputError(f"{name}: no npz file") from error
    if len(parts) > SELFTEST_MOST_PARTS or sum(part.file_size for part in parts) > SELFTEST_MOST_BYTES:
        raise InputError(f"{name}: unpacks to over {SELFTEST_MOST_PARTS} arrays or {SELFTEST_MOST_BYTES >> 20} MiB")
    if not all(part.filename.endswith(".npy") and "/" not in part.filename for part in parts):
        raise InputError(f"{name}: holds something that is no array")


def assemble(data: bytes, store: UploadStore, folder: Path) -> Manifest:
    """Make ``folder`` the bundle of the manifest ``data``; what was there before goes.

    Raises:
        InputError: a file is missing.
        OSError: the disk refused.
    """
    manifest = parse_manifest(data)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, entry in manifest.files().items():
        # A second name, not a copy: the bytes of what has a digest as its name never change.
        os.link(found(store, name, entry), folder / safe_name(name, NAME))
    atomic_write(folder / NAME, data)
    return manifest
