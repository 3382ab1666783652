"""Owns turning pieces into the frames of a patch body: lanes chosen, operations coalesced, streams coded.

Refuses frames above `FRAME_BYTES`, so that every decoder's memory stays bounded. Needs numpy (diff only).
"""

import io
from dataclasses import dataclass, field

import numpy as np

from modelpatch.diff.encoding import Coded, Encoder, dict_log2_for, lzma_payload
from modelpatch.diff.pieces import Bytes, Piece, elements
from modelpatch.diff.transforms import Source, code, planes, ranked, whole_scales
from modelpatch.format import varint
from modelpatch.format.coders import Coder
from modelpatch.format.frames import MAX_CHANNELS, FrameType, Lane, OpKind, memory_for_frame, read_stream_info
from modelpatch.format.header import DecoderFeatures
from modelpatch.format.reading import PatchReader
from modelpatch.format.transforms import WITH_GRID, Transform, predict

# Raw bytes of a frame: a decoder of such a frame needs 18 MiB, and restarting the coders costs under 0.1 %.
FRAME_BYTES = 1 << 20
_TABLE_BYTES = 200 << 10
_LANES = 60
_ONE_OPERATION_BYTES = 32
# Runs below this share one decision, and one lane, with others of their kind.
_OWN_LANE_BYTES = 16 << 10
# New bytes of unknown type below this are literals; byte planes would not pay.
_LEAST_NEW_TENSOR = 256
# New bytes of unknown type are tried as text and as float32; deltas of unknown type are bytes.
_UNKNOWN_NEW = [(1, False), (4, True)]

# Up to this many bytes lanes are compared by what the coders make of them, above by estimates, which are sure then.
_SURE_BYTES = 64 << 10
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


class BodyBuilder:
    """Builds one body from pieces in target order."""

    def __init__(self, old: Bytes, new: Bytes, effort: str, features: DecoderFeatures) -> None:
        self._old, self._new, self._effort, self._features = old, new, effort, features
        self._frame, self._raw = _Frame(), 0
        self._out: list[bytes] = []
        self._memory, self._used = 0, DecoderFeatures.NONE

    def build(self, pieces: list[Piece]) -> Body:
        """Return the body that makes the target as `pieces` say."""
        chooser = _LaneChooser(self, pieces)
        for piece in pieces:
            if piece.copy:
                self._add_op(OpKind.COPY, piece.length, piece.base)
                continue
            lane = chooser.lane_for(piece)
            for part in _parts(piece, lane.width if lane else 1):
                self._add_part(part, lane)
        self._close_frame()
        return Body(b"".join(self._out), self._memory, self._used)

    def source(self, piece: Piece, width: int, is_float: bool) -> Source:
        """Return the elements of `piece` and of its counterpart."""
        old = None if piece.base is None else elements(self._old, piece.base, piece.length, width)
        new = elements(self._new, piece.target, piece.length, width)
        scales = None if piece.scales is None or width != piece.width else whole_scales(piece.scales, width)
        if scales is None or old is None or piece.base is None:
            return Source(new, old, is_float)
        predicted = np.frombuffer(predict(old.tobytes(), width, scales, piece.base), new.dtype)
        return Source(new, old, is_float, predicted, scales)

    def choose(self, pieces: list[Piece]) -> Lane | None:
        """Return the lane in which `pieces`, of one kind, are smallest together; None for literals."""
        first = pieces[0]
        kinds = [(first.width or 1, first.is_float)]
        if first.base is None and not first.width:
            kinds = _UNKNOWN_NEW if first.length >= _LEAST_NEW_TENSOR else []
        kinds = [(w, f) for w, f in kinds if not any(p.length % w for p in pieces)]
        found: list[tuple[float, Lane]] = []
        for width, is_float in kinds:
            found += ranked(_merge([self.source(p, width, is_float) for p in pieces]), self._features)
        best = self._refine(pieces, sorted(found, key=lambda pair: pair[0]))
        return None if best is None or best == Lane(Transform.RAW, 1) else best

    def _refine(self, pieces: list[Piece], found: list[tuple[float, Lane]]) -> Lane | None:
        """Return the best of the lanes whose estimates are close, by really coding them where that is cheap."""
        if not found:
            return None
        close = [lane for cost, lane in found if cost <= found[0][0] * 1.05 + 48][:4]
        if self._effort == "fast" or len(close) == 1 or sum(piece.length for piece in pieces) > _SURE_BYTES:
            return close[0]
        return min(close, key=lambda lane: self._really(pieces, lane))

    def _really(self, pieces: list[Piece], lane: Lane) -> int:
        is_float = lane.transform in (Transform.ORDER, Transform.ORDER_SORTED, *WITH_GRID)
        total: list[bytearray] = [bytearray() for _ in range(lane.width)]
        for piece in pieces:
            coded = code(self.source(piece, lane.width, is_float), lane)
            if coded is None:
                return 1 << 62
            for plane, more in zip(total, planes(coded), strict=True):
                plane += more
        encoder = Encoder(dict_log2_for(_SURE_BYTES), self._effort, self._features)
        return sum(len(encoder.stream(bytes(plane))) for plane in total)

    def _add_part(self, part: Piece, lane: Lane | None) -> None:
        if lane is None:
            self._add_op(OpKind.LITERAL, part.length, None)
            run = self._new[part.target : part.target + part.length].tobytes()
            self._frame.literals += run
            return
        is_float = lane.transform in (Transform.ORDER, Transform.ORDER_SORTED, *WITH_GRID)
        coded = code(self.source(part, lane.width, is_float), lane)
        assert coded is not None, "a lane was chosen that cannot code the piece"
        key = (lane, part.group if part.length >= _OWN_LANE_BYTES else -1)
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
        coded = Encoder(log2, self._effort, self._features).streams(streams)
        head = [bytes((FrameType.OPS | log2 << 3,)), varint.encode(len(frame.table)), varint.encode(len(frame.lanes))]
        head += [lane.encode() for lane, _ in frame.lanes]
        self._out += head + [c.info for c in coded] + [c.payload for c in coded]
        self._memory = max(self._memory, memory_for_frame(raw, log2))
        for lane, _ in frame.lanes:
            self._used |= _TRANSFORM_FEATURES.get(lane.transform, DecoderFeatures.NONE)
        for one in coded:
            for coder in _coders(one):
                self._used |= _CODER_FEATURES.get(coder, DecoderFeatures.NONE)


