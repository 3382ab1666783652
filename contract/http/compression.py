"""Owns the form in which small JSON (manifests, metadata) travels: gzip, where the asking side takes it (RFC 9110).

Refuses to unpack more at once than was asked for, whatever a peer sends; who reads stops at the signed length. Files
and patches are not sent so: they are as small as they get, and are resumed by byte ranges.
"""

import functools
import gzip
import zlib
from collections.abc import Iterator

GZIP = "gzip"
_PIECE_BYTES = 65_536
_GZIP_WINDOW = 31  # zlib's way to say: with gzip's header


@functools.lru_cache(maxsize=64)  # a relay sends the same few documents to every device
def packed(data: bytes) -> bytes:
    """Return ``data`` as gzip, the same bytes each time."""
    return gzip.compress(data, 9, mtime=0)


def unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Return the content of a gzip stream piece by piece, at most 64 KiB each.

    Raises:
        ValueError: it is no gzip, or ends too early.
    """
    decoder = zlib.decompressobj(_GZIP_WINDOW)
    try:
        for piece in pieces:
            while piece and not decoder.eof:
                yield decoder.decompress(piece, _PIECE_BYTES)
                piece = decoder.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"damaged gzip ({error})") from error
    if not decoder.eof:
        raise ValueError("gzip that ends too early")
