"""Owns the grid that weights are rounded to, and weights in a TFLite file by their bytes. Refuses to train them.

Both releases of an update are on a grid, so that most weights of the new one are where they were.
"""

import numpy as np
from numpy.typing import NDArray

# Steps of the grid, largest first; the last is so fine that it costs nothing and always passes.
STEPS = (2.0**-5, 2.0**-6, 2.0**-7, 2.0**-8, 2.0**-9, 2.0**-12)
MOST_COST = 0.005  # share of the held-out crops that a grid may cost

Weights = list[NDArray[np.float32]]


def snapped(weights: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Return ``weights`` as whole multiples of ``step``; no -0.0, which would differ from 0.0 in bytes alone."""
    return np.asarray(np.rint(weights / np.float32(step)) * np.float32(step) + np.float32(0.0), np.float32)


def snapped_all(weights: Weights, step: float) -> Weights:
    """Return every array of ``weights`` on the grid."""
    return [snapped(value, step) for value in weights]


def snapped_moves(weights: Weights, start: Weights, step: float) -> Weights:
    """Return ``weights`` with the moves from ``start`` on the grid: less than half a step is no move."""
    pairs = zip(weights, start, strict=True)
    return [np.asarray(old + snapped(new - old, step), np.float32) for new, old in pairs]


def replace_weights(data: bytes, now: Weights, then: Weights) -> bytes | None:
    """Return the head ``data`` (TFLite), whose weights are ``now``, with ``then`` in their places.

    A second by the converter becomes a millisecond, good for measuring patches. None where an array is not found
    exactly once: the converter leaves out what is zero.
    """
    out = bytearray(data)
    for old, new in zip(_as_stored(now), _as_stored(then), strict=True):
        at = data.find(old)
        if at < 0 or data.find(old, at + 1) >= 0:
            return None
        out[at : at + len(old)] = new
    return bytes(out)


def _as_stored(weights: Weights) -> list[bytes]:
    """Return the bytes of each array as TFLite has them: the outputs first."""
    last = {1: (0,), 2: (1, 0), 4: (3, 0, 1, 2)}
    return [np.ascontiguousarray(value.transpose(last[value.ndim]), "<f4").tobytes() for value in weights]
