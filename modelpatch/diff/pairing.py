"""Owns which old tensor a new tensor is compared with: by content, by name and shape, by likeness, by position.

Refuses to pair tensors of different element types. Needs numpy (diff only).
"""

import hashlib
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelpatch.diff.pieces import Bytes
from modelpatch.diff.transforms import to_order, zigzag
from modelpatch.tensors.tensor import Tensor

# Elements of a tensor by which it is judged how like another it is.
_SAMPLE = 128
# Bits per element that a counterpart of this name must be farther off before another one is taken.
_SAME_NAME, _SAME_BUT_COUNTERS, _SAME_BUT_DIGITS, _OTHER_NAME, _OTHER_RANK = 0.0, 0.25, 0.5, 1.5, 0.25
# Tensors of one size that are all compared with each other; above, those of the same name or rank alone.
_MOST_COMPARED = 1 << 14

Key = tuple[str, int]  # element type, length in bytes


class Side(NamedTuple):
    """The bytes of a file and those of its tensors that are looked at."""

    file: Bytes
    tensors: list[Tensor]

    def only(self, tensors: list[Tensor]) -> "Side":
        """Return the same file with other tensors."""
        return Side(self.file, tensors)

    def data_of(self, tensor: Tensor) -> Bytes:
        """Return the bytes of a tensor."""
        return self.file[tensor.offset : tensor.end]


def pair_tensors(old: Side, new: Side) -> list[Tensor | None]:
    """Return for each new tensor the old one of the same type and length that it is made from, None without any."""
    olds, news = _by_size(old.tensors), _by_size(new.tensors)
    partners: dict[Tensor, Tensor] = {}
    for key, group in news.items():
        if key in olds:
            partners |= _pair_group(old.only(olds[key]), new.only(group))
    return [partners.get(tensor) for tensor in new.tensors]


class ResizedPartners:
    """Finds old tensors that differ from a new one in the size of one dimension alone."""

    def __init__(self, olds: Iterable[Tensor]) -> None:
        # By what two such tensors share, once with the name and once with None in its place; then by length.
        self._alike: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for tensor in sorted(filter(lambda t: t.is_dense, olds), key=_length):
            for shared in _all_but_one_dimension(tensor):
                self._alike[*shared, without_counters(tensor.name)].append(tensor)
                self._alike[*shared, None].append(tensor)

    def find(self, tensor: Tensor) -> Tensor | None:
        """Return the nearest of them in length, of the same name but for counters if there is one of that."""
        for name in (without_counters(tensor.name), None):
            groups = (self._alike.get((*shared, name)) for shared in _all_but_one_dimension(tensor))
            nearest = (_nearest(group, tensor.length, _length) for group in groups if group)
            fitting = [old for old in nearest if resized_dimension(tensor, old) is not None]
            if fitting:
                return min(fitting, key=lambda t: abs(t.length - tensor.length))
        return None


def _all_but_one_dimension(tensor: Tensor) -> list[tuple[Any, ...]]:
    return [(tensor.dtype, k, tensor.shape[:k] + tensor.shape[k + 1 :]) for k in range(len(tensor.shape))]


def _length(tensor: Tensor) -> int:
    return tensor.length


def _offset(tensor: Tensor) -> int:
    return tensor.offset


def _nearest(tensors: list[Tensor], value: int, key: Callable[[Tensor], int]) -> Tensor:
    """Return the tensor whose `key`, by which they are in order, is nearest to `value`."""
    at = bisect_left(tensors, value, key=key)
    return min(tensors[max(0, at - 1) : at + 1], key=lambda t: abs(key(t) - value))


def resized_dimension(tensor: Tensor, old: Tensor) -> int | None:
    """Return the index of the one dimension in which the shapes differ; None if there are more, or none."""
    if tensor.dtype != old.dtype or len(tensor.shape) != len(old.shape):
        return None
    different = [k for k, (a, b) in enumerate(zip(tensor.shape, old.shape, strict=True)) if a != b]
    return different[0] if len(different) == 1 else None


def without_counters(name: str) -> str:
    """Return `name` without the counters that layers, functions and converters append to its parts.

    `functional_1_1/head_2/MatMul1` and `functional/head/MatMul` give the same.
    """
    return re.sub(r"(_\d+)+(?=$|[/;:.])|(?<=[a-zA-Z])\d+(?=$|[;:])", "", name)


