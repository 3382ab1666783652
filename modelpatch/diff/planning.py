"""Owns the plans of a diff: tilings of the target by tensors, by position and by matches.

Refuses to choose between them: `diff.py` builds them and keeps the smallest. Needs numpy (diff only).
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from modelpatch.diff.alignment import align_dimension
from modelpatch.diff.matching import SeedIndex, index_seeds, match_files, match_region
from modelpatch.diff.pairing import ResizedPartners, is_equal, pair_tensors, resized_dimension
from modelpatch.diff.pieces import Bytes, Piece, Rescale, as_bytes
from modelpatch.diff.transforms import guess_type
from modelpatch.format.header import DecoderFeatures
from modelpatch.tensors.find import BundleIndex, Tensor, find_tensors
from modelpatch.tensors.tensor import UNKNOWN_TYPE

_LEAST_TENSOR_BYTES = 64
_MOST_TEXT_BYTES = 1 << 20
# Part of the target in tensors without a partner above which fast does not trust the tensors alone.
_MOST_UNPAIRED = 1 / 8


def plans(
    old: bytes,
    new: bytes,
    features: DecoderFeatures,
    *,
    effort: str,
    old_index: BundleIndex | None = None,
    new_index: BundleIndex | None = None,
) -> Iterator[list[Piece]]:
    """Return tilings of the target: by tensors where both formats are known, by matches, by position.

    Args:
        old, new: the files.
        features: what the decoder can do.
        effort: `fast` trusts the tensors where there are some and most have a partner.
        old_index, new_index: the TensorBundle index of a shard of a bundle, if there is one.
    """
    a, b = as_bytes(old), as_bytes(new)
    old_tensors, new_tensors = find_tensors(old, old_index), find_tensors(new, new_index)
    if old_tensors and new_tensors:
        plan, unpaired = _tensor_plan(a, b, old_tensors, new_tensors)
        yield plan
        if effort == "fast":
            if unpaired > _MOST_UNPAIRED * len(new):  # renamed types, tensors split or merged: bytes may be the same
                yield match_files(a, b)
            return
    yield match_files(a, b)
    if abs(len(old) - len(new)) <= min(len(old), len(new)) // 8:
        same = min(len(old), len(new))
        yield _position_plan(a, b, same, features)


def untethered_plan(new: bytes, new_index: BundleIndex | None = None) -> list[Piece]:
    """Return a tiling of `new` without a base, in which tensors are pieces of their own."""
    pieces, at = [], 0
    for group, tensor in enumerate(find_tensors(new, new_index)):
        if tensor.offset > at:
            pieces.append(Piece(at, tensor.offset - at, None, width=1))
        pieces.append(Piece(tensor.offset, tensor.length, None, False, tensor.width, tensor.is_float, group))
        at = tensor.offset + tensor.length
    if at < len(new):
        pieces.append(Piece(at, len(new) - at, None))
    return pieces


def _position_plan(old: Bytes, new: Bytes, same: int, features: DecoderFeatures) -> list[Piece]:
    """Compare what stands at the same place, as elements of the type that fits best."""
    width, is_float = guess_type(old[:same], new[:same], features)
    even = same // width * width
    plan = [Piece(0, even, 0, False, width, is_float), Piece(even, len(new) - even, None)]
    return [piece for piece in plan if piece.length]


def _tensor_plan(
    old: Bytes, new: Bytes, old_tensors: list[Tensor], new_tensors: list[Tensor]
) -> tuple[list[Piece], int]:
    """Return the tiling by tensors, and how many bytes are in new tensors without a partner of their length."""
    old_tensors = [tensor for tensor in old_tensors if _stands_alone(tensor)]
    new_tensors = [tensor for tensor in new_tensors if _stands_alone(tensor)]
    gaps, resized = _Gaps(old, new, old_tensors), ResizedPartners(old_tensors)
    partners = pair_tensors(old_tensors, new_tensors, old, new)
    out: list[Piece] = []
    at = 0
    for group, (tensor, partner) in enumerate(zip(new_tensors, partners, strict=True)):
        out += gaps.pieces(at, tensor.offset)
        made = _tensor_pieces(tensor, partner, group, resized, old, new)
        gaps.follow(made)
        out += made
        at = tensor.end
    unpaired = sum(t.length for t, partner in zip(new_tensors, partners, strict=True) if partner is None)
    return out + gaps.pieces(at, len(new)), unpaired


def _stands_alone(tensor: Tensor) -> bool:
    """Return whether a tensor is a piece of its own; small ones and texts are part of the bytes around them."""
    least = _MOST_TEXT_BYTES if tensor.dtype == UNKNOWN_TYPE[0] else _LEAST_TENSOR_BYTES
    return tensor.length >= least


def _tensor_pieces(
    tensor: Tensor, partner: Tensor | None, group: int, others: ResizedPartners, old: Bytes, new: Bytes
) -> list[Piece]:
    """Tile one tensor: from its partner, from one with more or fewer rows, or from nothing."""
    whole = Piece(tensor.offset, tensor.length, None, False, tensor.width, tensor.is_float, group)
    if partner is not None:
        if is_equal(tensor, partner, old, new):
            return [Piece(tensor.offset, tensor.length, partner.offset, copy=True)]
        return [replace(whole, base=partner.offset, scales=rescale_of(tensor, partner))]
    resized = others.find(tensor)
    dimension = None if resized is None else resized_dimension(tensor, resized)
    if resized is None or dimension is None:
        return [whole]
    return align_dimension(whole, tensor, resized, dimension, old, new)


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
