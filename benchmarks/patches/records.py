"""Owns the pairs on disk: where their files are and what is on record about them. Refuses to make any.

Imports no training library, so that measuring starts in a moment and in little memory.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.patches.places import home, within
from contract.files import atomic_write, json_bytes, sha256_file

# The file of a SavedModel that the paper's table is about; tools for files are given this one.
VARIABLES = "variables/variables.data-00000-of-00001"


@dataclass(frozen=True)
class Made:
    """A pair on disk: two files or folders. ``compared``: the file inside that file tools are given, or ""."""

    name: str
    old: Path
    new: Path
    compared: str
    record: dict[str, Any] = field(hash=False)

    @property
    def files(self) -> tuple[Path, Path]:
        """The two files that every tool is given."""
        return self.old / self.compared, self.new / self.compared

    @property
    def is_folder(self) -> bool:
        """Whether the pair is two folders."""
        return bool(self.compared)

    def is_whole(self) -> bool:
        """Return whether both files are there as recorded."""
        sides = zip(self.files, ("old_sha256", "new_sha256"), strict=True)
        return all(path.is_file() and sha256_file(path) == self.record[key] for path, key in sides)


def load_pairs() -> dict[str, Made]:
    """Return the pairs that are recorded, by name, in the order in which they were made."""
    return {name: _open(name, record) for name, record in _load()["pairs"].items()}


def pair_versions() -> dict[str, str]:
    """Return the versions of the libraries that made the pairs."""
    return dict(_load()["versions"])


def save_pair(name: str, record: dict[str, Any], versions: dict[str, str]) -> Made:
    """Put the pair ``name``, whose files are in place, on record with its lengths and digests; return it."""
    old, new = _open(name, record).files
    found = {
        "old_bytes": old.stat().st_size,
        "new_bytes": new.stat().st_size,
        "old_sha256": sha256_file(old),
        "new_sha256": sha256_file(new),
    }
    records = _load()["pairs"] | {name: record | found}
    atomic_write(home() / "pairs.json", json_bytes({"schema": 1, "versions": versions, "pairs": records}))
    return _open(name, record | found)


def _load() -> dict[str, Any]:
    path = home() / "pairs.json"
    return dict(json.loads(path.read_bytes())) if path.exists() else {"schema": 1, "versions": {}, "pairs": {}}


def _open(name: str, record: dict[str, Any]) -> Made:
    folder, extension = within("pairs") / name, record["extension"]
    compared = "" if extension else VARIABLES
    return Made(name, folder / f"old{extension}", folder / f"new{extension}", compared, record)
