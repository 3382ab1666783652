"""Owns the frames that a file patch's body is made of: reading them, their operations, lanes and memory bound.

Refuses frames above the limits, operations of no length, lanes and coders that this decoder does not know.
Layout: docs/patch-format.md, "Body". Nothing is allocated by a number of the patch before it met a limit.
"""

import enum
from collections.abc import Iterator
from typing import NamedTuple

from modelpatch.errors import PatchFormatError, UnsupportedPatchError
from modelpatch.format import varint
from modelpatch.format.coders import (
    MAX_DICT_LOG2,
    PACKED_BITS,
    Coder,
    StreamReader,
    open_payload,
    put_escapes,
    unpack,
)
from modelpatch.format.engine import Engine
from modelpatch.format.lane import Lane, read_lanes
from modelpatch.format.reading import PatchReader, limited

MAX_TABLE_BYTES = 256 << 10
MAX_RAW_BYTES = 4 << 20
# A stored byte stays one; LZMA's worst case grows by less than this on a frame of the largest size.
MAX_PAYLOAD_BYTES = MAX_RAW_BYTES + (64 << 10)
# One decoder in plain Python holds at most this many bytes for a byte of frame (a sort of float32 elements).
MEMORY_PER_RAW_BYTE = 16
MEMORY_FIXED = 1 << 20


class FrameType(enum.IntEnum):
    """Frame types, in the low three bits of a frame's first byte."""

    OPS = 0  # operations over streams
    SOLID = 1  # one long coded run of target bytes


class OpKind(enum.IntEnum):
    """Operation kinds. `COPY_SEEK` exists in the table only."""

    COPY = 0
    COPY_SEEK = 1
    LITERAL = 2
    DELTA = 3


class Op(NamedTuple):
    """One operation: makes the next `length` bytes of the target; `base` is where it reads, `lane` which lane."""

    kind: OpKind
    length: int
    base: int = 0
    lane: int = 0


class StreamInfo(NamedTuple):
    """How one stream of a frame is coded. `value` is LZMA's properties byte or the fill byte.

    `parts` are the two streams of packed values: the bytes that hold them, and the escapes.
    """

    coder: Coder
    value: int = 0
    coded_length: int = 0
    parts: tuple["StreamInfo", ...] = ()


class OpsFrame(NamedTuple):
    """A decoded frame: its table, the literals, and per lane the byte planes, all of them raw bytes."""

    table: bytes
    lanes: list[Lane]
    literals: bytes
    planes: list[list[bytes]]
    streams: list[StreamInfo]
    dict_log2: int

    def ops(self) -> Iterator[Op]:
        """Return the operations in target order."""
        return read_ops(self.table)


def memory_for_frame(raw_bytes: int, dict_log2: int) -> int:
    """Return the bytes that a decoder of a frame may need, of which the header declares the largest."""
    return MEMORY_PER_RAW_BYTE * raw_bytes + (1 << dict_log2) + MEMORY_FIXED


def read_ops(table: bytes) -> Iterator[Op]:
    """Return the operations of `table` one by one.

    The base cursor starts at 0 in every frame and moves by the length of every operation, literals included,
    because a literal mostly replaces as many bytes. A seek adds a signed number to it before the operation.

    Raises:
        PatchFormatError: the table is damaged.
    """
    at = cursor = 0
    while at < len(table):
        value, at = varint.decode(table, at)
        kind, length, lane = OpKind(value & 3), value >> 2, 0
        seek = kind is OpKind.COPY_SEEK
        if kind is OpKind.DELTA:
            value, at = varint.decode(table, at)
            lane, seek = value >> 1, bool(value & 1)
        if seek:
            value, at = varint.decode(table, at)
            cursor += varint.unzigzag(value)
        if not length or cursor < 0:
            raise PatchFormatError("an operation is empty or reads before the base")
        yield Op(OpKind.COPY if kind is OpKind.COPY_SEEK else kind, length, cursor, lane)
        cursor += length


def read_frame_type(reader: PatchReader) -> tuple[FrameType, int]:
    """Return the type of the frame at `reader` and the log2 of its LZMA dictionary in bytes."""
    first = reader.byte()
    if first & 7 not in (FrameType.OPS, FrameType.SOLID):
        raise UnsupportedPatchError(f"the patch has a frame of unknown type {first & 7}")
    if first >> 3 > MAX_DICT_LOG2:
        raise PatchFormatError("a frame asks for a dictionary that is too large")
    return FrameType(first & 7), first >> 3


def read_stream_info(reader: PatchReader) -> StreamInfo:
    """Return the description of a stream."""
    coder = _read_coder(reader)
    if coder in PACKED_BITS:
        return StreamInfo(coder, parts=(_read_part(reader), _read_part(reader)))
    return _read_parameters(reader, coder)


def _read_part(reader: PatchReader) -> StreamInfo:
    coder = _read_coder(reader)
    if coder in PACKED_BITS or coder is Coder.JOIN:
        raise PatchFormatError("packed values hold a coder that they cannot")
    return _read_parameters(reader, coder)


