"""Owns the arithmetic of the transforms in numpy: an `Arithmetic` for where numpy is installed.

Refuses big-endian machines, by its callers: numpy's arithmetic gives native order, and the format is little-endian.
"""

from typing import Any

import numpy as np

from modelpatch.format import big_integers
from modelpatch.format.lane import Scales

_PIECE = 16 << 10  # elements


def xor(coded: bytes, base: bytes, width: int) -> bytes:
    """Return base ^ coded."""
    return bytes((np.frombuffer(base, np.uint8) ^ np.frombuffer(coded, np.uint8)).tobytes())


def add(coded: bytes, base: bytes, width: int) -> bytes:
    """Return base + unzigzag(coded) modulo the width."""
    z = np.frombuffer(coded, f"<u{width}")
    return bytes((np.frombuffer(base, z.dtype) + _unzigzag(z)).tobytes())


def add_ordered(coded: bytes, base: bytes, width: int) -> bytes:
    """Return the floats whose place in the order of floats is that of base + unzigzag(coded)."""
    z = np.frombuffer(coded, f"<u{width}")
    kind, low = f"<i{width}", z.dtype.type((1 << (8 * width - 1)) - 1)
    # Of a negative float all bits turn, of others the top one: both ways one exclusive or.
    b = np.frombuffer(base, z.dtype)
    y = (b ^ ((b.view(kind) >> (8 * width - 1)).view(z.dtype) | (low + z.dtype.type(1)))) + _unzigzag(z)
    return bytes((y ^ ((~y.view(kind) >> (8 * width - 1)).view(z.dtype) | (low + z.dtype.type(1)))).tobytes())


def unsort(coded: bytes, base: bytes, width: int) -> bytes:
    """Return `coded` with element j moved to the j-th place in the stable order of the base's exponents."""
    values = np.frombuffer(coded, f"<u{width}")
    shift = 8 * width - 9
    b = np.frombuffer(base, values.dtype)
    keys = (b >> values.dtype.type(shift) if shift >= 0 else b << values.dtype.type(1)).astype(np.uint8)
    out = np.empty_like(values)
    out[np.argsort(keys, kind="stable")] = values
    return bytes(out.tobytes())


def predict(base: bytes, width: int, scales: Scales, first: int) -> bytes:
    """Return the signed elements `base`, from element `first` of its tensor on, times ratios, rounded, cut."""
    if len(base) < width * len(scales.ratios):  # so short that the ratios alone take longer
        return big_integers.predict(base, width, scales, first)
    old, ratios, limit = np.frombuffer(base, f"<i{width}"), np.array(scales.ratios, np.int64), 1 << (8 * width - 1)
    out = np.empty_like(old)
    # Piece by piece, because the wide integers on the way take many times the memory of the elements.
    for at in range(0, len(old), _PIECE):
        values = old[at : at + _PIECE].astype(np.int64)
        channels = (first + at + np.arange(len(values))) // scales.block % len(ratios)
        scaled = (values * ratios[channels] + (1 << (scales.bits - 1))) >> scales.bits
        out[at : at + _PIECE] = np.clip(scaled, -limit, limit - 1)
    return bytes(out.tobytes())


def add_steps(coded: bytes, base: bytes, grid: int) -> bytes:
    """Return the float32 elements base + unzigzag(coded) * 2^-grid; without a base, where that is empty."""
    z = np.frombuffer(coded, "<u4")
    steps = _unzigzag(z).view("<i4").astype(np.float64) * 2.0**-grid
    with np.errstate(over="ignore", invalid="ignore"):
        if base:
            steps += np.frombuffer(base, "<f4")
        return bytes(steps.astype("<f4").tobytes())


def _unzigzag(z: Any) -> Any:
    one = z.dtype.type(1)
    return (z >> one) ^ (z.dtype.type(0) - (z & one))
