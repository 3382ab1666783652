"""Owns the measurement of one tool on one pair: sizes, CPU, peak memory, and the proof that the bytes are the same.

Refuses to measure in its own process: each call has a fresh one behind a small launcher, one at a time.
"""

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.patches.records import Made
from contract.errors import KinwatchError
from contract.files import sha256_file

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "modelpatch"
WHOLE_RUNS = 3
LARGE_BYTES = 1 << 20  # peers leave their slow settings out above this
EXACT_PEER = "HDiffPatch"  # this one is given all of its settings on every pair: most bars are set by it


class MeasureError(KinwatchError):
    """A tool failed, or gave another file than the target."""


def measure_ours(pair: Made, effort: str, *, folder: bool = False) -> dict[str, Any]:
    """Measure modelpatch on a pair; with ``folder``, on the two folders instead of the compared files.

    ``diff_*`` and ``apply_*`` hold CPU seconds in process (``cpu_s``), and CPU and peak of the whole command.

    Raises:
        MeasureError: it failed or was not byte-exact.
    """
    old, new = (pair.old, pair.new) if folder else pair.files
    with tempfile.TemporaryDirectory(prefix="patches-") as name:
        patch, out = Path(name) / "patch", Path(name) / "out"
        whole_diff = _run([*_OURS, "diff", old, new, patch, "--effort", effort])
        diff = _child("diff", effort, old, new, patch)
        whole_apply = [_apply_whole(old, patch, new, out) for _ in range(WHOLE_RUNS)]
        apply = _child("apply", old, patch, out)
        same = _child("copy", new, Path(name) / "copy")["cpu_s"] if new.is_file() else None
    return {
        "bytes": diff["bytes"],
        "diff_cpu_s": diff["cpu_s"],
        "diff_whole_cpu_s": whole_diff["cpu_s"],
        "diff_peak_bytes": whole_diff["peak_bytes"],
        "apply_cpu_s": apply["cpu_s"],
        "apply_whole_cpu_s": statistics.median(run["cpu_s"] for run in whole_apply),
        "apply_peak_bytes": max(run["peak_bytes"] for run in whole_apply),
        "copy_cpu_s": same,
    }


def measure_peer(pair: Made, name: str, *, every_setting: bool = False) -> dict[str, Any]:
    """Measure the peer ``name`` on the compared files with its settings (slow ones on small files alone).

    Raises:
        MeasureError: it failed or was not byte-exact.
    """
    old, new = pair.files
    large = new.stat().st_size > LARGE_BYTES and name != EXACT_PEER and not every_setting
    skipped = ",".join(sorted(_peer(name).slow_settings)) if large else ""
    with tempfile.TemporaryDirectory(prefix="patches-") as folder:
        patch, out = Path(folder) / "patch", Path(folder) / "out"
        diff = _child("peer-diff", name, old, new, patch, skipped)
        apply = _child("peer-apply", name, old, patch, out)
        _check(out, new, name)
    found = {f"diff_{key}" if key in ("cpu_s", "peak_bytes") else key: value for key, value in diff.items()}
    return found | {"apply_cpu_s": apply["cpu_s"], "apply_peak_bytes": apply["peak_bytes"]}


def peer_names() -> list[str]:
    """Return the names of the installed peers."""
    from modelpatch.peers import all_peers

    return [peer.name for peer in all_peers() if peer.available()]


def peer_version(name: str) -> str:
    """Return the version of an installed peer."""
    return str(_peer(name).version())


def code_digest() -> str:
    """Return the SHA-256 of modelpatch's own code (peers apart): what was measured with the same one may be kept."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.glob("*.py")):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


_OURS = (sys.executable, "-m", "modelpatch")


def _peer(name: str) -> Any:
    from modelpatch.peers import all_peers

    return next(peer for peer in all_peers() if peer.name == name)


def _apply_whole(old: Path, patch: Path, new: Path, out: Path) -> dict[str, Any]:
    if out.is_dir():
        shutil.rmtree(out)
    run = _run([*_OURS, "apply", old, patch, out])
    _check(out, new, "modelpatch")
    return run


def _check(made: Path, meant: Path, tool: str) -> None:
    if _digests(made) != _digests(meant):
        raise MeasureError(f"{tool} gave another file than {meant}")


def _digests(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): sha256_file(file) for file in files}


def _child(*arguments: object) -> dict[str, Any]:
    return dict(json.loads(_run([sys.executable, "-m", "benchmarks.patches.child", *arguments])["out"]))


def _run(command: Sequence[object]) -> dict[str, Any]:
    """Run ``command`` at the repository's root; return its account."""
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
    done = subprocess.run([*launcher, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=True)
    account = dict(json.loads(done.stdout))
    if account["code"]:
        last = (account["error"].strip().splitlines() or ["no message"])[-1]
        raise MeasureError(f"{' '.join(map(str, command[2:5]))}: {last}")
    return account
