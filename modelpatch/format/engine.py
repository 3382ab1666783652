"""Owns the seam between apply and what a device may have beyond the standard library: the `Engine`.

Refuses to look for libraries: apply is handed an engine, and `STANDARD` is the one that is always there. The one of
what is installed is in `modelpatch/installed/engine.py`.
"""

from typing import Protocol

from modelpatch.errors import UnsupportedPatchError
from modelpatch.format import big_integers
from modelpatch.format.coders import StreamReader
from modelpatch.format.header import DEFAULT_FEATURES, DecoderFeatures, PatchHeader
from modelpatch.format.transforms import Delta, undo


class Engine(Protocol):
    """What an apply needs beside streams: arithmetic, and the coders that not every device has."""

    def features(self) -> DecoderFeatures:
        """Return what patches may need."""

    def undo(self, delta: Delta) -> bytes:
        """Return the target bytes of one operation."""

    def open_zstd(self, payload: bytes, dict_log2: int) -> StreamReader:
        """Return a reader of a zstd frame whose window is at most 2^`dict_log2` bytes.

        Raises:
            UnsupportedPatchError: there is no zstd.
        """


class StandardEngine:
    """The engine of the standard library."""

    def features(self) -> DecoderFeatures:
        """Return the features of the required format and all optional ones but zstd."""
        return DEFAULT_FEATURES

    def undo(self, delta: Delta) -> bytes:
        """Return the target bytes of one operation."""
        return undo(delta, big_integers)

    def open_zstd(self, payload: bytes, dict_log2: int) -> StreamReader:
        """Refuse. Raises UnsupportedPatchError."""
        raise UnsupportedPatchError("the patch needs zstd, and this Python has no module for it")


STANDARD = StandardEngine()


def check_supported(header: PatchHeader, engine: Engine) -> None:
    """Refuse a patch that needs a feature which `engine` does not have.

    Raises:
        UnsupportedPatchError: it does.
    """
    # As plain numbers: the complement of a flag keeps only the bits that have names. What is installed is looked for
    # only where it is needed, since looking imports it.
    missing = int(header.features) & ~int(DEFAULT_FEATURES)
    if missing and missing & ~int(engine.features()):
        raise UnsupportedPatchError(f"the patch needs decoder features that are missing: {_names(missing)}")


def _names(features: int) -> str:
    known = [f.name or "" for f in DecoderFeatures if f & features]
    rest = features & ~sum(int(f) for f in DecoderFeatures)
    return ", ".join(known + ([f"unknown bits {rest:#x}"] if rest else []))
