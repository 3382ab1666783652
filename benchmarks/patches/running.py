"""Owns the long run: every pair with every tool, one after another, each result on disk as soon as it is there.

Refuses to measure again what was measured with the same files and the same code.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.patches.measure import (
    MeasureError,
    code_digest,
    measure_ours,
    measure_peer,
    peer_names,
    peer_version,
)
from benchmarks.patches.records import Made, pair_versions
from benchmarks.patches.results import FAST, OURS, Results, describe_machine, key_of

Progress = Callable[[int, int, str], None]  # done, of how many, what now


@dataclass(frozen=True)
class Job:
    """One tool on one pair."""

    pair: Made
    tool: str
    version: str
    run: Callable[[], dict[str, Any]]

    @property
    def key(self) -> str:
        """What makes this measurement another one."""
        return key_of(self.pair.record, self.tool, self.version)


def jobs(pairs: Sequence[Made], tools: Sequence[str]) -> list[Job]:
    """Return what there is to do: the pairs with ``tools`` (empty: all; a name or the beginning of one)."""
    found = [job for pair in pairs for job in _jobs_of(pair)]
    return [job for job in found if not tools or any(job.tool.startswith(tool) for tool in tools)]


def run_jobs(todo: Sequence[Job], results: Results, progress: Progress, *, again: bool = False) -> list[str]:
    """Measure what is not measured yet, or with ``again`` all of it; return the failures, one line each.

    A failure does not end the run. Each measurement holds the machine's load: CPU seconds are longer on a busy one.
    """
    results.machine = describe_machine()
    results.versions = pair_versions()
    failures: list[str] = []
    for number, job in enumerate(todo):
        progress(number, len(todo), f"{job.pair.name}: {job.tool}")
        if not again and results.kept(job.pair.name, job.tool, job.key):
            continue
        try:
            about = {"key": job.key, "version": job.version, "load": round(os.getloadavg()[0], 2)}
            results.put(job.pair.name, job.tool, job.run() | about)
        except MeasureError as error:
            failures.append(f"{job.pair.name}: {job.tool}: {error}")
            results.put(job.pair.name, job.tool, {"failed": str(error)})
    progress(len(todo), len(todo), "done")
    return failures


def _jobs_of(pair: Made) -> Iterator[Job]:
    code = code_digest()
    for tool, (effort, folder) in OURS.items():
        if pair.record.get("memory_only") and tool != FAST:
            continue
        if pair.is_folder or not folder:
            yield Job(pair, tool, code, partial(measure_ours, pair, effort, folder=folder))
    for name in () if pair.record.get("memory_only") else peer_names():
        yield Job(pair, name, peer_version(name), partial(measure_peer, pair, name))
