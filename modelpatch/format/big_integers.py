"""Owns the arithmetic of the transforms in the standard library alone: an `Arithmetic` that is always there.

Refuses nothing but what it cannot compute: callers check lengths. Integers of many bytes work as vectors whose
lanes are the elements (SWAR), which is nearly as fast as numpy here and needs no import. Formulas:
docs/patch-format.md, "Transforms". Every function takes and returns little-endian bytes.
"""

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from operator import add as plus
from typing import TypeVar

from modelpatch.format.lane import Scales

# Big integers of this size stay in the first-level caches; the masks for one chunk are kept.
CHUNK_BYTES = 16 << 10
_Number = TypeVar("_Number", int, float)
_TYPECODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SIGNED = {1: "b", 2: "h", 4: "i"}
# Bytes of one channel from which a table of all 256 results is made sooner than the results themselves.
_WORTH_A_TABLE = 256


def xor(coded: bytes, base: bytes, width: int) -> bytes:
    """Return base ^ coded."""
    return _by_chunk(_xor_lanes, coded, base, width)


def add(coded: bytes, base: bytes, width: int) -> bytes:
    """Return base + unzigzag(coded) modulo the width."""
    return _by_chunk(_add_lanes, coded, base, width)


def add_ordered(coded: bytes, base: bytes, width: int) -> bytes:
    """Return the floats whose place in the order of floats is that of base + unzigzag(coded)."""
    return _by_chunk(_add_ordered_lanes, coded, base, width)


def unsort(coded: bytes, base: bytes, width: int) -> bytes:
    """Return `coded` with element j moved to the j-th place in the stable order of the base's exponents."""
    keys = exponent_keys(base, width)
    values = array(_TYPECODES[width], coded)
    queues: list[Iterator[int]] = [iter(())] * 256
    at = 0
    for key in sorted(set(keys)):
        count = keys.count(key)
        queues[key] = iter(values[at : at + count])
        at += count
    # Each element is the next one of its key's queue: a third of the time of a sort.
    return array(_TYPECODES[width], map(next, map(queues.__getitem__, keys))).tobytes()


def predict(base: bytes, width: int, scales: Scales, first: int) -> bytes:
    """Return the signed elements `base`, from element `first` of its tensor on, times ratios, rounded, cut."""
    values = _native(array(_SIGNED[width], base))
    for part, ratio in scales.slices(first, len(values)):
        old = values[part]
        if width == 1 and len(old) >= _WORTH_A_TABLE:
            new = array("b", old.tobytes().translate(_scaled_bytes(ratio, scales.bits)))
        else:
            new = array(_SIGNED[width], _scaled(old, ratio, scales.bits, width))
        values[part] = new
    return _native(values).tobytes()


def add_steps(coded: bytes, base: bytes, grid: int) -> bytes:
    """Return the float32 elements base + unzigzag(coded) * 2^-grid; without a base, where that is empty."""
    step = 2.0**-grid
    count = len(coded) // 4
    if any(coded[place::4].count(0) != count for place in (1, 2, 3)):
        steps = [((z >> 1) ^ -(z & 1)) * step for z in _native(array("I", coded))]
    else:  # small steps, the usual case: one look into a table each
        steps = [*map([((z >> 1) ^ -(z & 1)) * step for z in range(256)].__getitem__, coded[::4])]
    if base:
        steps = [*map(plus, _native(array("f", base)), steps)]
    return _native(array("f", steps)).tobytes()


def exponent_keys(base: bytes, width: int) -> bytes:
    """Return, an element a byte, the eight bits below the sign: for float32 and bfloat16 exactly the exponent."""
    top, count = base[width - 1 :: width], len(base) // width
    one, _, low = _masks(1, count)
    keys = (int.from_bytes(top, "little") & low) << 1
    if width > 1:
        keys |= (int.from_bytes(base[width - 2 :: width], "little") >> 7) & one
    return keys.to_bytes(count, "little")


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


def _add_lanes(z: int, b: int, width: int, count: int) -> int:
    _, high, low = _masks(width, count)
    return _add(_unzigzag_lanes(z, width, count), b, high, low)


def _add_ordered_lanes(z: int, b: int, width: int, count: int) -> int:
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


@lru_cache(maxsize=16)
def _masks(width: int, count: int) -> tuple[int, int, int]:
    """Return the integers whose `count` lanes are all 1, all top bits, and all bits but the top one."""
    one = int.from_bytes((b"\1" + bytes(width - 1)) * count, "little")
    high = one << (8 * width - 1)
    return one, high, (one * ((1 << 8 * width) - 1)) ^ high


def _scaled(values: Iterable[int], ratio: int, bits: int, width: int) -> list[int]:
    half, top = 1 << (bits - 1), 1 << (8 * width - 1)
    return [max(-top, min(top - 1, (value * ratio + half) >> bits)) for value in values]


@lru_cache(maxsize=64)
def _scaled_bytes(ratio: int, bits: int) -> bytes:
    """Return what becomes of each of the 256 signed bytes, in the order of their bits."""
    return array("b", _scaled([*range(128), *range(-128, 0)], ratio, bits, 1)).tobytes()


def _native(values: "array[_Number]") -> "array[_Number]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
