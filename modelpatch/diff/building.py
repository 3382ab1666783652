"""Owns turning pieces into the frames of a patch body: operations coalesced, streams coded.

Refuses frames above `FRAME_BYTES`, so that every decoder's memory stays bounded. Needs numpy (diff only).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

from modelpatch.diff.encoding import Coded, Encoder, dict_log2_for, lzma_payload
from modelpatch.diff.inputs import DiffInput, DiffSettings
from modelpatch.diff.lane_choice import OWN_LANE_BYTES, LaneChooser, code_piece
from modelpatch.diff.pieces import Piece
from modelpatch.diff.transforms import planes
from modelpatch.format import varint
from modelpatch.format.coders import Coder
from modelpatch.format.frames import FrameType, OpKind, memory_for_frame, read_stream_info
from modelpatch.format.header import DecoderFeatures
from modelpatch.format.lane import MAX_CHANNELS, Lane, Transform
from modelpatch.format.reading import PatchReader

# Raw bytes of a frame: a decoder of such a frame needs 18 MiB, and restarting the coders costs under 0.1 %.
FRAME_BYTES = 1 << 20
_TABLE_BYTES = 200 << 10
_LANES = 60
_ONE_OPERATION_BYTES = 32
_TRANSFORM_FEATURES = {
    Transform.GRID: DecoderFeatures.GRID,
    Transform.GRID_NEW: DecoderFeatures.GRID,
    Transform.ORDER_SORTED: DecoderFeatures.SORTED,
    Transform.RESCALE: DecoderFeatures.RESCALE,
}
_CODER_FEATURES = {
    Coder.LZMA: DecoderFeatures.LZMA,
    Coder.ZSTD: DecoderFeatures.ZSTD,
    Coder.NIBBLE: DecoderFeatures.NIBBLE,
    Coder.DEFLATE: DecoderFeatures.DEFLATE,
    Coder.CRUMB: DecoderFeatures.CRUMB,
}

LaneKey = tuple[Lane, int]  # the lane, and the group of pieces that it is for


@dataclass(frozen=True, slots=True)
class Body:
    """A coded body and what a decoder needs for it."""

    data: bytes
    memory_bytes: int
    features: DecoderFeatures


@dataclass(slots=True)
class _Frame:
    """A frame as it grows."""

    table: bytearray = field(default_factory=bytearray)
    literals: bytearray = field(default_factory=bytearray)
    lanes: dict[LaneKey, list[bytearray]] = field(default_factory=dict)
    cursor: int = 0

    def raw_bytes(self) -> int:
        coded = sum(len(p) for lane in self.lanes.values() for p in lane)
        return len(self.table) + len(self.literals) + coded


def build_body(given: DiffInput, pieces: list[Piece]) -> Body:
    """Return the body that makes the target of `given` as `pieces`, in target order, say."""
    return BodyBuilder(given, LaneChooser(given, pieces).lane_for).build(pieces)


class BodyBuilder:
    """Builds one body from pieces in target order, each in the lane that `lane_for` tells; None is for literals."""

    def __init__(self, given: DiffInput, lane_for: Callable[[Piece], Lane | None]) -> None:
        self._given, self._lane_for = given, lane_for
        self._frame, self._raw = _Frame(), 0
        self._out: list[bytes] = []
        self._memory, self._used = 0, DecoderFeatures.NONE

    def build(self, pieces: list[Piece]) -> Body:
        """Return the body that makes the target as `pieces` say."""
        for piece in pieces:
            if piece.copy:
                self._add_op(OpKind.COPY, piece.length, piece.base)
                continue
            lane = self._lane_for(piece)
            for part in _parts(piece, lane.width if lane else 1):
                self._add_part(part, lane)
        self._close_frame()
        return Body(b"".join(self._out), self._memory, self._used)

    def _add_part(self, part: Piece, lane: Lane | None) -> None:
        if lane is None:
            self._add_op(OpKind.LITERAL, part.length, None)
            self._frame.literals += self._given.new.data[part.target : part.target + part.length]
            return
        coded = code_piece(self._given, part, lane)
        assert coded is not None, "a lane was chosen that cannot code the piece"
        key = (lane, part.group if part.length >= OWN_LANE_BYTES else -1)
        self._add_op(OpKind.DELTA, part.length, part.base, key)
        for plane, more in zip(self._frame.lanes[key], planes(coded), strict=True):
            plane += more

    def _add_op(self, kind: OpKind, length: int, base: int | None, key: LaneKey | None = None) -> None:
        if kind is not OpKind.COPY:
            self._make_room(length, key)
        elif len(self._frame.table) > _TABLE_BYTES:
            self._close_frame()
        frame = self._frame
        if key is not None and key not in frame.lanes:
            frame.lanes[key] = [bytearray() for _ in range(key[0].width)]
        shift = 0 if base is None else base - frame.cursor
        seek = varint.encode(varint.zigzag(shift)) if shift else b""
        code_kind = OpKind.COPY_SEEK if kind is OpKind.COPY and shift else kind
        frame.table += varint.encode(length << 2 | code_kind)
        if key is not None:
            frame.table += varint.encode(list(frame.lanes).index(key) << 1 | bool(shift))
        frame.table += seek
        frame.cursor += shift + length

    def _make_room(self, length: int, key: LaneKey | None) -> None:
        table = len(self._frame.table)
        full = self._raw + table + length + _ONE_OPERATION_BYTES > FRAME_BYTES or table > _TABLE_BYTES
        lanes = self._frame.lanes
        if key is not None and key not in lanes:
            channels = [len(lane.scales.ratios) for lane, _ in (*lanes, key) if lane.scales]
            full |= len(lanes) >= _LANES or sum(channels) > MAX_CHANNELS
        if full:
            self._close_frame()
        self._raw += length

    def _close_frame(self) -> None:
        frame, self._frame, self._raw = self._frame, _Frame(), 0
        if not frame.table:
            return
        raw = frame.raw_bytes()
        log2 = dict_log2_for(raw)
        streams = [bytes(frame.table), bytes(frame.literals)]
        streams += [bytes(p) for lane in frame.lanes.values() for p in lane]
        coded = Encoder(log2, self._given.settings).streams(streams)
        head = [bytes((FrameType.OPS | log2 << 3,)), varint.encode(len(frame.table)), varint.encode(len(frame.lanes))]
        head += [lane.encode() for lane, _ in frame.lanes]
        self._out += head + [c.info for c in coded] + [c.payload for c in coded]
        self._memory = max(self._memory, memory_for_frame(raw, log2))
        for lane, _ in frame.lanes:
            self._used |= _TRANSFORM_FEATURES.get(lane.transform, DecoderFeatures.NONE)
        for one in coded:
            for coder in _coders(one):
                self._used |= _CODER_FEATURES.get(coder, DecoderFeatures.NONE)


def solid_body(data: bytes, props_to_try: list[int], settings: DiffSettings) -> Body:
    """Return the body of a whole-file patch: one solid frame, stored or LZMA, whichever is smaller."""
    if not data:
        return Body(b"", memory_for_frame(0, 0), DecoderFeatures.NONE)
    stored = (Coded(b"\0", data), 0)
    options = [stored]
    if settings.has(DecoderFeatures.LZMA):
        # 8 MiB is what `xz -6` uses: larger gains little on models and costs every device that memory.
        log2 = min(23, dict_log2_for(len(data)))
        options += [(lzma_payload(data, props, log2, thorough=not settings.fast), log2) for props in props_to_try]
    coded, log2 = min(options, key=lambda pair: len(pair[0]))
    head = bytes((FrameType.SOLID | log2 << 3,)) + coded.info + varint.encode(len(data))
    used = DecoderFeatures.LZMA if log2 else DecoderFeatures.NONE
    return Body(head + coded.payload, memory_for_frame(0, log2), used)


def _coders(coded: Coded) -> list[Coder]:
    """Return the coders of a stream, those of packed nibbles' two streams included."""
    reader = PatchReader(io.BytesIO(coded.info))
    info = read_stream_info(reader)
    return [info.coder, *(part.coder for part in info.parts)]


def _parts(piece: Piece, width: int) -> list[Piece]:
    """Return `piece` cut to what fits a frame beside its table."""
    step = (FRAME_BYTES // 2) // width * width
    return [piece.part(at, min(step, piece.length - at), copy=False) for at in range(0, piece.length, step)]
