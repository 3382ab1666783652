"""Owns telling what the frames of a file patch hold: operations, transforms, coders, and what each of them costs.

Refuses damaged frames as apply does. A stream is shared by many operations, and a payload by joined streams: its
coded bytes are split in proportion to the bytes that are not zero, which are those that cost.
"""

from dataclasses import dataclass, field

from modelpatch.errors import PatchFormatError
from modelpatch.format.coders import PACKED_BITS, Coder
from modelpatch.format.engine import Engine
from modelpatch.format.frames import (
    FrameType,
    Op,
    OpKind,
    OpsFrame,
    StreamInfo,
    read_frame_type,
    read_ops_frame,
    read_stream_info,
)
from modelpatch.format.reading import PatchReader

_SKIP_BYTES = 64 << 10
_ZEROS_FOR_A_BYTE = 64


@dataclass(frozen=True, slots=True)
class OpReport:
    """One operation; offsets and lengths in bytes.

    `patch_bytes` is its share of the coded bytes of literals and deltas. Of a literal, `base_offset` is the place
    that it stands for. `changed_share` is the share of coded elements that are not zero.
    """

    op: str
    target_offset: int
    length: int
    base_offset: int | None = None
    transform: str | None = None
    width: int | None = None
    grid: int | None = None
    changed_share: float | None = None
    patch_bytes: float = 0.0
    coders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame: its operations, its bytes in the patch, and the coder of each of its streams."""

    type: str
    coded_bytes: int
    coders: list[str]
    ops: list[OpReport] = field(default_factory=list)


def read_frame(reader: PatchReader, memory_bytes: int, at: int, engine: Engine) -> FrameReport:
    """Return what the frame at `reader` does, which makes the target bytes from `at` on in at most `memory_bytes`.

    Raises:
        PatchFormatError, UnsupportedPatchError: as `apply_stream`.
    """
    start = reader.consumed
    frame_type, dict_log2 = read_frame_type(reader)
    if frame_type is FrameType.SOLID:
        return _read_solid(reader, start, at)
    frame = read_ops_frame(reader, dict_log2, memory_bytes, engine)
    ops = _Ops(frame).reports(at)
    return FrameReport("ops", reader.consumed - start, [coder_name(info) for info in frame.streams], ops)


def coder_name(info: StreamInfo) -> str:
    """Return the name of a stream's coder, with those of its parts in parentheses."""
    name = info.coder.name.lower()
    parts = getattr(info, "parts", ())
    return f"{name}({','.join(coder_name(part) for part in parts)})" if parts else name


def _read_solid(reader: PatchReader, start: int, at: int) -> FrameReport:
    info, length = read_stream_info(reader), reader.varint()
    coded = length if info.coder is Coder.STORED else info.coded_length
    if not length:
        raise PatchFormatError("a frame makes nothing")
    for left in range(coded, 0, -_SKIP_BYTES):
        reader.read(min(left, _SKIP_BYTES))
    name = coder_name(info)
    op = OpReport("literal", at, length, patch_bytes=coded, coders=(name,))
    return FrameReport("solid", reader.consumed - start, [name], [op])


class _Ops:
    """The operations of one frame, with the coded bytes of its streams shared out to them."""

    def __init__(self, frame: OpsFrame) -> None:
        self._frame = frame
        planes = [plane for lane in frame.planes for plane in lane]
        raw = [frame.table, frame.literals, *planes]
        costs, self._names = _stream_costs(frame.streams, raw)
        # Bytes of the patch for one unit of weight in each stream.
        self._rates = [cost / (_weight(data) or 1.0) for cost, data in zip(costs, raw, strict=True)]
        self._literal_at = 0
        self._element_at = [0] * len(frame.lanes)

    def reports(self, at: int) -> list[OpReport]:
        out = []
        for op in self._frame.ops():
            if op.kind is OpKind.COPY:
                out.append(OpReport("copy", at, op.length, op.base))
            else:
                out.append(self._literal(op, at) if op.kind is OpKind.LITERAL else self._delta(op, at))
            at += op.length
        return out

    def _literal(self, op: Op, at: int) -> OpReport:
        data = self._frame.literals[self._literal_at : self._literal_at + op.length]
        self._literal_at += op.length
        cost = self._rates[1] * _weight(data)
        return OpReport("literal", at, op.length, op.base, patch_bytes=cost, coders=(self._names[1],))

    def _delta(self, op: Op, at: int) -> OpReport:
        lane, first = self._frame.lanes[op.lane], self._element_at[op.lane]
        end = self._element_at[op.lane] = first + op.length // lane.width
        planes = [plane[first:end] for plane in self._frame.planes[op.lane]]
        stream = 2 + sum(other.width for other in self._frame.lanes[: op.lane])
        costs = [self._rates[stream + i] * _weight(plane) for i, plane in enumerate(planes)]
        return OpReport(
            "delta",
            at,
            op.length,
            op.base,
            transform=lane.transform.name.lower(),
            width=lane.width,
            grid=lane.grid,
            changed_share=_share_not_zero(planes),
            patch_bytes=sum(costs),
            coders=tuple(self._names[stream : stream + lane.width]),
        )


def _stream_costs(infos: list[StreamInfo], raw: list[bytes]) -> tuple[list[float], list[str]]:
    """Return the coded bytes of each stream, and the name of the coder whose payload holds it."""
    costs, names, payload = [0.0] * len(infos), [""] * len(infos), -1
    groups: dict[int, list[int]] = {}
    for i, info in enumerate(infos):
        if info.coder is Coder.JOIN:
            groups[payload].append(i)
            names[i] = names[payload]
            continue
        costs[i], names[i] = _coded_length(info, raw[i]), coder_name(info)
        if info.coder not in (Coder.STORED, Coder.FILL, *PACKED_BITS):
            payload = i
            groups[i] = [i]
    for first, members in groups.items():
        total, whole = costs[first], sum(_weight(raw[i]) for i in members)
        for i in members:
            costs[i] = total * _weight(raw[i]) / (whole or 1.0)
    return costs, names


def _coded_length(info: StreamInfo, raw: bytes) -> float:
    if info.coder is Coder.STORED:
        return len(raw)
    if info.coder in PACKED_BITS:
        packed, escapes = info.parts
        bits = PACKED_BITS[info.coder]
        escaped = len(raw) - sum(map(raw.count, range((1 << bits) - 1)))
        return _stored_or_coded(packed, (len(raw) * bits + 7) // 8) + _stored_or_coded(escapes, escaped)
    return info.coded_length


def _stored_or_coded(info: StreamInfo, raw_length: int) -> int:
    return raw_length if info.coder is Coder.STORED else info.coded_length


def _weight(data: bytes) -> float:
    """Return how much of a stream's cost is due to `data`: its bytes that are not zero, and a little of the others.

    The weights of the parts of a stream add up to that of the stream.
    """
    return len(data) - data.count(0) + len(data) / _ZEROS_FOR_A_BYTE


def _share_not_zero(planes: list[bytes]) -> float:
    joined = 0
    for plane in planes:
        joined |= int.from_bytes(plane, "little")
    count = len(planes[0])
    return round(1 - joined.to_bytes(count, "little").count(0) / count, 4)
