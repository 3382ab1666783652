"""Owns the work that is measured inside of a fresh process: CPU of the call alone, imports done before.

Refuses to measure twice in one process what a first call makes cheaper, unless it says "median".

    python -m benchmarks.patches.child WHAT ARGUMENT ...     prints JSON
"""

import hashlib
import json
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modelpatch

REPEATS = 5
LONG_S = 1.0  # of CPU, after which a call is not repeated


def main(arguments: list[str]) -> None:
    """Do one piece of work and print what it took."""
    print(json.dumps(WORK[arguments[0]](*arguments[1:])))


def diff(effort: str, old: str, new: str, patch: str) -> dict[str, Any]:
    """Make a patch with modelpatch: CPU seconds (median) of the call, numpy and the package's modules imported."""
    import modelpatch.diff.make  # its import is not the diff

    run = modelpatch.diff_folder if Path(old).is_dir() else modelpatch.diff_file
    return {"cpu_s": _median(lambda: run(old, new, patch, effort=effort)), "bytes": Path(patch).stat().st_size}


def apply(old: str, patch: str, new: str) -> dict[str, Any]:
    """Apply a patch with modelpatch: CPU seconds (median) of the call after a first one, which imports.

    With numpy loaded, as in the agent; the whole process is measured without it.
    """
    import numpy  # noqa: F401

    run = modelpatch.apply_folder if Path(old).is_dir() else modelpatch.apply_file

    def once() -> None:
        if Path(new).is_dir():
            shutil.rmtree(new)
        run(old, patch, new)

    once()
    return {"cpu_s": _median(once)}


def copy(source: str, target: str) -> dict[str, Any]:
    """Copy a file and take the copy's SHA-256: CPU seconds (median). The yardstick of apply."""

    def once() -> None:
        shutil.copyfile(source, target)
        with Path(target).open("rb") as file:
            hashlib.file_digest(file, "sha256")

    once()
    return {"cpu_s": _median(once)}


def peer_diff(name: str, old: str, new: str, patch: str, skipped: str) -> dict[str, Any]:
    """Make a peer's patches with all of its settings but ``skipped`` (names joined by commas); keep the smallest.

    Every one is applied and compared after the account of memory is closed.
    """
    from modelpatch.peers import fastest_comparable, smallest

    before, after = Path(old).read_bytes(), Path(new).read_bytes()
    peer = _peer(name, set(skipped.split(",")))
    found = list(peer.measure(before, after))
    peak = _peak_bytes()
    for one in found:
        if peer.apply(before, one.patch) != after:
            raise SystemExit(f"{name} with {one.setting} gave another file")
    best, quick = smallest(found), fastest_comparable(found)
    Path(patch).write_bytes(best.patch)
    return {
        "bytes": len(best.patch),
        "setting": best.setting,
        "cpu_s": best.diff_cpu_s,
        "fast_setting": quick.setting,
        "fast_bytes": len(quick.patch),
        "fast_cpu_s": quick.diff_cpu_s,
        "peak_bytes": peak,
        "trials": {t.setting: [len(t.patch), round(t.diff_cpu_s, 4)] for t in found},
    }


def peer_apply(name: str, old: str, patch: str, new: str) -> dict[str, Any]:
    """Apply a peer's patch: CPU seconds (median) of its call on bytes in memory; the result is written."""
    base, made = Path(old).read_bytes(), Path(patch).read_bytes()
    peer = _peer(name, set())
    result, first = peer.timed_apply(base, made)
    peak = _peak_bytes()
    Path(new).write_bytes(result)
    runs = [first] if first > LONG_S else [peer.timed_apply(base, made)[1] for _ in range(REPEATS)]
    return {"cpu_s": statistics.median(runs), "peak_bytes": peak}


def _peer(name: str, skipped: set[str]) -> Any:
    from modelpatch.peers import all_peers

    found = next(peer for peer in all_peers() if peer.name == name)
    return type(found)([setting for setting in found.settings if setting not in skipped])


def _peak_bytes() -> int:
    """Return the largest resident memory of this process and of those that it started."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _median(run: Callable[[], Any]) -> float:
    took: list[float] = []
    while len(took) < REPEATS and sum(took) < LONG_S:
        begin = time.process_time()
        run()
        took.append(time.process_time() - begin)
    return statistics.median(took)


WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "diff": diff,
    "apply": apply,
    "copy": copy,
    "peer-diff": peer_diff,
    "peer-apply": peer_apply,
}

if __name__ == "__main__":
    main(sys.argv[1:])
