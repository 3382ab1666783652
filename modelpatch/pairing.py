"""Owns which old tensor a new tensor is compared with: by content, by name and shape, by rows, by position.

Refuses to pair tensors of different element types. Needs numpy (diff only).
"""

import hashlib
import re
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from modelpatch.forward import to_order
from modelpatch.layout import Tensor
from modelpatch.pieces import Bytes, Piece, elements

# Below this a tensor is cheaper as part of the bytes around it than as a piece of its own.
LEAST_TENSOR_BYTES = 64
_MOST_ALIGNED = 1 << 28  # row pairs times row elements, about ten seconds of work


class Pairing:
    """Finds the counterpart of one new tensor after another."""

    def __init__(self, old_tensors: list[Tensor], old: Bytes, new: Bytes) -> None:
        self._old, self._new = old, new
        self._by_content: dict[bytes, Tensor] = {}
        self._by_name: dict[tuple[str, str], Tensor] = {}
        self._by_shape: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
        for tensor in old_tensors:
            self._by_content.setdefault(_digest(old, tensor), tensor)
            for name in (tensor.name, _plain(tensor.name)):
                self._by_name.setdefault((tensor.dtype, name), tensor)
            self._by_shape[tensor.dtype, tensor.length].append(tensor)
        self._all = old_tensors

    def pieces(self, tensor: Tensor, group: int) -> list[Piece]:
        """Tile `tensor` with pieces, its counterpart found."""
        whole = Piece(tensor.offset, tensor.length, None, False, tensor.width, tensor.is_float, group)
        equal = self._by_content.get(_digest(self._new, tensor))
        if equal is not None:
            return [Piece(tensor.offset, tensor.length, equal.offset, copy=True)]
        old = self._named(tensor) or self._placed(tensor)
        if old is not None and old.length == tensor.length:
            return [whole.on(old.offset)]
        rows = self._row_source(tensor, old)
        return [whole] if rows is None else self._align(tensor, rows, whole)

    def _named(self, tensor: Tensor) -> Tensor | None:
        exact = self._by_name.get((tensor.dtype, tensor.name))
        return exact or self._by_name.get((tensor.dtype, _plain(tensor.name)))

    def _placed(self, tensor: Tensor) -> Tensor | None:
        same = self._by_shape.get((tensor.dtype, tensor.length))
        return min(same, key=lambda t: abs(t.offset - tensor.offset)) if same else None

    def _row_source(self, tensor: Tensor, named: Tensor | None) -> Tensor | None:
        """Return an old tensor with the same rows, but more or fewer of them."""
        fitting = [t for t in self._all if t.dtype == tensor.dtype and t.shape[1:] == tensor.shape[1:] and t.shape]
        if not tensor.shape or len(tensor.shape) < 2 or not fitting:
            return None
        if named in fitting:
            return named
        return min(fitting, key=lambda t: abs(t.shape[0] - tensor.shape[0]))

    def _align(self, tensor: Tensor, old: Tensor, whole: Piece) -> list[Piece]:
        row = tensor.length // tensor.shape[0]
        rows = [
            elements(data, t.offset, t.length, t.width).reshape(t.shape[0], -1)
            for data, t in ((self._new, tensor), (self._old, old))
        ]
        if row * tensor.shape[0] != tensor.length or rows[0].shape[1] != rows[1].shape[1]:
            return [whole]
        if rows[0].shape[0] * rows[1].size > _MOST_ALIGNED:
            return [whole]
        sources = align_rows(_cost_matrix(rows[0], rows[1], tensor.is_float), 8 * row)
        return [
            whole.part(i * row, row, copy=False).on(None if j is None else old.offset + j * row)
            for i, j in enumerate(sources)
        ]


def align_rows(costs: NDArray[np.float64], new_cost: float) -> list[int | None]:
    """Return, for each new row, its old row or None, in order, at the least total cost in bits.

    Args:
        costs: shape [new rows, old rows], bits to code a new row from an old one.
        new_cost: bits to code a row from nothing.
    """
    count, old_count = costs.shape
    best = np.zeros((count + 1, old_count + 1))
    best[:, 0] = np.arange(count + 1) * new_cost
    for i in range(1, count + 1):
        for j in range(1, old_count + 1):
            paired = best[i - 1, j - 1] + costs[i - 1, j - 1]
            best[i, j] = min(paired, best[i - 1, j] + new_cost, best[i, j - 1])
    out: list[int | None] = [None] * count
    i, j = count, old_count
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j] + new_cost:
            i -= 1
        else:
            i, j = i - 1, j - 1
            out[i] = j
    return out


def _cost_matrix(new: NDArray[np.uint64], old: NDArray[np.uint64], is_float: bool) -> NDArray[np.float64]:
    left = (to_order(new) if is_float else new).astype(np.float64)
    right = (to_order(old) if is_float else old).astype(np.float64)
    return np.array([[np.log2(1 + np.abs(row - other)).sum() for other in right] for row in left])


def _digest(data: Bytes, tensor: Tensor) -> bytes:
    return hashlib.sha256(data[tensor.offset : tensor.offset + tensor.length].tobytes()).digest()


def _plain(name: str) -> str:
    """Return `name` without the counters that converters and layers append."""
    return re.sub(r"\d+", "#", name)
