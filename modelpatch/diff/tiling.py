"""Owns the tilings of a diff: the target cut to pieces by tensors, by position and by matches.

Refuses to choose between them: `make.py` builds them and keeps the smallest. Needs numpy (diff only).
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from modelpatch.diff.alignment import align_dimension
from modelpatch.diff.inputs import Contents, DiffInput
from modelpatch.diff.matching import SeedIndex, index_seeds, match_files, match_region
from modelpatch.diff.pairing import ResizedPartners, Side, pair_tensors, resized_dimension
from modelpatch.diff.pieces import Bytes, Piece, Rescale, Stored
from modelpatch.diff.transforms import guess_type
from modelpatch.format.header import DecoderFeatures
from modelpatch.tensors.tensor import UNKNOWN_TYPE, Tensor

_LEAST_TENSOR_BYTES = 64
_MOST_TEXT_BYTES = 1 << 20
# Part of the target in tensors without a partner above which fast does not trust the tensors alone.
_MOST_UNPAIRED = 1 / 8


def tilings(given: DiffInput) -> Iterator[list[Piece]]:
    """Return tilings of the target: by tensors where both formats are known, by matches, by position.

    `fast` trusts the tensors where there are some and most have a partner.
    """
    old, new, fast = given.old.array, given.new.array, given.settings.fast
    if given.old.tensors and given.new.tensors:
        tiling, unpaired = _tile_by_tensors(given.old, given.new)
        yield tiling
        if fast:
            if unpaired > _MOST_UNPAIRED * len(new):  # renamed types, tensors split or merged: bytes may be the same
                yield match_files(old, new)
            return
    yield match_files(old, new)
    if abs(len(old) - len(new)) <= min(len(old), len(new)) // 8:
        yield _tile_by_position(old, new, given.settings.features)


def tile_without_base(new: Contents) -> list[Piece]:
    """Return a tiling of `new` without a base, in which tensors are pieces of their own."""
    pieces, at = [], 0
    for group, tensor in enumerate(new.tensors):
        if tensor.offset > at:
            pieces.append(Piece(at, tensor.offset - at, None, width=1))
        pieces.append(_whole(tensor, group))
        at = tensor.end
    if at < len(new.data):
        pieces.append(Piece(at, len(new.data) - at, None))
    return pieces


def _whole(tensor: Tensor, group: int) -> Piece:
    return Piece(tensor.offset, tensor.length, None, False, tensor.width, tensor.is_float, group)


def _tile_by_position(old: Bytes, new: Bytes, features: DecoderFeatures) -> list[Piece]:
    """Compare what stands at the same place, as elements of the type that fits best."""
    same = min(len(old), len(new))
    width, is_float = guess_type(old[:same], new[:same], features)
    even = same // width * width
    tiling = [Piece(0, even, 0, False, width, is_float), Piece(even, len(new) - even, None)]
    return [piece for piece in tiling if piece.length]


def _tile_by_tensors(old: Contents, new: Contents) -> tuple[list[Piece], int]:
    """Return the tiling by tensors, and how many bytes are in new tensors without a partner of their length."""
    olds = [tensor for tensor in old.tensors if _stands_alone(tensor)]
    news = [tensor for tensor in new.tensors if _stands_alone(tensor)]
    gaps, resized = _Gaps(old.array, new.array, olds), ResizedPartners(olds)
    partners = pair_tensors(Side(old.array, olds), Side(new.array, news))
    out: list[Piece] = []
    at = 0
    for group, (tensor, partner) in enumerate(zip(news, partners, strict=True)):
        out += gaps.pieces(at, tensor.offset)
        base = partner or resized.find(tensor)
        stored = None if base is None else Stored(base, old.array)
        made = _tile_tensor(_whole(tensor, group), Stored(tensor, new.array), stored)
        gaps.follow(made)
        out += made
        at = tensor.end
    unpaired = sum(tensor.length for tensor, partner in zip(news, partners, strict=True) if partner is None)
    return out + gaps.pieces(at, len(new.array)), unpaired


def _stands_alone(tensor: Tensor) -> bool:
    """Return whether a tensor is a piece of its own; small ones and texts are part of the bytes around them."""
    least = _MOST_TEXT_BYTES if tensor.dtype == UNKNOWN_TYPE[0] else _LEAST_TENSOR_BYTES
    return tensor.length >= least


def _tile_tensor(whole: Piece, new: Stored, old: Stored | None) -> list[Piece]:
    """Tile one tensor: from its partner, from one with more or fewer rows, or from nothing."""
    if old is None:
        return [whole]
    if old.tensor.length != new.tensor.length:
        dimension = resized_dimension(new.tensor, old.tensor)
        return [whole] if dimension is None else align_dimension(whole, new, old, dimension)
    if np.array_equal(old.data, new.data):
        return [Piece(whole.target, whole.length, old.tensor.offset, copy=True)]
    return [replace(whole, base=old.tensor.offset, scales=rescale_of(new.tensor, old.tensor))]


def rescale_of(tensor: Tensor, partner: Tensor) -> Rescale | None:
    """Return how the scales of a quantised tensor changed from its partner's, None if they did not."""
    now, was = tensor.quantization, partner.quantization
    if now is None or was is None or len(now.scales) != len(was.scales) or now.dimension != was.dimension:
        return None
    ratios = tuple(a / b for a, b in zip(was.scales, now.scales, strict=True))
    if all(ratio == 1 for ratio in ratios):
        return None
    if len(set(ratios)) == 1:
        ratios = ratios[:1]
    block = math.prod(tensor.shape[now.dimension + 1 :]) if len(ratios) > 1 else 1
    if not 1 <= block <= tensor.length:
        return None  # the shape is not of these bytes
    return Rescale(ratios, block, partner.offset)


class _Gaps:
    """Tiles what stands between tensors from what stood between the old ones."""

    def __init__(self, old: Bytes, new: Bytes, old_tensors: list[Tensor]) -> None:
        self._old, self._new, self._old_tensors = old, new, old_tensors
        self._index: SeedIndex | None = None  # most gaps of most models are equal; then there is none
        self._shift = 0  # base offset minus target offset of the last piece that has a base

    def follow(self, pieces: list[Piece]) -> None:
        """Take note of the pieces before the next gap."""
        last = next((p for p in reversed(pieces) if p.base is not None), None)
        if last is not None and last.base is not None:
            self._shift = last.base - last.target

    def pieces(self, start: int, end: int) -> list[Piece]:
        """Tile `new[start:end]`."""
        if start == end:
            return []
        pieces = self._tile(start, end, start + self._shift)
        self.follow(pieces)
        return pieces

    def _tile(self, start: int, end: int, base: int) -> list[Piece]:
        if 0 <= base <= len(self._old) and np.array_equal(self._old[base : base + end - start], self._new[start:end]):
            return [Piece(start, end - start, base, copy=True)]
        if self._index is None:
            self._index = index_seeds(self._old, _between(self._old_tensors, len(self._old)))
        return match_region(self._index, self._new, start, end, base)


def _between(tensors: list[Tensor], size: int) -> list[tuple[int, int]]:
    starts = [0] + [t.end for t in tensors]
    ends = [t.offset for t in tensors] + [size]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]