def _read_coder(reader: PatchReader) -> Coder:
    value = reader.byte()
    if value not in Coder.__members__.values():
        raise UnsupportedPatchError(f"the patch uses an unknown coder ({value})")
    return Coder(value)


def _read_parameters(reader: PatchReader, coder: Coder) -> StreamInfo:
    if coder is Coder.FILL:
        return StreamInfo(coder, reader.byte())
    if coder is Coder.LZMA:
        return StreamInfo(coder, reader.byte(), reader.varint())
    if coder in (Coder.DEFLATE, Coder.ZSTD):
        return StreamInfo(coder, 0, reader.varint())
    return StreamInfo(coder)


def read_ops_frame(reader: PatchReader, dict_log2: int, memory_bytes: int, engine: Engine) -> OpsFrame:
    """Return the rest of an ops frame whose first byte has been read.

    Raises:
        PatchFormatError: the frame is damaged, above a limit, or above the memory that the header declares.
        UnsupportedPatchError: it uses a transform or coder that this decoder does not know.
    """
    table_length = limited(reader.varint(), MAX_TABLE_BYTES, "operation table")
    if not table_length:
        raise PatchFormatError("a frame has no operations")
    lanes = read_lanes(reader)
    infos = [read_stream_info(reader) for _ in range(2 + sum(lane.width for lane in lanes))]
    streams = _Streams(reader, infos, dict_log2, engine)
    _check_memory(table_length, dict_log2, memory_bytes)
    table = streams.next(table_length)
    literal_length, elements = _stream_lengths(table, lanes)
    raw = table_length + literal_length + sum(n * lane.width for n, lane in zip(elements, lanes, strict=True))
    _check_memory(raw, dict_log2, memory_bytes)
    literals = streams.next(literal_length)
    planes = [[streams.next(n) for _ in range(lane.width)] for n, lane in zip(elements, lanes, strict=True)]
    return OpsFrame(table, lanes, literals, planes, infos, dict_log2)


def _check_memory(raw: int, dict_log2: int, memory_bytes: int) -> None:
    if raw > MAX_RAW_BYTES:
        raise PatchFormatError(f"a frame is too large ({raw} bytes)")
    if memory_for_frame(raw, dict_log2) > memory_bytes:
        raise PatchFormatError("a frame needs more memory than the header declares")


def _stream_lengths(table: bytes, lanes: list[Lane]) -> tuple[int, list[int]]:
    """Return the bytes of literals and, per lane, the number of elements, as the operations sum up to."""
    literals, elements = 0, [0] * len(lanes)
    for op in read_ops(table):
        if op.kind is OpKind.LITERAL:
            literals += op.length
        elif op.kind is OpKind.DELTA:
            if op.lane >= len(lanes) or op.length % lanes[op.lane].width or not _in_step(op, lanes[op.lane]):
                raise PatchFormatError("an operation names a lane that it cannot use")
            elements[op.lane] += op.length // lanes[op.lane].width
    return literals, elements


def _in_step(op: Op, lane: Lane) -> bool:
    scales = lane.scales
    return scales is None or (op.base >= scales.start and (op.base - scales.start) % lane.width == 0)


class _Streams:
    """Hands out the raw bytes of a frame's streams in order."""

    def __init__(self, reader: PatchReader, infos: list[StreamInfo], dict_log2: int, engine: Engine) -> None:
        self._reader, self._infos, self._dict_log2, self._engine = reader, iter(infos), dict_log2, engine
        self._last: StreamReader | None = None

    def next(self, length: int) -> bytes:
        """Return the next stream, which has `length` raw bytes; the caller has checked that against the limits."""
        info = next(self._infos)
        if info.coder in PACKED_BITS:
            return self._packed(info, length)
        if info.coder in (Coder.STORED, Coder.FILL):
            return self._plain(info, length)
        if info.coder is not Coder.JOIN:
            self._last = self._open(info)
        if self._last is None:
            raise PatchFormatError("a stream joins nothing")
        return self._last.read_exactly(length)

    def _packed(self, info: StreamInfo, length: int) -> bytes:
        packed, escapes = info.parts
        bits = PACKED_BITS[info.coder]
        values = unpack(self._alone(packed, (length * bits + 7) // 8), length, bits)
        escape = (1 << bits) - 1
        return put_escapes(values, self._alone(escapes, values.count(escape)), escape)

    def _alone(self, info: StreamInfo, length: int) -> bytes:
        if info.coder in (Coder.STORED, Coder.FILL):
            return self._plain(info, length)
        return self._open(info).read_exactly(length)

    def _plain(self, info: StreamInfo, length: int) -> bytes:
        return self._reader.read(length) if info.coder is Coder.STORED else bytes((info.value,)) * length

    def _open(self, info: StreamInfo) -> StreamReader:
        size = limited(info.coded_length, MAX_PAYLOAD_BYTES, "coded stream")
        payload = self._reader.read(size)
        if info.coder is Coder.ZSTD:
            return self._engine.open_zstd(payload, self._dict_log2)
        return open_payload(info.coder, payload, info.value, self._dict_log2)
