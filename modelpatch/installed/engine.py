"""Owns the choice between the standard library and what is installed, for one apply.

Refuses to import numpy for little work: the import costs more than it saves below `WORTH_BYTES`. Nor is anything else
imported before it is needed: most applies are over in less time than imports take.
"""

import sys

from modelpatch.errors import UnsupportedPatchError
from modelpatch.format import big_integers
from modelpatch.format.coders import StreamReader
from modelpatch.format.header import DEFAULT_FEATURES, DecoderFeatures
from modelpatch.format.transforms import Arithmetic, Delta, undo

# Importing numpy takes up to 200 ms of processor time; the standard library does about this much in the same time.
WORTH_BYTES = 8 << 20


class InstalledEngine:
    """An `Engine` that changes over to numpy where that is loaded already, or once there was work enough.

    Args:
        worth_bytes: delta bytes from which numpy is worth its import. One apply, folders as a whole, counts as one.
    """

    def __init__(self, worth_bytes: int = WORTH_BYTES) -> None:
        self._worth_bytes, self._done_bytes = worth_bytes, 0
        self._arithmetic: Arithmetic = big_integers
        self._looked = False

    def features(self) -> DecoderFeatures:
        """Return the features of the standard library, and zstd where a module for it is installed."""
        from modelpatch.installed import zstd

        return DEFAULT_FEATURES | (DecoderFeatures.ZSTD if zstd.module() else DecoderFeatures.NONE)

    def undo(self, delta: Delta) -> bytes:
        """Return the target bytes of one operation."""
        self._done_bytes += len(delta.planes) * len(delta.planes[0])
        if not self._looked and ("numpy" in sys.modules or self._done_bytes >= self._worth_bytes):
            self._arithmetic, self._looked = find_arithmetic(), True
        return undo(delta, self._arithmetic)

    def open_zstd(self, payload: bytes, dict_log2: int) -> StreamReader:
        """Return a reader of a zstd frame. Raises UnsupportedPatchError: no module for zstd is installed."""
        from modelpatch.installed import zstd

        reader = zstd.open_payload(payload, dict_log2)
        if reader is None:
            raise UnsupportedPatchError("the patch needs zstd, and this Python has no module for it")
        return reader


def find_arithmetic() -> Arithmetic:
    """Return the fastest arithmetic of this Python; that of numpy gives native order, and ours is little-endian."""
    if sys.byteorder == "big":
        return big_integers
    try:
        from modelpatch.installed import vectors
    except ImportError:
        return big_integers
    return vectors