def _by_size(tensors: Iterable[Tensor]) -> dict[Key, list[Tensor]]:
    groups: dict[Key, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        groups[tensor.dtype, tensor.length].append(tensor)
    return groups


def _pair_group(old: Side, new: Side) -> dict[Tensor, Tensor]:
    """Pair the tensors of one size: those of equal bytes first, the rest by likeness and name."""
    partners = _pair_equal(old, new)
    changed = [tensor for tensor in new.tensors if tensor not in partners]
    if changed:
        taken = set(partners.values())
        # An old tensor that went over unchanged is rarely the base of another one too.
        free = [tensor for tensor in old.tensors if tensor not in taken] or old.tensors
        partners |= _pair_alike(old.only(free), new.only(changed))
    return partners


def _pair_equal(old: Side, new: Side) -> dict[Tensor, Tensor]:
    named = {tensor.name: tensor for tensor in old.tensors}
    partners, rest = {}, []
    for tensor in new.tensors:
        partner = named.get(tensor.name)
        if partner is not None and np.array_equal(old.data_of(partner), new.data_of(tensor)):
            partners[tensor] = partner
        else:
            rest.append(tensor)
    if not rest:
        return partners
    by_content = defaultdict(list)
    for tensor in sorted(old.tensors, key=_offset):
        by_content[_digest(old, tensor)].append(tensor)
    for tensor in rest:
        if equal := by_content.get(_digest(new, tensor)):
            partners[tensor] = _nearest(equal, tensor.offset, _offset)
    return partners


def _pair_alike(old: Side, new: Side) -> dict[Tensor, Tensor]:
    olds, news = old.tensors, new.tensors
    if len(olds) == 1:
        return dict.fromkeys(news, olds[0])
    old_samples, new_samples = _samples(old), _samples(new)
    old_names, new_names = _Names(olds), _Names(news)
    everyone = range(len(olds))
    all_with_all = len(olds) * len(news) <= _MOST_COMPARED
    partners = {}
    for rank, tensor in enumerate(news):
        possible = everyone if all_with_all else sorted({*old_names.like(tensor.name), min(rank, len(olds) - 1)})
        costs = _difference_bits(old_samples[list(possible)], new_samples[rank], tensor.is_float)
        doubts = [new_names.doubt(rank, old_names, other) for other in possible]
        partners[tensor] = olds[possible[int(np.argmin(costs + doubts))]]
    return partners


class _Names:
    """The names of tensors with and without their counters and digits."""

    def __init__(self, tensors: list[Tensor]) -> None:
        names = [tensor.name for tensor in tensors]
        uncounted = [without_counters(name) for name in names]
        self._levels = (names, uncounted, [re.sub(r"\d+", "#", name) for name in uncounted])
        self._known = {name: at for at, name in reversed(list(enumerate(names)))}
        self._known_uncounted = {name: at for at, name in reversed(list(enumerate(uncounted)))}

    def like(self, name: str) -> list[int]:
        """Return the indexes of the first tensors of that name, with or without its counters."""
        found = (self._known.get(name), self._known_uncounted.get(without_counters(name)))
        return [at for at in found if at is not None]

    def doubt(self, rank: int, others: "_Names", other: int) -> float:
        """Return the bits per element by which another tensor must be more alike than the one of index `other`."""
        for level, bits in enumerate((_SAME_NAME, _SAME_BUT_COUNTERS, _SAME_BUT_DIGITS)):
            if self._levels[level][rank] == others._levels[level][other]:
                return bits + _OTHER_RANK * (level > 0 and rank != other)
        return _OTHER_NAME + _OTHER_RANK * (rank != other)


def _samples(side: Side) -> NDArray[Any]:
    """Return elements spread over each tensor: shape [tensors, samples], unsigned of their width."""
    width, count = side.tensors[0].width, side.tensors[0].length // side.tensors[0].width
    picked = np.unique(np.linspace(0, count - 1, _SAMPLE).astype(np.int64))
    at = (picked[:, None] * width + np.arange(width)).ravel()
    rows = np.stack([side.file[tensor.offset + at] for tensor in side.tensors])
    return rows.view(f"<u{width}")


def _difference_bits(olds: NDArray[Any], new: NDArray[Any], is_float: bool) -> NDArray[np.float64]:
    """Return the mean bits of the differences between one new sample and each old one."""
    if is_float:
        olds, new = to_order(olds), to_order(new)
    bits: NDArray[np.float64] = np.log2(1.0 + zigzag(new - olds)).mean(axis=1)
    return bits


def _digest(side: Side, tensor: Tensor) -> bytes:
    return hashlib.sha256(side.data_of(tensor).data).digest()
