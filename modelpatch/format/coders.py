"""Owns the stream coders as a decoder sees them: LZMA1 without its redundant bytes, deflate, packed values.

Refuses to produce more bytes than asked for, whatever a payload says. zstd, which not every device has, is behind
`engine.py`; encoding is in `diff/encoding.py`.
"""

import enum
import lzma
import zlib
from typing import Protocol

from modelpatch.errors import PatchFormatError

MIN_DICT_LOG2 = 12
MAX_DICT_LOG2 = 26
# An LZMA payload may lack its last bytes where they are zero, or not needed; a decoder feeds this many zeros.
LZMA_TAIL = bytes(16)
_MAX_PROPS = (4 * 5 + 4) * 9 + 8
_RAW_DEFLATE = -15
_ONE_BYTE = [bytes((i,)) for i in range(256)]
_PIECE = 4 << 10
# By which a byte of packed values is taken apart, the lowest bits first: one table for each of its places.
_TAKE_APART = {
    bits: [bytes(byte >> shift & (1 << bits) - 1 for byte in range(256)) for shift in range(0, 8, bits)]
    for bits in (2, 4)
}


class Coder(enum.IntEnum):
    """Coder ids of the streams of a frame."""

    STORED = 0
    LZMA = 1
    ZSTD = 2
    FILL = 3
    JOIN = 4
    NIBBLE = 5
    DEFLATE = 6
    CRUMB = 7


# The coders of small values packed into bytes: bits of a value. The largest value of so many bits is the escape.
PACKED_BITS = {Coder.NIBBLE: 4, Coder.CRUMB: 2}


class StreamReader(Protocol):
    """A payload that is decoded bit by bit."""

    def read_exactly(self, count: int) -> bytes:
        """Return `count` decoded bytes. Raises PatchFormatError: the coded bytes are wrong or too few."""


def open_payload(coder: Coder, payload: bytes, props: int, dict_log2: int) -> StreamReader:
    """Return a reader of `payload`, coded with LZMA (properties byte `props`) or deflate.

    Raises:
        PatchFormatError: the parameters are wrong.
    """
    if coder is Coder.DEFLATE:
        return _DeflateReader(payload)
    reader = LzmaReader(props, dict_log2)
    reader.feed(payload, last=True)
    return reader


def lzma_filters(props: int, dict_log2: int) -> list[dict[str, int]]:
    """Return liblzma's filter chain for LZMA1 with the properties byte `props` = (pb*5 + lp)*9 + lc.

    Raises:
        PatchFormatError: no such properties or dictionary exist, or lc + lp is above 4.
    """
    pb_lp, lc = divmod(props, 9)
    pb, lp = divmod(pb_lp, 5)
    check_dictionary(dict_log2)
    if props > _MAX_PROPS or lc + lp > 4:
        raise PatchFormatError(f"wrong LZMA properties ({props})")
    return [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << dict_log2, "lc": lc, "lp": lp, "pb": pb}]


def check_dictionary(dict_log2: int) -> None:
    """Refuse a dictionary outside the limits of the format. Raises PatchFormatError."""
    if not MIN_DICT_LOG2 <= dict_log2 <= MAX_DICT_LOG2:
        raise PatchFormatError(f"wrong dictionary (2^{dict_log2})")


class LzmaReader:
    """Decodes one LZMA payload piece by piece. `payload` is the stream without its first byte, which is always 0."""

    def __init__(self, props: int, dict_log2: int) -> None:
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=lzma_filters(props, dict_log2))
        self._pending = b"\0"

    def feed(self, payload: bytes, *, last: bool) -> None:
        """Add coded bytes; `last` says that no more will come. Those behind an end marker are dropped."""
        if self._decoder.eof:
            return
        self._pending += payload + (LZMA_TAIL if last else b"")

    def read(self, count: int) -> bytes:
        """Return at most `count` decoded bytes; nothing means that more must be fed.

        Raises:
            PatchFormatError: the coded bytes are wrong.
        """
        if count == 0 or self._decoder.eof or (self._decoder.needs_input and not self._pending):
            return b""
        data, self._pending = self._pending, b""
        try:
            return self._decoder.decompress(data, max_length=count)
        except lzma.LZMAError as e:
            raise PatchFormatError("an LZMA stream is damaged") from e

    def read_exactly(self, count: int) -> bytes:
        """Return `count` decoded bytes; all input must have been fed.

        Raises:
            PatchFormatError: the coded bytes are wrong or too few.
        """
        parts = []
        while count:
            part = self.read(count)
            if not part:
                raise PatchFormatError("an LZMA stream ends too early")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class _DeflateReader:
    """Decodes one raw DEFLATE stream (RFC 1951)."""

    def __init__(self, payload: bytes) -> None:
        self._decoder, self._pending = zlib.decompressobj(_RAW_DEFLATE), payload

    def read_exactly(self, count: int) -> bytes:
        if not count:
            return b""
        try:
            data = self._decoder.decompress(self._pending, count)
        except zlib.error as e:
            raise PatchFormatError("a deflate stream is damaged") from e
        self._pending = self._decoder.unconsumed_tail
        if len(data) != count:
            raise PatchFormatError("a deflate stream ends too early")
        return data


def unpack(packed: bytes, count: int, bits: int) -> bytearray:
    """Return the `count` values of `bits` bits each in `packed`, the lowest bits of a byte first.

    Raises:
        PatchFormatError: the unused bits of the last byte are not 0.
    """
    tables = _TAKE_APART[bits]
    out = bytearray(len(tables) * len(packed))
    for place, table in enumerate(tables):
        out[place :: len(tables)] = packed.translate(table)
    if any(out[count:]):
        raise PatchFormatError("the unused bits of a byte are not 0")
    del out[count:]
    return out


def put_escapes(values: bytearray, escapes: bytes, escape: int) -> bytes:
    """Return `values` with each `escape` replaced by the next byte of `escapes`, of which there are as many.

    Piece by piece, because a join takes a hundred bytes for each part, and each escape is one.
    """
    if not escapes:
        return bytes(values)
    out, used = bytearray(), 0
    for at in range(0, len(values), _PIECE):
        kept = bytes(values[at : at + _PIECE]).split(_ONE_BYTE[escape])
        parts: list[bytes] = [b""] * (2 * len(kept) - 1)
        parts[0::2] = kept
        parts[1::2] = map(_ONE_BYTE.__getitem__, escapes[used : used + len(kept) - 1])
        used += len(kept) - 1
        out += b"".join(parts)
    return bytes(out)
