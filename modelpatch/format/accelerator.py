"""Owns the optional use of numpy in apply: the same bytes as the standard library gives, sooner.

Refuses to import numpy for little work: the import costs more than it saves below `WORTH_BYTES`.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelpatch.format.transforms import Scales

# Importing numpy takes up to 200 ms of processor time; the standard library does about this much in the same time.
WORTH_BYTES = 8 << 20
_PIECE = 16 << 10  # elements
_done = {"bytes": 0}


def _numpy(count: int) -> ModuleType | None:
    """Return numpy where it is loaded already, or where this process has work enough to pay for its import."""
    _done["bytes"] += count
    if sys.byteorder == "big":
        return None  # its arithmetic gives native order, and ours is little-endian
    if "numpy" not in sys.modules and _done["bytes"] < WORTH_BYTES:
        return None
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def undo_xor(coded: bytes, base: bytes, width: int) -> bytes | None:
    """Return base ^ coded; None without numpy."""
    np = _numpy(len(coded))
    if np is None:
        return None
    return bytes((np.frombuffer(base, np.uint8) ^ np.frombuffer(coded, np.uint8)).tobytes())


def undo_sub(coded: bytes, base: bytes, width: int) -> bytes | None:
    """Return base + unzigzag(coded) modulo the width; None without numpy."""
    np = _numpy(len(coded))
    if np is None:
        return None
    z = np.frombuffer(coded, f"<u{width}")
    return bytes((np.frombuffer(base, z.dtype) + _unzigzag(z)).tobytes())


def undo_order(coded: bytes, base: bytes, width: int) -> bytes | None:
    """Return the floats whose place in the order of floats is that of base + unzigzag(coded); None without numpy."""
    np = _numpy(len(coded))
    if np is None:
        return None
    z = np.frombuffer(coded, f"<u{width}")
    kind, low = f"<i{width}", z.dtype.type((1 << (8 * width - 1)) - 1)
    # Of a negative float all bits turn, of others the top one: both ways one exclusive or.
    b = np.frombuffer(base, z.dtype)
    y = (b ^ ((b.view(kind) >> (8 * width - 1)).view(z.dtype) | (low + z.dtype.type(1)))) + _unzigzag(z)
    return bytes((y ^ ((~y.view(kind) >> (8 * width - 1)).view(z.dtype) | (low + z.dtype.type(1)))).tobytes())


def _unzigzag(z: Any) -> Any:
    one = z.dtype.type(1)
    return (z >> one) ^ (z.dtype.type(0) - (z & one))


def unsort(coded: bytes, base: bytes, width: int) -> bytes | None:
    """Return `coded` with element j moved to the j-th place in the stable order of the base; None without numpy."""
    np = _numpy(len(coded))
    if np is None:
        return None
    values = np.frombuffer(coded, f"<u{width}")
    shift = 8 * width - 9
    b = np.frombuffer(base, values.dtype)
    keys = (b >> values.dtype.type(shift) if shift >= 0 else b << values.dtype.type(1)).astype(np.uint8)
    out = np.empty_like(values)
    out[np.argsort(keys, kind="stable")] = values
    return bytes(out.tobytes())


def predict(base: bytes, width: int, scales: "Scales", first: int) -> bytes | None:
    """Return the rescaled elements of `base`, which begins at element `first` of its tensor; None without numpy."""
    np = _numpy(len(base)) if len(base) >= width * len(scales.ratios) else None
    if np is None:  # or so short that the ratios alone take longer
        return None
    old, ratios, limit = np.frombuffer(base, f"<i{width}"), np.array(scales.ratios, np.int64), 1 << (8 * width - 1)
    out = np.empty_like(old)
    # Piece by piece, because the wide integers on the way take many times the memory of the elements.
    for at in range(0, len(old), _PIECE):
        values = old[at : at + _PIECE].astype(np.int64)
        channels = (first + at + np.arange(len(values))) // scales.block % len(ratios)
        scaled = (values * ratios[channels] + (1 << (scales.bits - 1))) >> scales.bits
        out[at : at + _PIECE] = np.clip(scaled, -limit, limit - 1)
    return bytes(out.tobytes())


def undo_grid(coded: bytes, base: bytes, grid: int) -> bytes | None:
    """Return float32 bytes of base + unzigzag(coded) * 2^-grid; None without numpy."""
    np = _numpy(len(coded))
    if np is None:
        return None
    z = np.frombuffer(coded, "<u4")
    steps = _unzigzag(z).view("<i4").astype(np.float64) * 2.0**-grid
    with np.errstate(over="ignore", invalid="ignore"):
        if base:
            steps += np.frombuffer(base, "<f4")
        return bytes(steps.astype("<f4").tobytes())
