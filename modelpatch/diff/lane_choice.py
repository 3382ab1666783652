"""Owns the choice of lanes: how the elements of each piece are coded smallest, with others of its kind.

Refuses to write frames: `building.py` does. Needs numpy (diff only).
"""

import numpy as np

from modelpatch.diff.encoding import Encoder, dict_log2_for
from modelpatch.diff.inputs import DiffInput
from modelpatch.diff.pieces import Piece, elements
from modelpatch.diff.transforms import Elements, Source, code, planes, ranked, whole_scales
from modelpatch.format.lane import WITH_GRID, Lane, Transform
from modelpatch.installed.engine import find_arithmetic

# Runs below this share one decision, and one lane, with others of their kind.
OWN_LANE_BYTES = 16 << 10
# New bytes of unknown type below this are literals; byte planes would not pay.
_LEAST_NEW_TENSOR = 256
# New bytes of unknown type are tried as text and as float32; deltas of unknown type are bytes.
_UNKNOWN_NEW = [(1, False), (4, True)]

# Up to this many bytes lanes are compared by what the coders make of them, above by estimates, which are sure then.
_SURE_BYTES = 64 << 10


class LaneChooser:
    """Decides once for a tensor, and once for all the small runs of a kind together."""

    def __init__(self, given: DiffInput, pieces: list[Piece]) -> None:
        self._given = given
        self._pools: dict[tuple[object, ...], list[Piece]] = {}
        self._chosen: dict[tuple[object, ...], Lane | None] = {}
        for piece in pieces:
            if not piece.copy:
                self._pools.setdefault(self._kind(piece), []).append(piece)

    def lane_for(self, piece: Piece) -> Lane | None:
        """Return the lane for `piece`; None makes it a literal."""
        kind = self._kind(piece)
        if kind not in self._chosen:
            self._chosen[kind] = self._choose(self._pools[kind])
        return self._chosen[kind]

    def _kind(self, piece: Piece) -> tuple[object, ...]:
        if piece.base is None and piece.length < _LEAST_NEW_TENSOR:
            return ("literal", 0)
        small = piece.length < OWN_LANE_BYTES and piece.group < 0
        alone = piece.base is None and not piece.width  # of unknown type: nothing says that two are alike
        group = piece.group if piece.group >= 0 else (piece.target if alone else -1)
        return (piece.base is None, piece.width, piece.is_float, -1 if small and not alone else group)

    def _choose(self, pieces: list[Piece]) -> Lane | None:
        """Return the lane in which `pieces`, of one kind, are smallest together; None for literals."""
        first = pieces[0]
        kinds = [(first.width or 1, first.is_float)]
        if first.base is None and not first.width:
            kinds = _UNKNOWN_NEW if first.length >= _LEAST_NEW_TENSOR else []
        kinds = [(w, f) for w, f in kinds if not any(p.length % w for p in pieces)]
        found: list[tuple[float, Lane]] = []
        for width, is_float in kinds:
            source = _merge([source_of(self._given, p, width, is_float) for p in pieces])
            found += ranked(source, self._given.settings.features)
        best = self._refine(pieces, sorted(found, key=lambda pair: pair[0]))
        return None if best is None or best == Lane(Transform.RAW, 1) else best

    def _refine(self, pieces: list[Piece], found: list[tuple[float, Lane]]) -> Lane | None:
        """Return the best of the lanes whose estimates are close, by really coding them where that is cheap."""
        if not found:
            return None
        close = [lane for cost, lane in found if cost <= found[0][0] * 1.05 + 48][:4]
        if self._given.settings.fast or len(close) == 1 or sum(piece.length for piece in pieces) > _SURE_BYTES:
            return close[0]
        return min(close, key=lambda lane: self._really(pieces, lane))

    def _really(self, pieces: list[Piece], lane: Lane) -> int:
        total: list[bytearray] = [bytearray() for _ in range(lane.width)]
        for piece in pieces:
            coded = code_piece(self._given, piece, lane)
            if coded is None:
                return 1 << 62
            for plane, more in zip(total, planes(coded), strict=True):
                plane += more
        encoder = Encoder(dict_log2_for(_SURE_BYTES), self._given.settings)
        return sum(len(encoder.stream(bytes(plane))) for plane in total)


def code_piece(given: DiffInput, piece: Piece, lane: Lane) -> Elements | None:
    """Return the coded elements of `piece` in `lane`, None if the lane cannot give the exact bytes back."""
    is_float = lane.transform in (Transform.ORDER, Transform.ORDER_SORTED, *WITH_GRID)
    return code(source_of(given, piece, lane.width, is_float), lane)


def source_of(given: DiffInput, piece: Piece, width: int, is_float: bool) -> Source:
    """Return the elements of `piece` and of its counterpart."""
    old = None if piece.base is None else elements(given.old.array, piece.base, piece.length, width)
    new = elements(given.new.array, piece.target, piece.length, width)
    scales = None if piece.scales is None or width != piece.width else whole_scales(piece.scales, width)
    if scales is None or old is None or piece.base is None:
        return Source(new, old, is_float)
    first = (piece.base - scales.start) // width
    predicted = find_arithmetic().predict(old.tobytes(), width, scales, first)
    return Source(new, old, is_float, np.frombuffer(predicted, new.dtype), scales)


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
