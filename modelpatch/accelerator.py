"""Owns the optional use of numpy in apply: the same bytes as the standard library gives, sooner.

Refuses to import numpy for little work: the import costs more than it saves below `WORTH_BYTES`.
"""

import importlib
import sys
from types import ModuleType

# Importing numpy takes about 80 ms on a desktop; the standard library does about this much in the same time.
WORTH_BYTES = 1 << 20
_done = {"bytes": 0}


def _numpy(count: int) -> ModuleType | None:
    """Return numpy where it is loaded already, or where this process has work enough to pay for its import."""
    _done["bytes"] += count
    if "numpy" not in sys.modules and _done["bytes"] < WORTH_BYTES:
        return None
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def unsort(coded: bytes, keys: bytes, width: int) -> bytes | None:
    """Return `coded` with element j moved to where key number j of the stable order stood; None without numpy."""
    np = _numpy(len(coded))
    if np is None:
        return None
    values = np.frombuffer(coded, f"<u{width}")
    out = np.empty_like(values)
    out[np.argsort(np.frombuffer(keys, np.uint8), kind="stable")] = values
    return bytes(out.tobytes())


def undo_grid(coded: bytes, base: bytes, grid: int) -> bytes | None:
    """Return float32 bytes of base + unzigzag(coded) * 2^-grid; None without numpy."""
    np = _numpy(len(coded))
    if np is None:
        return None
    z = np.frombuffer(coded, "<u4")
    steps = ((z >> 1) ^ -(z & 1)).view("<i4").astype(np.float64) * 2.0**-grid
    if base:
        steps += np.frombuffer(base, "<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        return bytes(steps.astype("<f4").tobytes())
