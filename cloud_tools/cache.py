"""Owns the cache folder of the cloud tools: where it is, and files in it that are named and checked by SHA-256.

Refuses to fetch anything. Everything in it can be made again; deleting it costs time, never data.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contract.checks import parse_object
from contract.errors import InputError
from contract.files import atomic_file, atomic_write, json_bytes, sha256_file


def cache_folder() -> Path:
    """Return the cache folder: $KINWATCH_CACHE, else $XDG_CACHE_HOME/kinwatch, else ~/.cache/kinwatch; it is made.

    Raises:
        OSError: it cannot be made.
    """
    named = os.environ.get("KINWATCH_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(named) if named else Path(base) / "kinwatch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pinned_file(name: str, sha256: str, fetch: Callable[[Path], None]) -> Path:
    """Return the cached file whose digest is ``sha256``; ``fetch`` writes it to a path when it is missing or damaged.

    The digest is checked on each use. A complete file is never fetched again; one that was damaged is a miss.

    Raises:
        InputError: what ``fetch`` wrote has another digest; it is not kept.
        Whatever ``fetch`` raises.
    """
    path = cache_folder() / "inputs" / f"{sha256[:16]}-{name}"
    if path.is_file() and sha256_file(path) == sha256:
        return path
    path.parent.mkdir(exist_ok=True)
    incoming = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        fetch(incoming)
        found = sha256_file(incoming)
        if found != sha256:
            raise InputError(f"{name}: fetched a file with SHA-256 {found[:16]}..., wanted {sha256[:16]}...")
        _keep(incoming, path)
    finally:
        incoming.unlink(missing_ok=True)
    return path


def digest_of(*parts: str | bytes) -> str:
    """Return one SHA-256 (hexadecimal) over ``parts``, each with its length, so that no two lists give the same."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()


def cached_export(kind: str, key: str) -> tuple[bytes, dict[str, Any]] | None:
    """Return the exported model that is cached under ``key``, and how it was made; a damaged entry is a miss."""
    folder = cache_folder() / kind
    try:
        data = (folder / f"{key[:32]}.tflite").read_bytes()
        origin = parse_object((folder / f"{key[:32]}.json").read_bytes(), "a cached model")
    except (OSError, InputError):
        return None
    whole = hashlib.sha256(data).hexdigest() == origin.pop("sha256", None)
    return (data, origin) if whole and "difference" in origin else None


def cache_export(kind: str, key: str, data: bytes, origin: dict[str, Any]) -> None:
    """Keep an exported model and how it was made.

    Raises:
        OSError: the disk refused.
    """
    folder = cache_folder() / kind
    folder.mkdir(exist_ok=True)
    atomic_write(folder / f"{key[:32]}.tflite", data)
    # The digest is written last: a file without it is no entry.
    atomic_write(folder / f"{key[:32]}.json", json_bytes(origin | {"sha256": hashlib.sha256(data).hexdigest()}))


def _keep(incoming: Path, path: Path) -> None:
    with incoming.open("rb") as source, atomic_file(path) as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)
