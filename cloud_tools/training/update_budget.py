"""Owns the search for heads whose update is small: which candidates there are, their bytes, their accuracy.

Refuses to look at the test side, and to choose (``frontier`` does). Two things make an update small:

- Fewer epochs from the base's weights: fewer of them move, and less far.
- A coarse grid for the moves: a weight that moved less than half a step keeps the base's bytes. Only a new person's
  weights, which the base has not, are on the grid themselves.

The accuracy is that of trials: a trial base is trained on the early part of the train side, without the people that
the base has not, and trained on as the head is; the late part, which none of them saw, is what they are measured on.
The base itself cannot be the start of a trial: it may have been trained on that late part.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cloud_tools.training.frontier import Candidate, Frontier
from cloud_tools.training.heads import (
    EPOCHS,
    STEPS,
    Graph,
    Shape,
    Side,
    TrainedHead,
    Weights,
    finish_head,
    replace_weights,
    snapped_all,
    snapped_moves,
    widen,
)
from cloud_tools.training.update_size import patch_size

MOVES = (2.0**-3, 2.0**-4, *STEPS)  # steps of the grid for moves, largest first

Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True)
class Plan:
    """What a head is trained for. ``old``: the base's labels by their new names, none where the head starts cold."""

    kind: str
    labels: tuple[str, ...]
    old: tuple[str, ...]
    shape: Shape
    epochs: int | None
    seed: int

    @property
    def graph(self) -> Graph:
        """A graph with fresh weights."""
        return Graph(self.kind, len(self.labels), self.shape, self.seed)

    @property
    def kept(self) -> tuple[str, ...]:
        """The labels that the base has too."""
        return tuple(label for label in self.labels if label in self.old)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The epochs that are tried: the powers of two under all of them, and all; all alone for a cold start."""
        most = self.epochs or EPOCHS[self.kind]
        some = (2**i for i in range(most.bit_length()) if 2**i < most)
        return (*some, most) if self.kept else (most,)


class Search:
    """The candidates of one head, trained once."""

    def __init__(
        self, plan: Plan, base: bytes, start: Weights | None, train: Side, held: tuple[Side, Side], progress: Progress
    ) -> None:
        """Train the head and its trial.

        Args:
            base: the base's head (TFLite), which patches start from.
            start: what ``warm_start`` gave for ``plan.labels``; None for a cold start.
            train: what the head learns from. held: its early part, and the late part that trials are measured on.
        """
        self._plan, self._base, self._early, self._late = plan, base, *held
        self._anchor = _anchor(plan, start)
        self._progress = progress
        self._trial = self._trials()
        graph = plan.graph
        self._made = graph.train(
            train, plan.checkpoints[-1], start=start, keep=plan.checkpoints, progress=self._told("head")
        )
        self._graph = graph

    def frontier(self, limit: int, overhead: int, features: Side) -> Frontier:
        """Measure every candidate; ``features`` are what an export is compared on."""
        first = self._made[self._plan.checkpoints[-1]]  # not on a grid: no array is zero, and each is found
        template = self._graph.export(first, features.features)
        found, total = [], len(self._plan.checkpoints) * len(MOVES)

        def size(epochs: int, step: float, effort: str) -> int:
            weights = self._weights(self._made, self._anchor, epochs, step)
            data = replace_weights(template, first, weights) or self._graph.export(weights, features.features)
            return patch_size(self._base, data, effort)

        for i, (epochs, step) in enumerate(self._grid()):
            found.append(Candidate(epochs, step, size(epochs, step, "fast"), self._accuracy(epochs, step)))
            self._progress("candidates", i + 1, total)
        rough = Frontier(tuple(found), overhead, limit)
        # As `publish` makes them, which takes longer: for those that may be chosen or shown.
        best = {c: replace(c, head_bytes=size(c.epochs, c.step, "best")) for c in rough.best()}
        return replace(rough, candidates=tuple(best.get(c, c) for c in found))

    def head(self, candidate: Candidate, held_out: Side) -> TrainedHead:
        """Return the head of ``candidate`` as it is deployed; ``held_out`` is measured and decides nothing."""
        grid = self._weights(self._made, self._anchor, candidate.epochs, candidate.step)
        return finish_head(self._graph, self._made[candidate.epochs], held_out, candidate.step, grid)

    def _grid(self) -> Iterator[tuple[int, float]]:
        return ((epochs, step) for epochs in self._plan.checkpoints for step in MOVES)

    def _weights(self, made: dict[int, Weights], anchor: Weights | None, epochs: int, step: float) -> Weights:
        if anchor is None:
            return snapped_all(made[epochs], step)
        return snapped_moves(made[epochs], anchor, step)

    def _trials(self) -> tuple[Graph, dict[int, Weights], Weights | None]:
        """Return the trial's graph, its weights by epochs, and what its moves are counted from."""
        plan, start = self._plan, None
        most = plan.checkpoints[-1]
        if plan.kept:
            known = np.flatnonzero(np.isin(self._early.labels, [plan.labels.index(name) for name in plan.kept]))
            # Kept labels come first in `labels`, so that their numbers are the same in the trial base.
            small = Graph(plan.kind, len(plan.kept), plan.shape, plan.seed)
            base = small.train(self._early.rows(known), most, progress=self._told("trial base"))[most]
            start = widen(plan.kind, snapped_all(base, STEPS[-1]), plan.kept, plan.labels, plan.shape, plan.seed)
        graph = plan.graph
        made = graph.train(
            self._early, most, start=start, keep=plan.checkpoints, progress=self._told("trial of the update")
        )
        return graph, made, _anchor(plan, start)

    def _accuracy(self, epochs: int, step: float) -> float:
        graph, made, anchor = self._trial
        return round(graph.accuracy(self._weights(made, anchor, epochs, step), self._late), 4)

    def _told(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress(what, done, total)


def _anchor(plan: Plan, start: Weights | None) -> Weights | None:
    """Return what moves are counted from: ``start``, with zeros for whoever the base has not (None: a cold start)."""
    if start is None:
        return None
    anchor = [np.array(value) for value in start]
    for i in _new(plan.labels, plan.old):
        anchor[-2][:, i] = 0
        anchor[-1][i] = 0
    return anchor


def _new(labels: Sequence[str], old: Sequence[str]) -> list[int]:
    return [i for i, label in enumerate(labels) if label not in old]
