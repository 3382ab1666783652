"""Owns the format-free matcher: which old bytes the new bytes of a region are made from, exactly or nearly.

Refuses to look at every possibility: it takes the best of a few candidates for each 8-byte seed, walks over
mismatches while more bytes agree than not, and steps faster where nothing is found. Needs numpy (diff only).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelpatch.pieces import Bytes, Piece

SEED_BYTES = 8
_LEAST_MATCH = 12
_CANDIDATES = 6
_FIRST_WINDOW = 256
_WIDEST_WINDOW = 1 << 20
# An approximate match ends where disagreeing bytes outnumber agreeing ones by this many since its best point.
_PATIENCE = 48


@dataclass(frozen=True, slots=True)
class SeedIndex:
    """The 8-byte seeds of the old bytes at some positions, sorted: `keys[i]` stands at `positions[i]`."""

    old: Bytes
    keys: NDArray[np.uint64]
    positions: NDArray[np.int64]


def index_seeds(old: Bytes, regions: list[tuple[int, int]]) -> SeedIndex:
    """Index the seeds that start in the given (start, end) regions of `old`."""
    parts = [np.arange(start, min(end, len(old) - SEED_BYTES + 1)) for start, end in regions]
    positions = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    keys = _seeds(old, positions)
    order = np.argsort(keys, kind="stable")
    return SeedIndex(old, keys[order], positions[order])


def match_region(index: SeedIndex, new: Bytes, start: int, end: int, expected: int) -> list[Piece]:
    """Tile `new[start:end]` with pieces; `expected` is the base offset at which the region most likely continues."""
    hits, lows = _find_hits(index, new, start, end)
    scan = _Scan(index, new, start, end, expected - start)
    at, misses = start, 0
    while True:
        where = int(np.searchsorted(hits, at))
        if where == len(hits):
            break
        position = int(hits[where])
        length = scan.try_seed(position, int(lows[where]))
        misses = 0 if length else misses + 1
        at = scan.done if length else position + 1 + misses // 64
    return scan.finish()


def match_files(old: Bytes, new: Bytes) -> list[Piece]:
    """Tile `new` with pieces. What both files begin and end with is set aside first: it is mostly nearly all."""
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    pieces = [Piece(0, start, 0, copy=True)] if start else []
    if start + end < len(new):
        index = index_seeds(old, [(0, len(old))])
        pieces += match_region(index, new, start, len(new) - end, start)
    if end:
        pieces.append(Piece(len(new) - end, end, len(old) - end, copy=True))
    return pieces


def _common(a: Bytes, b: Bytes) -> int:
    """Return how many bytes `a` and `b` have in common from their start."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size


def _seeds(data: Bytes, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    keys = np.zeros(len(positions), np.uint64)
    for shift in range(SEED_BYTES):
        keys |= data[positions + shift].astype(np.uint64) << np.uint64(8 * shift)
    return keys


def _find_hits(index: SeedIndex, new: Bytes, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions in the region whose seed the index knows, and where its run in the index begins."""
    positions = np.arange(start, max(start, end - SEED_BYTES + 1))
    if not len(index.keys) or not len(positions):
        return positions[:0], positions[:0]
    keys = _seeds(new, positions)
    lows = np.searchsorted(index.keys, keys)
    known = index.keys[np.minimum(lows, len(index.keys) - 1)] == keys
    return positions[known], lows[known]


class _Scan:
    """Collects the pieces of one region from left to right."""

    def __init__(self, index: SeedIndex, new: Bytes, start: int, end: int, shift: int) -> None:
        self._index, self._new, self._end = index, new, end
        self._shift = shift  # base offset minus target offset of the last match
        self._pieces: list[Piece] = []
        self.done = start

    def try_seed(self, position: int, low: int) -> int:
        """Take the best match through `position`, if one is long enough; return its length or 0."""
        best, best_score = None, _LEAST_MATCH - 1
        for base in self._candidates(position, low):
            back = self._extend_back(position, base)
            length, score = self._extend(position, base)
            bonus = 8 if base - position == self._shift else 0
            if score + back + bonus > best_score:
                best, best_score = (position - back, base - back, length + back), score + back + bonus
        if best is None:
            return 0
        self._take(*best)
        return best[2]

    def finish(self) -> list[Piece]:
        """Return the pieces; what follows the last match is new."""
        if self.done < self._end:
            self._add_unmatched(self._end)
        return self._pieces

    def _candidates(self, position: int, low: int) -> list[int]:
        keys, positions = self._index.keys, self._index.positions
        expected = position + self._shift
        high = int(np.searchsorted(keys, keys[low], side="right"))
        nearest = int(np.clip(low + np.searchsorted(positions[low:high], expected), low, high - 1))
        first = max(low, nearest - _CANDIDATES // 2)
        return [int(p) for p in positions[first : min(high, first + _CANDIDATES)]]

    def _extend_back(self, position: int, base: int) -> int:
        limit = min(position - self.done, base, _WIDEST_WINDOW)
        if limit <= 0:
            return 0
        same = self._index.old[base - limit : base] == self._new[position - limit : position]
        different = np.flatnonzero(~same)
        return limit if not len(different) else limit - 1 - int(different[-1])

    def _extend(self, position: int, base: int) -> tuple[int, int]:
        """Return (length, score) of the best approximate match forward from here."""
        limit = min(self._end - position, len(self._index.old) - base)
        at = best_length = best_score = score = 0
        window = _FIRST_WINDOW
        while at < limit:
            size = min(window, limit - at)
            same = self._index.old[base + at : base + at + size] == self._new[position + at : position + at + size]
            scores = score + np.cumsum(np.where(same, 1, -1))
            peak = int(np.argmax(scores))
            if scores[peak] > best_score:
                best_length, best_score = at + peak + 1, int(scores[peak])
            score = int(scores[-1])
            if score < best_score - _PATIENCE:
                break
            at += size
            window = min(window * 2, _WIDEST_WINDOW)
        return best_length, best_score

    def _take(self, target: int, base: int, length: int) -> None:
        if target > self.done:
            self._add_unmatched(target)
        self._pieces.append(Piece(target, length, base))
        self._shift, self.done = base - target, target + length

    def _add_unmatched(self, end: int) -> None:
        self._pieces.append(Piece(self.done, end - self.done, None))
        self.done = end
