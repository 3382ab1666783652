"""Owns the stream coders as a decoder sees them: stored, fill, LZMA1 without its redundant bytes, and join.

Refuses to produce more bytes than asked for, whatever a payload says. Encoding is in `encoding.py`.
"""

import enum
import lzma

from modelpatch.errors import PatchFormatError

MIN_DICT_LOG2 = 12
MAX_DICT_LOG2 = 26
# An LZMA payload may lack its last bytes where they are zero, or not needed; a decoder feeds this many zeros.
LZMA_TAIL = bytes(16)
_MAX_PROPS = (4 * 5 + 4) * 9 + 8


class Coder(enum.IntEnum):
    """Coder ids of the streams of a frame."""

    STORED = 0
    LZMA = 1
    ZSTD = 2  # reserved
    FILL = 3
    JOIN = 4
    NIBBLE = 5  # reserved


def lzma_filters(props: int, dict_log2: int) -> list[dict[str, int]]:
    """Return liblzma's filter chain for LZMA1 with the properties byte `props` = (pb*5 + lp)*9 + lc.

    Raises:
        PatchFormatError: no such properties or dictionary exist, or lc + lp is above 4.
    """
    pb_lp, lc = divmod(props, 9)
    pb, lp = divmod(pb_lp, 5)
    if props > _MAX_PROPS or lc + lp > 4 or not MIN_DICT_LOG2 <= dict_log2 <= MAX_DICT_LOG2:
        raise PatchFormatError(f"wrong LZMA properties ({props}, dictionary 2^{dict_log2})")
    return [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << dict_log2, "lc": lc, "lp": lp, "pb": pb}]


class LzmaReader:
    """Decodes one LZMA payload piece by piece. `payload` is the stream without its first byte, which is always 0."""

    def __init__(self, props: int, dict_log2: int) -> None:
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=lzma_filters(props, dict_log2))
        self._pending = b"\0"

    def feed(self, payload: bytes, *, last: bool) -> None:
        """Add coded bytes; `last` says that no more will come."""
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
