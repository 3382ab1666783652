"""Owns the pieces of a diff, which tile the target in order: each copied, taken as a delta, or new.

Refuses nothing: any tiling gives a right patch; a better one gives a smaller patch. Needs numpy (diff only).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelpatch.tensors.tensor import Tensor

Bytes = NDArray[np.uint8]
# Two operations and what they disturb in the streams around them, about.
_OPERATIONS_BITS = 30


@dataclass(frozen=True, slots=True)
class Rescale:
    """How the scales of a quantised tensor changed: old scale divided by new scale, one or one per channel.

    The channel of element i of the tensor is (i // block) % len(ratios); the tensor begins at base offset `start`,
    so the channel of a base element is known wherever in the tensor a piece begins. Lengths: `block` in elements,
    `start` in bytes.
    """

    ratios: tuple[float, ...]
    block: int
    start: int


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` target bytes from `target` on. `base` is where their old counterpart is, None for new bytes.

    `copy` says that the counterpart is equal. `width` is the element size in bytes, 0 where it is not known.
    Pieces of one `group` (a tensor) are coded alike; -1 is the pool of everything small. `scales` is set where the
    tensor is quantised and its scales changed.
    """

    target: int
    length: int
    base: int | None
    copy: bool = False
    width: int = 0
    is_float: bool = False
    group: int = -1
    scales: Rescale | None = None

    def part(self, start: int, length: int, *, copy: bool) -> "Piece":
        """Return `length` bytes of this piece from `start` on."""
        base = None if self.base is None else self.base + start
        # Much faster than replace(), and a tiling has thousands of parts.
        return Piece(self.target + start, length, base, copy, self.width, self.is_float, self.group, self.scales)

    def on(self, base: int | None) -> "Piece":
        """Return this piece with `base` as its counterpart."""
        return replace(self, base=base)


class Stored(NamedTuple):
    """A tensor and the bytes of the file that it is in."""

    tensor: Tensor
    file: Bytes

    @property
    def data(self) -> Bytes:
        """The bytes of the tensor."""
        return self.file[self.tensor.offset : self.tensor.end]


def as_bytes(data: bytes) -> Bytes:
    """Return `data` as an array, shape [len], uint8."""
    return np.frombuffer(data, np.uint8)


def split_equal_runs(pieces: list[Piece], old: Bytes, new: Bytes, shortest: int | None) -> list[Piece]:
    """Turn runs of at least `shortest` equal bytes inside deltas into copies, and join what then belongs together.

    None takes, for each piece, the length at which a run costs more inside the delta than two operations do.
    """
    out: list[Piece] = []
    for piece in pieces:
        if piece.copy or piece.base is None:
            out.append(piece)
        else:
            out += _split(piece, old, new, shortest)
    return _join(out)


def changed_elements(piece: Piece, old: Bytes, new: Bytes) -> NDArray[np.int64]:
    """Return the indexes of the elements of `piece`, which has a base, that differ from it."""
    assert piece.base is not None
    kind = f"<u{piece.width or 1}"
    was = old[piece.base : piece.base + piece.length].view(kind)
    return np.flatnonzero(was != new[piece.target : piece.target + piece.length].view(kind))


def _worth_splitting(changed: int, count: int) -> int:
    """Return how many equal elements in a row cost as much as two operations, by the entropy of changed or not."""
    share = min(0.99, changed / count)
    return max(2, int(_OPERATIONS_BITS / -math.log2(1 - share)))


def _split(piece: Piece, old: Bytes, new: Bytes, shortest: int | None) -> list[Piece]:
    width = piece.width or 1
    changed = changed_elements(piece, old, new)
    if not len(changed):
        return [piece.part(0, piece.length, copy=True)]
    # A gap between two changed elements is a copy when it is long enough; so are long ends.
    least = _worth_splitting(len(changed), piece.length // width) if shortest is None else shortest // width
    gaps = np.flatnonzero(np.diff(changed) > max(1, least))
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
