"""Owns what a lane is: how the elements of some DELTA operations are coded, and how a frame says so.

Refuses transforms that this decoder does not know, and parameters out of range. Formulas: docs/patch-format.md,
"Transforms"; what computes them is in `transforms.py`.
"""

import enum
from collections.abc import Iterator
from typing import NamedTuple

from modelpatch.errors import PatchFormatError, UnsupportedPatchError
from modelpatch.format import varint
from modelpatch.format.reading import PatchReader, limited

MAX_GRID = 149
MAX_LANES = 64
MAX_CHANNELS = 1 << 14
MAX_RATIO = 1 << 26
MAX_RATIO_BITS = 24


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


WITHOUT_BASE = frozenset((Transform.RAW, Transform.GRID_NEW))
WITH_GRID = frozenset((Transform.GRID, Transform.GRID_NEW))


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


class Lane(NamedTuple):
    """How the elements of some DELTA operations are coded: element width in bytes, transform, its parameters."""

    transform: Transform
    width: int
    grid: int = 0
    scales: Scales | None = None

    def encode(self) -> bytes:
        """Return the lane as bytes of a frame."""
        first = bytes((self.transform << 2 | (self.width.bit_length() - 1),))
        if self.transform in WITH_GRID:
            return first + varint.encode(varint.zigzag(self.grid))
        if self.scales is None:
            return first
        scales, one = self.scales, 1 << self.scales.bits
        fixed = varint.encode(scales.start) + varint.encode(scales.block) + bytes((scales.bits,))
        ratios = b"".join(varint.encode(varint.zigzag(ratio - one)) for ratio in scales.ratios)
        return first + fixed + varint.encode(len(scales.ratios)) + ratios


def read_lanes(reader: PatchReader) -> list[Lane]:
    """Return the lanes of a frame.

    Raises:
        PatchFormatError: there are too many, or one has wrong parameters.
        UnsupportedPatchError: one has a transform that this decoder does not know.
    """
    lanes, channels = [], MAX_CHANNELS
    for _ in range(limited(reader.varint(), MAX_LANES, "number of lanes")):
        lane = _read_lane(reader, channels)
        channels -= len(lane.scales.ratios) if lane.scales else 0
        lanes.append(lane)
    return lanes


def _read_lane(reader: PatchReader, most_channels: int) -> Lane:
    value = reader.byte()
    if value >> 2 > Transform.RESCALE:
        raise UnsupportedPatchError(f"the patch uses an unknown transform ({value >> 2})")
    transform, width = Transform(value >> 2), 1 << (value & 3)
    if transform is Transform.RESCALE:
        return Lane(transform, width, scales=_read_scales(reader, width, most_channels))
    if transform not in WITH_GRID:
        return Lane(transform, width)
    grid = varint.unzigzag(reader.varint())
    if width != 4 or abs(grid) > MAX_GRID:
        raise PatchFormatError("a grid transform has a wrong width or step")
    return Lane(transform, width, grid)


def _read_scales(reader: PatchReader, width: int, most_channels: int) -> Scales:
    start, block, bits = reader.varint(), reader.varint(), reader.byte()
    channels = limited(reader.varint(), most_channels, "number of channels")
    if width > 4 or not block or not 1 <= bits <= MAX_RATIO_BITS or not channels:
        raise PatchFormatError("a rescale transform has wrong parameters")
    ratios = tuple((1 << bits) + varint.unzigzag(reader.varint()) for _ in range(channels))
    if min(ratios) < 0 or max(ratios) > MAX_RATIO:
        raise PatchFormatError("a rescale transform has a wrong ratio")
    return Scales(start, block, bits, ratios)
