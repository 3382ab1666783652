"""Owns the search for heads whose update is small: which candidates there are, their bytes, their accuracy.

Refuses to look at the test side, and to choose (``frontier`` does). Two things make an update small:

- Fewer epochs from the base's weights: fewer of them move, and less far.
- A coarse grid for the moves: a weight that moved less than half a step keeps the base's bytes. Only a new person's
  weights, which the base has not, are on the grid themselves.

The accuracy is that of held-out heads: a held-out base is trained on the early part of the train side, without the
people that the base has not, and trained on as the head is; the late part, which none of them saw, is what they are
measured on. The base itself cannot be their start: it may have been trained on that late part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cloud_tools.progress import Progress, ticks_of
from cloud_tools.training.frontier import Candidate, Frontier
from cloud_tools.training.heads import Graph, HeadSpec, Side, TrainedHead, finish_head, widen
from cloud_tools.training.run import Sides
from cloud_tools.training.update_size import patch_size
from cloud_tools.training.weight_grid import STEPS, Weights, replace_weights, snapped_all, snapped_moves

MOVES = (2.0**-3, 2.0**-4, *STEPS)  # steps of the grid for moves, largest first


@dataclass(frozen=True, kw_only=True)
class HeadUpdate:
    """A head whose update is to be small. ``base`` is the base's head (TFLite), which patches start from.

    ``start`` is what ``warm_start`` gave, ``old`` the base's labels by their new names; a cold start has neither.
    """

    head: HeadSpec
    base: bytes
    start: Weights | None
    old: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """The labels that the base has too."""
        return tuple(label for label in self.head.labels if label in self.old)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The epochs that are tried: the powers of two under all of them, and all; all alone for a cold start."""
        most = self.head.passes
        some = (2**i for i in range(most.bit_length()) if 2**i < most)
        return (*some, most) if self.kept else (most,)

    def anchor(self, start: Weights | None) -> Weights | None:
        """Return what moves from ``start`` are counted from: itself, with zeros for whoever the base has not.

        None for a cold start.
        """
        if start is None:
            return None
        anchor = [np.array(value) for value in start]
        for i in _new(self.head.labels, self.old):
            anchor[-2][:, i] = 0
            anchor[-1][i] = 0
        return anchor


@dataclass(frozen=True)
class Checkpoints:
    """The weights of one training by epochs; ``anchor``: see ``HeadUpdate.anchor``."""

    graph: Graph
    made: dict[int, Weights]
    anchor: Weights | None

    def on_grid(self, epochs: int, step: float) -> Weights:
        """Return the weights after ``epochs``, their moves on the grid of ``step``."""
        if self.anchor is None:
            return snapped_all(self.made[epochs], step)
        return snapped_moves(self.made[epochs], self.anchor, step)


@dataclass(frozen=True, kw_only=True)
class Search:
    """The candidates of one head, trained once, and the held-out heads that they are judged by on ``late``."""

    update: HeadUpdate
    head: Checkpoints
    held_out: Checkpoints
    late: Side
    progress: Progress

    def frontier(self, limit: int, overhead: int) -> Frontier:
        """Measure every candidate; the rest of the update costs ``overhead`` bytes, all of it may cost ``limit``."""
        last = self.head.made[self.update.checkpoints[-1]]  # not on a grid: no array is zero, and each is found
        template = self.head.graph.export(last, self.late.features)

        def size(epochs: int, step: float, effort: str) -> int:
            weights = self.head.on_grid(epochs, step)
            data = replace_weights(template, last, weights) or self.head.graph.export(weights, self.late.features)
            return patch_size(self.update.base, data, effort)

        grid = [(epochs, step) for epochs in self.update.checkpoints for step in MOVES]
        found = []
        for i, (epochs, step) in enumerate(grid):
            found.append(Candidate(epochs, step, size(epochs, step, "fast"), self._accuracy(epochs, step)))
            self.progress("candidates", i + 1, len(grid))
        rough = Frontier(tuple(found), overhead, limit)
        # As `publish` makes them, which takes longer: for those that may be chosen or shown.
        best = {c: replace(c, head_bytes=size(c.epochs, c.step, "best")) for c in rough.best()}
        return replace(rough, candidates=tuple(best.get(c, c) for c in found))

    def finish(self, candidate: Candidate, test: Side) -> TrainedHead:
        """Return the head of ``candidate`` as it is deployed; ``test`` is measured and decides nothing."""
        grid = self.head.on_grid(candidate.epochs, candidate.step)
        return finish_head(self.head.graph, self.head.made[candidate.epochs], test, candidate.step, grid)

    def _accuracy(self, epochs: int, step: float) -> float:
        return round(self.held_out.graph.accuracy(self.held_out.on_grid(epochs, step), self.late), 4)


def search_heads(update: HeadUpdate, sides: Sides, progress: Progress) -> Search:
    """Train the head and its held-out twin once, and keep the weights of every checkpoint."""
    early = sides.learn(sides.early)
    twin_start = _held_out_start(update, early, progress) if update.kept else None
    held_out = _train(update, early, twin_start, progress, "held-out update")
    head = _train(update, sides.learn(), update.start, progress, "head")
    return Search(update=update, head=head, held_out=held_out, late=sides.held_out, progress=progress)


def _held_out_start(update: HeadUpdate, early: Side, progress: Progress) -> Weights:
    """Return first weights from a held-out base: one that knows the kept people's early crops alone."""
    labels, kept = update.head.labels, update.kept
    known = np.flatnonzero(np.isin(early.labels, [labels.index(name) for name in kept]))
    # Kept labels come first in `labels`, so that their numbers are the same in the held-out base.
    small, most = Graph(replace(update.head, labels=kept)), update.head.passes
    base = small.train(early.rows(known), most, ticks=ticks_of(progress, "held-out base"))[most]
    return widen(update.head, snapped_all(base, STEPS[-1]), kept)


def _train(update: HeadUpdate, side: Side, start: Weights | None, progress: Progress, what: str) -> Checkpoints:
    graph = Graph(update.head)
    made = graph.train(side, update.head.passes, start=start, keep=update.checkpoints, ticks=ticks_of(progress, what))
    return Checkpoints(graph, made, update.anchor(start))


def _new(labels: Sequence[str], old: Sequence[str]) -> list[int]:
    return [i for i, label in enumerate(labels) if label not in old]
