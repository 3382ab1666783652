"""Owns finding which old rows, or columns, the rows of a tensor come from when some were inserted or removed.

Refuses tensors that differ in more than one dimension. Needs numpy (diff only).
"""

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpatch.diff.pieces import Piece, Stored, elements
from modelpatch.diff.transforms import to_order, zigzag

# Elements of a row that are looked at.
_SAMPLE = 256
# Row pairs that are compared, at most; above, rows are paired from the start on.
_MOST_PAIRS = 1 << 21


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
        paired_or_new = np.minimum(best[i - 1, :-1] + costs[i - 1], best[i - 1, 1:] + new_cost)
        best[i, 1:] = np.minimum.accumulate(np.minimum(paired_or_new, best[i, 0]))
    return _trace(best, new_cost)


def _trace(best: NDArray[np.float64], new_cost: float) -> list[int | None]:
    i, j = best.shape[0] - 1, best.shape[1] - 1
    out: list[int | None] = [None] * i
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j] + new_cost:
            i -= 1
        else:
            i, j = i - 1, j - 1
            out[i] = j
    return out


def source_rows(new: NDArray[Any], old: NDArray[Any], is_float: bool) -> list[int | None]:
    """Return, for each row of `new`, the row of `old` that it is made from, or None.

    Args:
        new, old: shapes [rows, n] and [old rows, n], unsigned elements.
    """
    if len(new) * len(old) > _MOST_PAIRS:
        return [i if i < len(old) else None for i in range(len(new))]
    picked = np.unique(np.linspace(0, new.shape[1] - 1, _SAMPLE).astype(np.int64))
    new, old = np.ascontiguousarray(new[:, picked]), np.ascontiguousarray(old[:, picked])
    if is_float:
        new, old = to_order(new), to_order(old)
    costs = np.stack([np.log2(1.0 + zigzag(row - old)).sum(axis=1) for row in new])
    return align_rows(costs, 8.0 * new.dtype.itemsize * len(picked))


def align_dimension(whole: Piece, new: Stored, old: Stored, dimension: int) -> list[Piece]:
    """Tile `whole`, the piece of the tensor `new`, from `old`, which has another size in one dimension.

    A row is what one index of that dimension holds: in the first dimension one run of bytes, else one run for each
    index of the dimensions before.
    """
    tensor, partner = new.tensor, old.tensor
    if not (tensor.is_dense and partner.is_dense):
        return [whole]
    rows = source_rows(_rows(new, dimension), _rows(old, dimension), tensor.is_float)
    inner = math.prod(tensor.shape[dimension + 1 :]) * tensor.width
    runs = list(_runs(rows))
    out = []
    for outer in range(math.prod(tensor.shape[:dimension])):
        target, base = outer * tensor.shape[dimension] * inner, outer * partner.shape[dimension] * inner
        for first, count, source in runs:
            piece = whole.part(target + first * inner, count * inner, copy=False)
            out.append(piece.on(None if source is None else partner.offset + base + source * inner))
    return out


def _rows(stored: Stored, dimension: int) -> NDArray[Any]:
    tensor, file = stored
    whole = elements(file, tensor.offset, tensor.length, tensor.width).reshape(tensor.shape)
    return np.moveaxis(whole, dimension, 0).reshape(tensor.shape[dimension], -1)


def _runs(sources: list[int | None]) -> Iterator[tuple[int, int, int | None]]:
    """Return (first row, rows, first source row or None) of the runs of rows whose sources follow each other."""
    numbered = enumerate(sources)
    for _, run in groupby(numbered, key=lambda pair: None if pair[1] is None else pair[1] - pair[0]):
        rows = list(run)
        yield rows[0][0], len(rows), rows[0][1]
