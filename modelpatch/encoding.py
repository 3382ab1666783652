"""Owns coding the streams of a frame: which coder with which properties, and which streams share one payload.

Refuses to code what would grow: stored is always there. The decoding side is `coders.py`.
"""

import lzma
import math
from collections import Counter
from dataclasses import dataclass

from modelpatch import varint
from modelpatch.coders import MAX_DICT_LOG2, MIN_DICT_LOG2, Coder, LzmaReader, lzma_filters
from modelpatch.errors import PatchFormatError

# Bits of entropy per byte above which LZMA cannot win what its own overhead costs.
_INCOMPRESSIBLE_BITS = 7.97
# Streams up to this size are tried with every setting and together with their neighbours.
SMALL_BYTES = 8 << 10
_MEDIUM_BYTES = 96 << 10
_TAIL_BYTES = 24


@dataclass(frozen=True, slots=True)
class Coded:
    """One stream as it stands in a frame: its description and its payload (empty for fill and join)."""

    info: bytes
    payload: bytes

    def __len__(self) -> int:
        return len(self.info) + len(self.payload)


def dict_log2_for(length: int) -> int:
    """Return the log2 of the least LZMA dictionary that covers `length` bytes."""
    return min(MAX_DICT_LOG2, max(MIN_DICT_LOG2, (max(1, length) - 1).bit_length()))


def encode_streams(streams: list[bytes], dict_log2: int, effort: str) -> list[Coded]:
    """Return the streams coded, each on its own or joined to an earlier one, whatever is smallest."""
    out: list[Coded] = []
    group: list[int] = []  # indexes of the streams of the last LZMA payload
    for index, stream in enumerate(streams):
        alone = encode_stream(stream, dict_log2, effort)
        joined = _try_join(streams, group, index, out, dict_log2, effort)
        if joined is not None and len(joined) + 1 < len(out[group[0]]) + len(alone):
            out[group[0]] = joined
            out.append(Coded(bytes((Coder.JOIN,)), b""))
            group.append(index)
            continue
        out.append(alone)
        if alone.info[0] == Coder.LZMA:
            group = [index]
    return out


def encode_stream(data: bytes, dict_log2: int, effort: str) -> Coded:
    """Return `data` in the coder that makes it smallest."""
    if data and data.count(data[0]) == len(data):
        return Coded(bytes((Coder.FILL, data[0])), b"")
    stored = Coded(bytes((Coder.STORED,)), data)
    if len(data) < 8 or _entropy_bits(data) > _INCOMPRESSIBLE_BITS:
        return stored
    return min([stored, *(_lzma(data, p, dict_log2, effort) for p in _props_to_try(len(data), effort))], key=len)


def encode_solid_lzma(data: bytes, props: int, dict_log2: int, effort: str) -> Coded:
    """Return `data` in one LZMA payload, for a solid frame."""
    return _lzma(data, props, dict_log2, effort, thorough=effort == "best")


def _try_join(
    streams: list[bytes], group: list[int], index: int, out: list[Coded], dict_log2: int, effort: str
) -> Coded | None:
    """Return the payload of the last group with this stream added, None where that is not worth trying."""
    if not streams[index]:
        # Nothing to code: a join costs one byte and no payload.
        return None
    if not group:
        return None
    data = b"".join(streams[i] for i in (*group, index))
    if len(data) > 4 * SMALL_BYTES or len(streams[index]) > SMALL_BYTES:
        return None
    coded = [_lzma(data, p, dict_log2, effort) for p in _props_to_try(len(data), effort)]
    return min(coded, key=len)


def _props_to_try(length: int, effort: str) -> list[int]:
    """Return LZMA properties bytes (pb*5 + lp)*9 + lc: byte planes want lc 0, text and tables lc 3 or 4."""
    if effort == "fast" or length > _MEDIUM_BYTES:
        return [0]
    return [0, 3] if length > SMALL_BYTES else [0, 1, 3, 4]


def _lzma(data: bytes, props: int, dict_log2: int, effort: str, *, thorough: bool = False) -> Coded:
    filters = [dict(f) for f in lzma_filters(props, dict_log2)]
    # Byte planes are nearly all literals: on long ones a thorough match search finds nothing more.
    thorough |= len(data) <= _MEDIUM_BYTES and effort == "best"
    filters[0] |= {"preset": 9 | lzma.PRESET_EXTREME if thorough else (6 if effort == "best" else 3)}
    filters[0] |= {"dict_size": 1 << dict_log2}
    payload = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)[1:]
    payload = _trim(payload, data, props, dict_log2)
    return Coded(bytes((Coder.LZMA, props)) + varint.encode(len(payload)), payload)


def _trim(payload: bytes, data: bytes, props: int, dict_log2: int) -> bytes:
    """Return `payload` without the trailing bytes that a decoder, which feeds zeros after it, does not need."""
    if len(data) > _MEDIUM_BYTES:
        return payload
    low, high = max(0, len(payload) - _TAIL_BYTES), len(payload)
    while low < high:
        middle = (low + high) // 2
        if _decodes(payload[:middle], data, props, dict_log2):
            high = middle
        else:
            low = middle + 1
    return payload[:high]


def _decodes(payload: bytes, data: bytes, props: int, dict_log2: int) -> bool:
    reader = LzmaReader(props, dict_log2)
    reader.feed(payload, last=True)
    try:
        return reader.read_exactly(len(data)) == data
    except PatchFormatError:
        return False


def _entropy_bits(data: bytes) -> float:
    """Return the order-0 entropy of `data` in bits per byte."""
    counts = Counter(data).values()
    return -sum(c / len(data) * math.log2(c / len(data)) for c in counts)
