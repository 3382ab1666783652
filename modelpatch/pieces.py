"""Owns the plan of a diff: pieces that tile the target in order, each copied, taken as a delta, or new.

Refuses nothing: any tiling gives a right patch; a better one gives a smaller patch. Needs numpy (diff only).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` target bytes from `target` on. `base` is where their old counterpart is, None for new bytes.

    `copy` says that the counterpart is equal. `width` is the element size in bytes, 0 where it is not known.
    Pieces of one `group` (a tensor) are coded alike; -1 is the pool of everything small.
    """

    target: int
    length: int
    base: int | None
    copy: bool = False
    width: int = 0
    is_float: bool = False
    group: int = -1

    def part(self, start: int, length: int, *, copy: bool) -> "Piece":
        """Return `length` bytes of this piece from `start` on."""
        base = None if self.base is None else self.base + start
        return replace(self, target=self.target + start, length=length, base=base, copy=copy)

    def on(self, base: int | None) -> "Piece":
        """Return this piece with `base` as its counterpart."""
        return replace(self, base=base)


def as_bytes(data: bytes) -> Bytes:
    """Return `data` as an array, shape [len], uint8."""
    return np.frombuffer(data, np.uint8)


def split_equal_runs(pieces: list[Piece], old: Bytes, new: Bytes, shortest: int) -> list[Piece]:
    """Turn runs of at least `shortest` equal bytes inside deltas into copies, and join what then belongs together."""
    out: list[Piece] = []
    for piece in pieces:
        if piece.copy or piece.base is None:
            out.append(piece)
        else:
            out += _split(piece, old, new, shortest)
    return _join(out)


def _split(piece: Piece, old: Bytes, new: Bytes, shortest: int) -> list[Piece]:
    assert piece.base is not None
    width = piece.width or 1
    differs = old[piece.base : piece.base + piece.length] != new[piece.target : piece.target + piece.length]
    if width > 1:
        differs = differs.reshape(-1, width).any(axis=1)
    changed = np.flatnonzero(differs)
    if not len(changed):
        return [piece.part(0, piece.length, copy=True)]
    # A gap between two changed elements is a copy when it is long enough; so are long ends.
    gaps = np.flatnonzero(np.diff(changed) > max(1, shortest // width))
    starts = np.concatenate(([changed[0]], changed[gaps + 1])) * width
    ends = (np.concatenate((changed[gaps], [changed[-1]])) + 1) * width
    out, at = [], 0
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if start > at:
            out.append(piece.part(at, start - at, copy=True))
        out.append(piece.part(start, end - start, copy=False))
        at = end
    if at < piece.length:
        out.append(piece.part(at, piece.length - at, copy=True))
    return out


def _join(pieces: list[Piece]) -> list[Piece]:
    out: list[Piece] = []
    for piece in pieces:
        last = out[-1] if out else None
        if last is not None and _continues(last, piece):
            out[-1] = replace(last, length=last.length + piece.length)
        else:
            out.append(piece)
    return out


def _continues(last: Piece, piece: Piece) -> bool:
    if last.copy != piece.copy or (last.base is None) != (piece.base is None):
        return False
    if last.base is not None and piece.base != last.base + last.length:
        return False
    return last.copy or (last.width, last.is_float, last.group) == (piece.width, piece.is_float, piece.group)


def elements(data: Bytes, start: int, length: int, width: int) -> NDArray[Any]:
    """Return the little-endian unsigned elements of a run of bytes, which need not be aligned."""
    return np.frombuffer(data[start : start + length].tobytes(), f"<u{width}")
