"""Owns the result file: what was measured, with what, and whether it still counts. Refuses to measure.

Schema: ``{"schema": 1, "machine": {...}, "versions": {...}, "measured": {pair: {tool: {...}}}}``. Each measurement
has a ``key`` over the pair's files and the tool's version or code: another key means that it is measured again.
"""

import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.patches.places import home
from cloud_tools.cache import digest_of
from contract.files import atomic_write, json_bytes

OURS = {
    "modelpatch best": ("best", False),
    "modelpatch fast": ("fast", False),
    "modelpatch best, folder": ("best", True),
    "modelpatch fast, folder": ("fast", True),
}
BEST, FAST = "modelpatch best", "modelpatch fast"
METHOD = "1"  # changes when the way of measuring does


@dataclass
class Results:
    """All measurements by pair and tool, and what they were made on."""

    path: Path
    machine: dict[str, Any]
    versions: dict[str, str]
    measured: dict[str, dict[str, dict[str, Any]]]

    def kept(self, pair: str, tool: str, key: str) -> bool:
        """Return whether the tool was measured on these very files with this very code."""
        return self.measured.get(pair, {}).get(tool, {}).get("key") == key

    def put(self, pair: str, tool: str, found: dict[str, Any]) -> None:
        """Put one measurement on record, on disk at once, beside what another run put there meanwhile."""
        with _locked(self.path):
            self.measured = load_results(self.path).measured
            self.measured.setdefault(pair, {})[tool] = found
            atomic_write(self.path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the file."""
        top = {"schema": 1, "machine": self.machine, "versions": self.versions, "measured": self.measured}
        return json_bytes(top)


def load_results(path: Path | None = None) -> Results:
    """Return the results in ``path`` (the cache's by default); empty ones where there are none."""
    path = path or home() / "results.json"
    top = json.loads(path.read_bytes()) if path.exists() else {"machine": {}, "versions": {}, "measured": {}}
    return Results(path, top["machine"], top["versions"], top["measured"])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def key_of(record: dict[str, Any], tool: str, version: str) -> str:
    """Return the key of a measurement: the pair's files, the tool, its version or code, and the Python."""
    files = (record["old_sha256"], record["new_sha256"])
    return digest_of(METHOD, *files, tool, version, platform.python_version())[:16]


def describe_machine() -> dict[str, Any]:
    """Return what the times depend on: processor, cores, memory, system, Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()
