"""Owns the inverse transforms of DELTA operations, in the standard library alone.

Refuses nothing but what it cannot compute: callers check lengths. Integers of many bytes work as vectors whose
lanes are the elements (SWAR), which is as fast as numpy here and needs no import. Formulas: docs/patch-format.md,
"Transforms". Every function takes and returns little-endian bytes.
"""

import enum
import sys
from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from modelpatch import accelerator

# Big integers of this size stay in the first-level caches; the masks for one chunk are kept.
CHUNK_BYTES = 16 << 10
MAX_GRID = 149
_Number = TypeVar("_Number", int, float)
_TYPECODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Transform(enum.IntEnum):
    """Transform ids. With `b` the base element, `z` the coded one and `t` the target element."""

    RAW = 0  # t = z; no base
    XOR = 1  # t = b ^ z
    SUB = 2  # t = b + unzigzag(z)
    ORDER = 3  # ord(t) = ord(b) + unzigzag(z)
    ORDER_SORTED = 4  # as ORDER, elements in stable order of the base's exponent
    GRID = 5  # float32: t = b + unzigzag(z) * 2^-k
    GRID_NEW = 6  # float32: t = unzigzag(z) * 2^-k; no base
    RESCALE = 7  # reserved


WITHOUT_BASE = frozenset((Transform.RAW, Transform.GRID_NEW))
WITH_GRID = frozenset((Transform.GRID, Transform.GRID_NEW))


def undo(transform: Transform, width: int, grid: int, planes: list[bytes], base: bytes) -> bytes:
    """Return the target bytes of one operation.

    Args:
        transform: which formula.
        width: bytes of an element: 1, 2, 4 or 8.
        grid: the exponent k of the grid transforms, else 0.
        planes: `width` byte planes of equal length, lowest byte first.
        base: as many bytes as the target has; ignored by transforms without a base.
    """
    coded = interleave(planes)
    if transform is Transform.RAW:
        return coded
    if transform in WITH_GRID:
        return _undo_grid(coded, base if transform is Transform.GRID else b"", grid)
    if transform is Transform.ORDER_SORTED:
        coded = _unsort(coded, base, width)
    lanes = {Transform.XOR: _xor_lanes, Transform.SUB: _sub_lanes}.get(transform, _order_lanes)
    return _by_chunk(lanes, coded, base, width)


def interleave(planes: list[bytes]) -> bytes:
    """Return the elements whose bytes are `planes`, lowest byte first."""
    if len(planes) == 1:
        return planes[0]
    out = bytearray(len(planes) * len(planes[0]))
    for index, plane in enumerate(planes):
        out[index :: len(planes)] = plane
    return bytes(out)


@lru_cache(maxsize=16)
def _masks(width: int, count: int) -> tuple[int, int, int]:
    """Return the integers whose `count` lanes are all 1, all top bits, and all bits but the top one."""
    one = int.from_bytes((b"\1" + bytes(width - 1)) * count, "little")
    high = one << (8 * width - 1)
    return one, high, (one * ((1 << 8 * width) - 1)) ^ high


def _by_chunk(lanes: Callable[[int, int, int, int], int], coded: bytes, base: bytes, width: int) -> bytes:
    out = bytearray()
    for start in range(0, len(coded), CHUNK_BYTES):
        z = coded[start : start + CHUNK_BYTES]
        b = base[start : start + CHUNK_BYTES]
        value = lanes(int.from_bytes(z, "little"), int.from_bytes(b, "little"), width, len(z) // width)
        out += value.to_bytes(len(z), "little")
    return bytes(out)


def _xor_lanes(z: int, b: int, width: int, count: int) -> int:
    return z ^ b


def _sub_lanes(z: int, b: int, width: int, count: int) -> int:
    _, high, low = _masks(width, count)
    return _add(_unzigzag_lanes(z, width, count), b, high, low)


def _order_lanes(z: int, b: int, width: int, count: int) -> int:
    _, high, low = _masks(width, count)
    ordered = b ^ (_spread(b & high, width) | high)
    total = _add(_unzigzag_lanes(z, width, count), ordered, high, low)
    return total ^ (_spread(~total & high, width) | high)


def _unzigzag_lanes(z: int, width: int, count: int) -> int:
    one, _, low = _masks(width, count)
    return ((z >> 1) & low) ^ ((z & one) * ((1 << 8 * width) - 1))


def _add(a: int, b: int, high: int, low: int) -> int:
    """Add lane by lane modulo the lane: the top bits are added without their carry."""
    return ((a & low) + (b & low)) ^ ((a ^ b) & high)


def _spread(top_bits: int, width: int) -> int:
    """Turn each set top bit into a lane of ones."""
    return (top_bits >> (8 * width - 1)) * ((1 << 8 * width) - 1)


def exponent_keys(base: bytes, width: int) -> bytes:
    """Return, an element a byte, the eight bits below the sign: for float32 and bfloat16 exactly the exponent."""
    top, count = base[width - 1 :: width], len(base) // width
    one, _, low = _masks(1, count)
    keys = (int.from_bytes(top, "little") & low) << 1
    if width > 1:
        keys |= (int.from_bytes(base[width - 2 :: width], "little") >> 7) & one
    return keys.to_bytes(count, "little")


def _unsort(coded: bytes, base: bytes, width: int) -> bytes:
    keys = exponent_keys(base, width)
    if (fast := accelerator.unsort(coded, keys, width)) is not None:
        return fast
    values = array(_TYPECODES[width], coded)
    out = array(_TYPECODES[width], bytes(len(coded)))
    for position, value in zip(sorted(range(len(keys)), key=keys.__getitem__), values, strict=True):
        out[position] = value
    return out.tobytes()


def _undo_grid(coded: bytes, base: bytes, grid: int) -> bytes:
    if (fast := accelerator.undo_grid(coded, base, grid)) is not None:
        return fast
    step = 2.0**-grid
    steps = [((z >> 1) ^ -(z & 1)) * step for z in _native(array("I", coded))]
    if base:
        steps = [b + s for b, s in zip(_native(array("f", base)), steps, strict=True)]
    return _native(array("f", steps)).tobytes()


def _native(values: "array[_Number]") -> "array[_Number]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