class _LaneChooser:
    """Decides once for a tensor, and once for all the small runs of a kind together."""

    def __init__(self, builder: BodyBuilder, pieces: list[Piece]) -> None:
        self._builder = builder
        self._pools: dict[tuple[object, ...], list[Piece]] = {}
        self._chosen: dict[tuple[object, ...], Lane | None] = {}
        for piece in pieces:
            if not piece.copy:
                self._pools.setdefault(self._kind(piece), []).append(piece)

    def lane_for(self, piece: Piece) -> Lane | None:
        """Return the lane for `piece`; None makes it a literal."""
        kind = self._kind(piece)
        if kind not in self._chosen:
            self._chosen[kind] = self._builder.choose(self._pools[kind])
        return self._chosen[kind]

    def _kind(self, piece: Piece) -> tuple[object, ...]:
        if piece.base is None and piece.length < _LEAST_NEW_TENSOR:
            return ("literal", 0)
        small = piece.length < _OWN_LANE_BYTES and piece.group < 0
        alone = piece.base is None and not piece.width  # of unknown type: nothing says that two are alike
        group = piece.group if piece.group >= 0 else (piece.target if alone else -1)
        return (piece.base is None, piece.width, piece.is_float, -1 if small and not alone else group)


def solid_body(data: bytes, props_to_try: list[int], features: DecoderFeatures, effort: str) -> Body:
    """Return the body of a whole-file patch: one solid frame, stored or LZMA, whichever is smaller."""
    if not data:
        return Body(b"", memory_for_frame(0, 0), DecoderFeatures.NONE)
    stored = (Coded(b"\0", data), 0)
    options = [stored]
    if DecoderFeatures.LZMA in features:
        # 8 MiB is what `xz -6` uses: larger gains little on models and costs every device that memory.
        log2 = min(23, dict_log2_for(len(data)))
        thorough = effort == "best"
        options += [(lzma_payload(data, props, log2, thorough=thorough), log2) for props in props_to_try]
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


def _merge(sources: list[Source]) -> Source:
    first = sources[0]
    if len(sources) == 1:
        return first
    olds = [s.old for s in sources if s.old is not None]
    old = np.concatenate(olds) if olds else None
    news = np.concatenate([s.new for s in sources])
    predicted = [s.predicted for s in sources if s.predicted is not None and s.scales == first.scales]
    if len(predicted) < len(sources):  # several tensors, or none that is quantised
        return Source(news, old, first.is_float)
    return Source(news, old, first.is_float, np.concatenate(predicted), first.scales)
