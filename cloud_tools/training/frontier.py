"""Owns the frontier of an update: candidates of a head by bytes and accuracy, the choice among them, table and plot.

Refuses to train and to measure (``cloud_tools.training.update_budget`` does).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cloud_tools.setting_errors import Setting, SettingError

PLOTS = (".png", ".svg")


@dataclass(frozen=True)
class Candidate:
    """A head after ``epochs`` whose moves from the base are multiples of ``step``.

    ``head_bytes``: its patch from the base's head, at most. ``accuracy``: share of the crops that are held out.
    """

    epochs: int
    step: float
    head_bytes: int
    accuracy: float


@dataclass(frozen=True)
class Frontier:
    """All candidates; ``overhead`` is what the rest of the update costs (release.json), ``limit`` what it may."""

    candidates: tuple[Candidate, ...]
    overhead: int
    limit: int
    chosen: Candidate | None = None

    def fitting(self) -> tuple[Candidate, ...]:
        """Return the candidates that fit, the best first: accuracy, then bytes, then the finer grid."""
        room = self.limit - self.overhead
        fit = [c for c in self.candidates if c.head_bytes <= room]
        return tuple(sorted(fit, key=lambda c: (-c.accuracy, c.head_bytes, c.step)))

    def best(self) -> tuple[Candidate, ...]:
        """Return the candidates that no other beats in bytes without being less accurate, by bytes."""
        best: list[Candidate] = []
        for candidate in sorted(self.candidates, key=lambda c: (c.head_bytes, -c.accuracy, c.step)):
            if not best or candidate.accuracy > best[-1].accuracy:
                best.append(candidate)
        return tuple(best)

    def smallest(self) -> int:
        """Return the bytes of the smallest update."""
        return self.overhead + min(candidate.head_bytes for candidate in self.candidates)

    def without(self, refused: Candidate, overhead: int) -> "Frontier":
        """Return what is left when a candidate turned out too large, with the overhead that was then measured."""
        return replace(self, candidates=tuple(c for c in self.candidates if c != refused), overhead=overhead)

    def choose(self, chosen: Candidate, head_bytes: int, overhead: int) -> "Frontier":
        """Return it with what was chosen, by the bytes that were then measured."""
        measured = replace(chosen, head_bytes=head_bytes)
        rows = tuple(measured if c == chosen else c for c in self.candidates)
        return replace(self, candidates=rows, overhead=overhead, chosen=measured)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; ``bytes`` is the whole update."""
        best = self.best()
        rows = [
            {**asdict(c), "bytes": c.head_bytes + self.overhead, "best": c in best, "chosen": c == self.chosen}
            for c in self.candidates
        ]
        return {"limit": self.limit, "overhead": self.overhead, "candidates": rows}


def frontier_lines(frontier: Frontier) -> list[str]:
    """Return the best candidates and the chosen one as a table; ``>`` marks the chosen, ``-`` what does not fit."""
    rows: Iterable[Candidate] = dict.fromkeys((*frontier.best(), *filter(None, [frontier.chosen])))
    lines = [f"  {'step':>6} {'epochs':>6} {'bytes':>9} {'of head':>9} {'held out':>9}"]
    for c in sorted(rows, key=lambda c: c.head_bytes):
        total = c.head_bytes + frontier.overhead
        mark = ">" if c == frontier.chosen else "-" if total > frontier.limit else " "
        lines.append(
            f"{mark} {step_text(c.step):>6} {c.epochs:6} {total:9,} {c.head_bytes:9,} {100 * c.accuracy:7.1f} %"
        )
    return [*lines, f"at most {frontier.limit:,} bytes; release.json is {frontier.overhead:,} of each"]


def step_text(step: float) -> str:
    """Return a power of two as ``2^-7``."""
    return f"2^{round(math.log2(step))}"


def check_plot(path: Path) -> None:
    """Refuse a plot of a kind that is not made, before anything is computed."""
    if path.suffix.lower() not in PLOTS:
        raise SettingError(Setting.PLOT, f" {path}: must end in {' or '.join(PLOTS)}")
    if not path.parent.is_dir():
        raise SettingError(Setting.PLOT, f" {path}: {path.parent} is no folder")


def plot_frontier(frontier: Frontier, path: Path) -> None:
    """Draw bytes against accuracy, one line a step, to a PNG or SVG.

    Raises:
        ImportError: matplotlib is not installed. OSError: the disk refused.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for step in sorted({c.step for c in frontier.candidates}, reverse=True):
        _line(axes, [c for c in frontier.candidates if c.step == step], frontier.overhead, step)
    axes.axvline(frontier.limit, color="black", linestyle=":", label=f"at most {frontier.limit:,} bytes")
    if frontier.chosen is not None:
        at = (frontier.chosen.head_bytes + frontier.overhead, 100 * frontier.chosen.accuracy)
        axes.plot(*at, marker="o", markersize=12, fillstyle="none", color="black", linestyle="", label="chosen")
    axes.set_xscale("log")
    axes.set_xlabel("bytes of the update, release.json included")
    axes.set_ylabel("held-out train crops rightly named, %")
    axes.legend(fontsize="small")
    figure.savefig(path)


def _line(axes: Any, candidates: Sequence[Candidate], overhead: int, step: float) -> None:
    rows = sorted(candidates, key=lambda c: c.head_bytes)
    axes.plot(
        [c.head_bytes + overhead for c in rows], [100 * c.accuracy for c in rows], marker=".", label=step_text(step)
    )
