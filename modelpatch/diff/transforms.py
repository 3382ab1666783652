"""Owns the forward transforms, the choice between them, and the estimate of what each would cost.

Refuses a grid that does not give the exact bytes back. The inverses, which define the format, are in
`format/transforms.py`. Needs numpy (diff only).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpatch.diff.pieces import Rescale
from modelpatch.format.big_integers import exponent_keys
from modelpatch.format.header import DecoderFeatures
from modelpatch.format.lane import MAX_CHANNELS, MAX_GRID, MAX_RATIO, WITH_GRID, Lane, Scales, Transform

Elements = NDArray[Any]  # unsigned, little-endian, of one width
_SAMPLE = 1 << 18
_FEW = 1 << 10
_SORTED_FIRST = 0.999


@dataclass(frozen=True, slots=True)
class Source:
    """The elements of a run: `new` of the target, `old` of its counterpart (None for new bytes), if float.

    `predicted` is `old` by the change of its quantisation scales, where `scales` says how they changed.
    """

    new: Elements
    old: Elements | None
    is_float: bool
    predicted: Elements | None = None
    scales: Scales | None = None

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return int(self.new.dtype.itemsize)

    def head(self, count: int) -> "Source":
        """Return the first `count` elements."""
        first = slice(0, count)
        old, predicted = self.old, self.predicted
        return replace(
            self,
            new=self.new[first],
            old=None if old is None else old[first],
            predicted=None if predicted is None else predicted[first],
        )


def to_order(u: Elements) -> Elements:
    """Return float bits as integers in the order of the floats: ~u for negative ones, else u with its top bit."""
    top = u.dtype.type(1 << (8 * u.dtype.itemsize - 1))
    return np.where(u & top, ~u, u | top).astype(u.dtype)


def zigzag(d: Elements) -> Elements:
    """Return the zigzag coding of differences that are taken modulo the width."""
    kind = d.dtype.type
    sign = (d >> kind(8 * d.dtype.itemsize - 1)) * kind(np.iinfo(d.dtype).max)
    coded: Elements = (d << kind(1)) ^ sign
    return coded


def candidates(source: Source, features: DecoderFeatures) -> list[Lane]:
    """Return the lanes that may code `source`, with their grid exponents found."""
    width, lanes = source.width, [Lane(Transform.RAW, source.width)]
    grid = DecoderFeatures.GRID in features and source.is_float and width == 4
    step = grid_exponent(source.new) if grid else None
    if step is not None:
        lanes.append(Lane(Transform.GRID_NEW, 4, step))
    if source.old is None:
        return lanes
    lanes += [Lane(Transform.XOR, width), Lane(Transform.SUB, width)]
    if source.predicted is not None and DecoderFeatures.RESCALE in features:
        lanes.append(Lane(Transform.RESCALE, width, scales=source.scales))
    if source.is_float:
        lanes.append(Lane(Transform.ORDER, width))
        if DecoderFeatures.SORTED in features:
            lanes.append(Lane(Transform.ORDER_SORTED, width))
    if step is not None and (old_step := grid_exponent(source.old)) is not None:
        lanes.append(Lane(Transform.GRID, 4, max(step, old_step)))
    return lanes


def code(source: Source, lane: Lane) -> Elements | None:
    """Return the coded elements of `source` in `lane`, None if the lane cannot give the exact bytes back."""
    new, old = source.new, source.old
    if lane.transform is Transform.RAW:
        return new
    if lane.transform in (Transform.GRID, Transform.GRID_NEW):
        return _to_grid(new, old if lane.transform is Transform.GRID else None, lane.grid)
    assert old is not None
    if lane.transform is Transform.XOR:
        return new ^ old
    if lane.transform is Transform.SUB:
        return zigzag(new - old)
    if lane.transform is Transform.RESCALE:
        return None if source.predicted is None else zigzag(new - source.predicted)
    coded = zigzag(to_order(new) - to_order(old))
    if lane.transform is Transform.ORDER:
        return coded
    keys = np.frombuffer(exponent_keys(old.tobytes(), source.width), np.uint8)
    return coded[np.argsort(keys, kind="stable")]


def whole_scales(rescale: Rescale, width: int) -> Scales | None:
    """Return `rescale` in the integers of the format; None where a ratio is out of its range.

    The error stays under a quarter of a step for int8; each ratio costs one byte or two.
    """
    bits = {1: 10, 2: 16, 4: 24}[width]
    ratios = [ratio * 2**bits for ratio in rescale.ratios]
    if not all(0 <= ratio <= MAX_RATIO for ratio in ratios) or len(ratios) > MAX_CHANNELS:
        return None
    return Scales(rescale.start, rescale.block, bits, tuple(round(ratio) for ratio in ratios))


def planes(coded: Elements) -> list[bytes]:
    """Return the byte planes of `coded`, lowest byte first."""
    width = coded.dtype.itemsize
    matrix = coded.view(np.uint8).reshape(-1, width)
    return [matrix[:, i].tobytes() for i in range(width)]


def estimate(coded: Elements) -> float:
    """Return about how many bytes an order-0 coder makes of `coded`, with runs of one value nearly free."""
    total = 0.0
    for plane in planes(coded):
        counts = np.bincount(np.frombuffer(plane, np.uint8), minlength=256)
        share = counts[counts > 0] / max(1, len(plane))
        # A model of n distinct values has to be learnt: about half a byte for each.
        total += min(len(plane), -float((share * np.log2(share)).sum()) * len(plane) / 8 + len(share) / 2)
    return total


def ranked(source: Source, features: DecoderFeatures) -> list[tuple[float, Lane]]:
    """Return (estimated bytes, lane) of all lanes that work, best first; long runs are judged by a sample."""
    sample = source.head(_SAMPLE)
    scale = len(source.new) / max(1, len(sample.new))
    out = []
    for lane in candidates(source, features):
        coded = code(sample, lane)
        if coded is None or (scale > 1 and lane.transform in WITH_GRID and code(source, lane) is None):
            continue
        # The order-0 cost of a sorted plane is that of ORDER; it mostly wins, because the exponent tells the
        # size of the change, so it goes first.
        bonus = _SORTED_FIRST if lane.transform is Transform.ORDER_SORTED else 1.0
        out.append((estimate(coded) * scale * bonus + len(lane.encode()), lane))
    return sorted(out, key=lambda pair: pair[0])


def grid_exponent(bits: Elements) -> int | None:
    """Return the least k for which all float32 values are whole multiples of 2^-k below 2^24, or None."""
    if len(bits) > 2 * _FEW and grid_exponent(bits[:_FEW]) is None:
        return None
    if not np.isfinite(bits.view("<f4")).all():
        return None
    values = bits.view("<f4").astype(np.float64)
    used = values[values != 0]
    if not len(used):
        return 0
    mantissa, exponent = np.frexp(used)
    whole = np.abs(mantissa * 2.0**24).astype(np.int64)
    zeros = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    k = int((24 - exponent - zeros).max())
    if abs(k) > MAX_GRID or float(np.abs(used).max()) * 2.0**k >= 2**24:
        return None
    return k


def _to_grid(new: Elements, old: Elements | None, k: int) -> Elements | None:
    with np.errstate(all="ignore"):
        target = new.view("<f4").astype(np.float64)
        base = np.zeros_like(target) if old is None else old.view("<f4").astype(np.float64)
        steps = (target - base) * 2.0**k
        if not np.isfinite(steps).all() or np.abs(steps).max(initial=0) >= 2**31:
            return None
        q = np.round(steps).astype("<i4")
        made = (base + q * 2.0**-k).astype("<f4") if old is not None else (q * 2.0**-k).astype("<f4")
    return zigzag(q.view("<u4")) if made.tobytes() == new.tobytes() else None


# What the elements of a run of unknown bytes may be: (width in bytes, float).
_TYPES = ((1, False), (4, True), (2, True), (4, False), (2, False), (8, False))


def guess_type(old: NDArray[np.uint8], new: NDArray[np.uint8], features: DecoderFeatures) -> tuple[int, bool]:
    """Return the element width in bytes, and if float, for which two equally long runs of bytes differ least."""
    best, least = _TYPES[0], float("inf")
    for width, is_float in _TYPES:
        count = min(len(new), _SAMPLE) // width * width
        runs = [np.frombuffer(run[:count].tobytes(), f"<u{width}") for run in (new, old)]
        cost = ranked(Source(runs[0], runs[1], is_float), features)[0][0] if count else float("inf")
        if cost < least * 0.99:
            best, least = (width, is_float), cost
    return best
