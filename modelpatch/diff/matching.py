"""Owns the format-free matcher: which old bytes the new bytes of a region are made from, exactly or nearly.

Refuses to look at every possibility: it takes the best of a few candidates for each 8-byte seed, walks over
mismatches while more bytes agree than not, and steps faster where nothing is found. Needs numpy (diff only).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelpatch.diff.pieces import Bytes, Piece

SEED_BYTES = 8
_LEAST_MATCH = 12
_CANDIDATES = 6
_MOST_SEEDS = 1 << 20
_LOOK_AHEAD = 1 << 16
# Tries that find less than this are worth little: after the free ones they are made at ever longer steps.
_BYTES_A_TRY = 64
_FREE_TRIES = 4096
_FIRST_WINDOW = 256
_WIDEST_WINDOW = 1 << 20
# An approximate match ends where disagreeing bytes outnumber agreeing ones by this many since its best point.
_PATIENCE = 48


@dataclass(frozen=True, slots=True)
class SeedIndex:
    """The 8-byte seeds of the old bytes at some positions, sorted: `keys[i]` stands at `positions[i]`.

    `present[h]` tells whether any key has the hash h: what is not there, which is most, needs no search.
    """

    old: Bytes
    keys: NDArray[np.uint64]
    positions: NDArray[np.int64]
    present: NDArray[np.bool_]


def index_seeds(old: Bytes, regions: list[tuple[int, int]]) -> SeedIndex:
    """Index the seeds that start in the given (start, end) regions of `old`.

    All of them in up to 1 MiB of regions, each eighth in up to 8 MiB, fewer above: never more than 2^20 seeds,
    which take about 50 MB of memory while they are sorted.
    """
    step = _step(sum(end - start for start, end in regions))
    parts = [(_seeds(old, start, end, step), start) for start, end in regions]
    keys = np.concatenate([np.zeros(0, np.uint64), *(part for part, _ in parts)])
    positions = np.concatenate([np.zeros(0, np.int64), *(start + step * np.arange(len(p)) for p, start in parts)])
    order = np.argsort(keys, kind="stable")
    hashes = max(10, min(24, len(keys).bit_length() + 3))
    present = np.zeros(1 << hashes, np.bool_)
    present[_hash(keys, hashes)] = True
    return SeedIndex(old, keys[order], positions[order], present)


def match_region(index: SeedIndex, new: Bytes, start: int, end: int, expected: int) -> list[Piece]:
    """Tile `new[start:end]` with pieces; `expected` is the base offset at which the region most likely continues."""
    scan = _Scan(index, new, start, end, expected - start)
    at, misses = start, 0
    while at < end:
        # What a match covers is never looked up, so looking ahead far would be wasted on most files.
        stop = min(end, at + _LOOK_AHEAD)
        hits, lows = _find_hits(index, new, at, min(end, stop + SEED_BYTES - 1))
        while (where := int(np.searchsorted(hits, at))) < len(hits):
            position = int(hits[where])
            length = scan.try_seed(position, int(lows[where]))
            misses = 0 if length else misses + 1
            idle = max(0, scan.tries - _FREE_TRIES - scan.matched // _BYTES_A_TRY)
            at = (scan.done if length else position + 1 + misses // 32) + idle // 8
        at = max(at, stop)
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
    for at in range(0, size, _WIDEST_WINDOW):
        end = min(size, at + _WIDEST_WINDOW)
        different = np.flatnonzero(a[at:end] != b[at:end])
        if len(different):
            return at + int(different[0])
    return size


def _step(size: int) -> int:
    if size <= _MOST_SEEDS:
        return 1
    return max(SEED_BYTES, 1 << ((size - 1) // _MOST_SEEDS).bit_length())


def _seeds(data: Bytes, start: int, end: int, step: int) -> NDArray[np.uint64]:
    """Return the seeds that start at each `step`-th position (1, or a multiple of 8) of a run of bytes."""
    count = min(end, len(data) - SEED_BYTES + 1) - start
    keys = np.zeros(max(0, -(-count // step)), np.uint64)
    if not len(keys):
        return keys
    for shift in range(0, SEED_BYTES, step):  # once for the longer steps
        lane = keys[shift // step :: max(1, SEED_BYTES // step)]
        stride = max(1, step // SEED_BYTES)
        first = start + shift
        last = first + SEED_BYTES * (stride * (len(lane) - 1) + 1)
        lane[:] = np.frombuffer(data[first:last].tobytes(), "<u8")[::stride]
    return keys


def _hash(keys: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    return ((keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)).astype(np.int64)


def _find_hits(index: SeedIndex, new: Bytes, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions in the region whose seed the index knows, and where its run in the index begins."""
    keys = _seeds(new[:end], start, end, 1)
    possible = np.flatnonzero(index.present[_hash(keys, len(index.present).bit_length() - 1)])
    if not len(index.keys) or not len(possible):
        return possible[:0], possible[:0]
    keys = keys[possible]
    lows = np.searchsorted(index.keys, keys)
    known = index.keys[np.minimum(lows, len(index.keys) - 1)] == keys
    return possible[known] + start, lows[known]


class _Scan:
    """Collects the pieces of one region from left to right."""

    def __init__(self, index: SeedIndex, new: Bytes, start: int, end: int, shift: int) -> None:
        self._index, self._new, self._end = index, new, end
        self._shift = shift  # base offset minus target offset of the last match
        self._pieces: list[Piece] = []
        self.done = start
        self.tries = self.matched = 0  # seeds that were tried, bytes that they gave

    def try_seed(self, position: int, low: int) -> int:
        """Take the best match through `position`, if one is long enough; return its length or 0."""
        self.tries += 1
        best, best_score = None, _LEAST_MATCH - 1
        for base in self._candidates(position, low):
            back = self._extend_back(position, base)
            length, score = self._extend(position, base)
            bonus = 8 if base - position == self._shift else 0
            if score + back + bonus > best_score:
                best, best_score = (position - back, base - back, length + back), score + back + bonus
        if best is None:
            return 0
        self.matched += best[2]
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
