"""Owns undoing one DELTA operation: which formulas a transform takes, in which order.

Refuses to compute them itself: an `Arithmetic` is passed in, that of the standard library (`big_integers.py`) or one
that gives the same bytes sooner. Formulas: docs/patch-format.md, "Transforms".
"""

from typing import NamedTuple, Protocol

from modelpatch.format.lane import WITH_GRID, Lane, Scales, Transform


class Delta(NamedTuple):
    """One DELTA operation with its bytes.

    `planes` are as many byte planes of equal length as the lane's elements are wide, lowest byte first. `base` has as
    many bytes as the target, or none for a transform without a base; it stands at `base_offset` of the base file.
    """

    lane: Lane
    planes: list[bytes]
    base: bytes = b""
    base_offset: int = 0


class Arithmetic(Protocol):
    """The formulas, over little-endian elements of `width` bytes. Exact: every one gives the same bytes."""

    def xor(self, coded: bytes, base: bytes, width: int) -> bytes:
        """Return base ^ coded."""

    def add(self, coded: bytes, base: bytes, width: int) -> bytes:
        """Return base + unzigzag(coded) modulo the width."""

    def add_ordered(self, coded: bytes, base: bytes, width: int) -> bytes:
        """Return the floats whose place in the order of floats is that of base + unzigzag(coded)."""

    def unsort(self, coded: bytes, base: bytes, width: int) -> bytes:
        """Return `coded` with element j moved to the j-th place in the stable order of the base's exponents."""

    def predict(self, base: bytes, width: int, scales: Scales, first: int) -> bytes:
        """Return the signed elements `base`, from element `first` of its tensor on, times ratios, rounded, cut."""

    def add_steps(self, coded: bytes, base: bytes, grid: int) -> bytes:
        """Return the float32 elements base + unzigzag(coded) * 2^-grid; without a base, where that is empty."""


def undo(delta: Delta, arithmetic: Arithmetic) -> bytes:
    """Return the target bytes of one operation."""
    (transform, width, grid, _), base = delta.lane, delta.base
    coded = interleave(delta.planes)
    if transform is Transform.RAW:
        return coded
    if transform in WITH_GRID:
        return arithmetic.add_steps(coded, base if transform is Transform.GRID else b"", grid)
    if transform is Transform.XOR:
        return arithmetic.xor(coded, base, width)
    if transform is Transform.ORDER_SORTED:
        coded = arithmetic.unsort(coded, base, width)
    if transform in (Transform.ORDER, Transform.ORDER_SORTED):
        return arithmetic.add_ordered(coded, base, width)
    return arithmetic.add(coded, _predicted(delta, arithmetic), width)


def _predicted(delta: Delta, arithmetic: Arithmetic) -> bytes:
    """Return what is added to: the base, or for a rescale the base by the change of its scales."""
    scales, width = delta.lane.scales, delta.lane.width
    if scales is None:
        return delta.base
    return arithmetic.predict(delta.base, width, scales, (delta.base_offset - scales.start) // width)


def interleave(planes: list[bytes]) -> bytes:
    """Return the elements whose bytes are `planes`, lowest byte first."""
    if len(planes) == 1:
        return planes[0]
    out = bytearray(len(planes) * len(planes[0]))
    for index, plane in enumerate(planes):
        out[index :: len(planes)] = plane
    return bytes(out)
