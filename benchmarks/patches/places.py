"""Owns where the benchmark keeps what it made: under the cache of cloud_tools. Refuses to write anywhere else."""

from pathlib import Path

from cloud_tools.cache import cache_folder


def home() -> Path:
    """Return the benchmark's folder in the cache; made if missing."""
    folder = cache_folder() / "benchmarks" / "patches"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def within(name: str) -> Path:
    """Return the folder ``name`` under ``home()``; made if missing."""
    folder = home() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
