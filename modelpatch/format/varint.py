"""Owns the two integer codings of the format: unsigned varints (LEB128) and zigzag for signed ones.

Refuses varints that are longer than 9 bytes, above 2^63-1, or padded with needless zero groups, so that every
number has exactly one coding.
"""

from modelpatch.errors import PatchFormatError

MAX_VARINT_BYTES = 9


def encode(value: int) -> bytes:
    """Return `value` (0 to 2^63-1) in groups of seven bits, low ones first, top bit set on all bytes but the last."""
    if not 0 <= value < 1 << 63:
        raise ValueError(f"varint out of range: {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes | bytearray | memoryview, offset: int) -> tuple[int, int]:
    """Return (value, offset after it).

    Raises:
        PatchFormatError: the varint is cut off, too long, or not in its shortest form.
    """
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if offset + index >= len(data):
            raise PatchFormatError("a number is cut off")
        byte = data[offset + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                raise PatchFormatError("a number is not in its shortest form")
            return value, offset + index + 1
    raise PatchFormatError("a number is longer than 9 bytes")


def zigzag(value: int) -> int:
    """Return the unsigned number that stands for the signed `value`: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return value * 2 if value >= 0 else -value * 2 - 1


def unzigzag(value: int) -> int:
    """Return the signed number that `zigzag` coded as `value`."""
    return value >> 1 if value & 1 == 0 else -(value >> 1) - 1
