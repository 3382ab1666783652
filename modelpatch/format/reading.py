"""Owns exact, counted reads from a patch stream. Refuses short reads: a stream that ends early is a format error."""

from typing import BinaryIO

from modelpatch.errors import PatchFormatError
from modelpatch.format import varint


class PatchReader:
    """Reads exactly what is asked for, and never more than the section that it was told it is in."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left: int | None = None
        self.consumed = 0

    def enter_section(self, length: int) -> None:
        """From here on, refuse to read more than `length` bytes."""
        self._left = length

    @property
    def left(self) -> int:
        """Bytes of the section not read yet."""
        return 0 if self._left is None else self._left

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes. The caller has checked `count` against a limit.

        Raises:
            PatchFormatError: the stream or the section ends before that.
        """
        if self._left is not None:
            if count > self._left:
                raise PatchFormatError("a section ends too early")
            self._left -= count
        data = _read_exactly(self._stream, count)
        if len(data) != count:
            raise PatchFormatError("it is cut off")
        self.consumed += count
        return data

    def byte(self) -> int:
        """Return the next byte as a number."""
        return self.read(1)[0]

    def varint(self) -> int:
        """Return the next varint."""
        data = bytearray(self.read(1))
        while data[-1] & 0x80 and len(data) < varint.MAX_VARINT_BYTES:
            data += self.read(1)
        return varint.decode(data, 0)[0]

    def expect_end(self) -> None:
        """Refuse bytes after the section, in the section or behind it in the stream.

        Raises:
            PatchFormatError: something follows.
        """
        if self._left or self._stream.read(1):
            raise PatchFormatError("bytes follow the end of the patch")


def limited(value: int, limit: int, name: str) -> int:
    """Return `value`. Raises PatchFormatError: it is above `limit`."""
    if value > limit:
        raise PatchFormatError(f"the {name} is above its limit ({value} > {limit})")
    return value


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) == count or not data:
        return data
    parts = [data]
    got = len(data)
    # Raw files and sockets may return less than asked for without being at their end.
    while got < count and (data := stream.read(count - got)):
        parts.append(data)
        got += len(data)
    return b"".join(parts)
