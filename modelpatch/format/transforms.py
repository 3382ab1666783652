"""Owns the inverse transforms of DELTA operations, in the standard library alone.

Refuses nothing but what it cannot compute: callers check lengths. Integers of many bytes work as vectors whose
lanes are the elements (SWAR), which is as fast as numpy here and needs no import. Formulas: docs/patch-format.md,
"Transforms". Every function takes and returns little-endian bytes.
"""

import enum
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from operator import add
from typing import NamedTuple, TypeVar

from modelpatch.format import accelerator

# Big integers of this size stay in the first-level caches; the masks for one chunk are kept.
CHUNK_BYTES = 16 << 10
MAX_GRID = 149
_Number = TypeVar("_Number", int, float)
_TYPECODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SIGNED = {1: "b", 2: "h", 4: "i"}
# Bytes of one channel from which a table of all 256 results is made sooner than the results themselves.
_WORTH_A_TABLE = 256


class Transform(enum.IntEnum):
    """Transform ids. With `b` the base element, `z` the coded one and `t` the target element."""

    RAW = 0  # t = z; no base
    XOR = 1  # t = b ^ z
    SUB = 2  # t = b + unzigzag(z)
    ORDER = 3  # ord(t) = ord(b) + unzigzag(z)
    ORDER_SORTED = 4  # as ORDER, elements in stable order of the base's exponent
    GRID = 5  # float32: t = b + unzigzag(z) * 2^-k
    GRID_NEW = 6  # float32: t = unzigzag(z) * 2^-k; no base
    RESCALE = 7  # t = predicted(b, ratio of the scales) + unzigzag(z)


class Scales(NamedTuple):
    """What a rescale needs to know of a quantised base tensor.

    `start` is the byte offset of its first element in the base, `block` how many neighbouring elements share a
    channel. `ratios` are old scale / new scale per channel, times 2^`bits`, as integers.
    """

    start: int
    block: int
    bits: int
    ratios: tuple[int, ...]

    def slices(self, first: int, count: int) -> Iterator[tuple[slice, int]]:
        """Return (elements, ratio) of one channel each; together `count` elements from element `first` on."""
        channels = len(self.ratios)
        if self.block == 1:
            for at in range(min(channels, count)):
                yield slice(at, None, channels), self.ratios[(first + at) % channels]
            return
        at = 0
        while at < count:
            channel, inside = divmod(first + at, self.block)
            end = at + min(self.block - inside, count - at) if channels > 1 else count
            yield slice(at, end), self.ratios[channel % channels]
            at = end


WITHOUT_BASE = frozenset((Transform.RAW, Transform.GRID_NEW))
WITH_GRID = frozenset((Transform.GRID, Transform.GRID_NEW))


def undo(
    transform: Transform,
    width: int,
    grid: int,
    planes: list[bytes],
    base: bytes,
    scales: Scales | None = None,
    base_offset: int = 0,
) -> bytes:
    """Return the target bytes of one operation.

    Args:
        transform: which formula.
        width: bytes of an element: 1, 2, 4 or 8.
        grid: the exponent k of the grid transforms, else 0.
        planes: `width` byte planes of equal length, lowest byte first.
        base: as many bytes as the target has; ignored by transforms without a base.
        scales: the parameters of a rescale.
        base_offset: where `base` stands in the base file, in bytes, for a rescale.
    """
    coded = interleave(planes)
    if transform is Transform.RAW:
        return coded
    if transform in WITH_GRID:
        return _undo_grid(planes, coded, base if transform is Transform.GRID else b"", grid)
    if transform is Transform.RESCALE and scales is not None:
        base = predict(base, width, scales, base_offset)
    if transform is Transform.ORDER_SORTED:
        coded = _unsort(coded, base, width)
    fast, lanes = _LANES[transform]
    done = fast(coded, base, width)
    return _by_chunk(lanes, coded, base, width) if done is None else done


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


# The way with numpy, for where it is loaded, and the way without.
_LANES = {
    Transform.XOR: (accelerator.undo_xor, _xor_lanes),
    Transform.SUB: (accelerator.undo_sub, _sub_lanes),
    Transform.RESCALE: (accelerator.undo_sub, _sub_lanes),
    Transform.ORDER: (accelerator.undo_order, _order_lanes),
    Transform.ORDER_SORTED: (accelerator.undo_order, _order_lanes),
}


def _unsort(coded: bytes, base: bytes, width: int) -> bytes:
    if (fast := accelerator.unsort(coded, base, width)) is not None:
        return fast
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


def predict(base: bytes, width: int, scales: Scales, base_offset: int) -> bytes:
    """Return the signed elements `base` (little-endian, `width` bytes) times their channels' ratios, rounded, cut.

    Exact integers, the same everywhere: docs/patch-format.md, transform 7.
    """
    first, count = (base_offset - scales.start) // width, len(base) // width
    if (fast := accelerator.predict(base, width, scales, first)) is not None:
        return fast
    values = _native(array(_SIGNED[width], base))
    for part, ratio in scales.slices(first, count):
        old = values[part]
        if width == 1 and len(old) >= _WORTH_A_TABLE:
            new = array("b", old.tobytes().translate(_scaled_bytes(ratio, scales.bits)))
        else:
            new = array(_SIGNED[width], _scaled(old, ratio, scales.bits, width))
        values[part] = new
    return _native(values).tobytes()


def _scaled(values: Iterable[int], ratio: int, bits: int, width: int) -> list[int]:
    half, top = 1 << (bits - 1), 1 << (8 * width - 1)
    return [max(-top, min(top - 1, (value * ratio + half) >> bits)) for value in values]


@lru_cache(maxsize=64)
def _scaled_bytes(ratio: int, bits: int) -> bytes:
    """Return what becomes of each of the 256 signed bytes, in the order of their bits."""
    return array("b", _scaled([*range(128), *range(-128, 0)], ratio, bits, 1)).tobytes()


def _undo_grid(planes: list[bytes], coded: bytes, base: bytes, grid: int) -> bytes:
    if (fast := accelerator.undo_grid(coded, base, grid)) is not None:
        return fast
    step = 2.0**-grid
    if any(plane.count(0) != len(plane) for plane in planes[1:]):
        steps = [((z >> 1) ^ -(z & 1)) * step for z in _native(array("I", coded))]
    else:  # small steps, the usual case: one look into a table each
        steps = [*map([((z >> 1) ^ -(z & 1)) * step for z in range(256)].__getitem__, planes[0])]
    if base:
        steps = [*map(add, _native(array("f", base)), steps)]
    return _native(array("f", steps)).tobytes()


def _native(values: "array[_Number]") -> "array[_Number]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
