"""Owns telling what a patch does to each tensor: the share of its weights that change, its bytes in the patch, how.

Refuses to guess what changed: old and new bytes are compared, element by element, where the patch's operations
take the one from the other. What an operation costs is split over its tensors in proportion to the bytes changed.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from modelpatch.inspect.frames import OpReport
from modelpatch.tensors.tensor import Tensor

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TensorReport:
    """One tensor of the target. `offset` and `length` in bytes; `changed_share` is of its elements, from 0 to 1.

    `patch_bytes` is the part of the patch due to it, without the operation table. `how` names the operations:
    `copy`, `new`, or transform and element width in bytes (`order/4`, `grid/4 2^-9`).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    changed_share: float
    patch_bytes: float
    how: list[str]
    coders: list[str]


@dataclass(slots=True)
class _Range:
    """A range of the target, a tensor or bytes between two of them, and what was found of it."""

    start: int
    end: int
    tensor: Tensor | None
    changed: int = 0
    patch_bytes: float = 0.0
    how: dict[str, None] = field(default_factory=dict)
    coders: dict[str, None] = field(default_factory=dict)
    old: bytearray = field(default_factory=bytearray)


def tensor_reports(
    ops: Iterable[OpReport], base: bytes, target: bytes, tensors: list[Tensor]
) -> tuple[list[TensorReport], TensorReport]:
    """Return what happens to each tensor of `target`, and to all bytes that belong to none.

    Args:
        ops: the operations that make `target` of `base`, in order.
        base: the old file.
        target: the new file.
        tensors: those of `target`, by ascending offset, none overlapping.
    """
    ranges = list(_ranges(tensors, len(target)))
    starts = [r.start for r in ranges]
    for op in ops:
        _spread(op, ranges, starts, base, target)
    for r in ranges:
        r.changed = changed_elements(bytes(r.old), target[r.start : r.end], r.tensor.width if r.tensor else 1)
        r.old.clear()
    return [_report(r, r.tensor) for r in ranges if r.tensor], _rest([r for r in ranges if not r.tensor])


def changed_elements(old: bytes, new: bytes, width: int) -> int:
    """Return how many elements of `width` bytes differ between `old` and `new`, which are equally long.

    A last part of an element counts as one.
    """
    count = 0
    step = _CHUNK_BYTES * width
    for at in range(0, len(new), step):
        a, b = old[at : at + step], new[at : at + step]
        if a == b:
            continue
        size = len(b) + -len(b) % width
        mixed = (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(size, "little")
        joined = 0
        for i in range(width):
            joined |= int.from_bytes(mixed[i::width], "little")
        count += size // width - joined.to_bytes(size // width, "little").count(0)
    return count


def _ranges(tensors: list[Tensor], size: int) -> Iterator[_Range]:
    at = 0
    for tensor in tensors:
        if tensor.offset > at:
            yield _Range(at, tensor.offset, None)
        yield _Range(tensor.offset, tensor.end, tensor)
        at = tensor.end
    if at < size:
        yield _Range(at, size, None)


def _spread(op: OpReport, ranges: list[_Range], starts: list[int], base: bytes, target: bytes) -> None:
    """Return each range what `op` does in it: the old bytes under it, its cost, transform and coders."""
    at, end = op.target_offset, op.target_offset + op.length
    parts: list[tuple[_Range, int]] = []
    i = bisect_right(starts, at) - 1
    while at < end:
        stop = min(end, ranges[i].end)
        old = _old_bytes(op, at, stop, base, target)
        parts.append((ranges[i], 1 + changed_elements(old, target[at:stop], 1)))
        ranges[i].old += old
        at, i = stop, i + 1
    total = sum(weight for _, weight in parts)
    for r, weight in parts:
        r.patch_bytes += op.patch_bytes * weight / total
        # A run that is equal in a tensor has no part in how the tensor changes.
        if op.op == "copy" or weight > 1:
            r.how[how(op)] = None
            r.coders.update(dict.fromkeys(op.coders))


def how(op: OpReport) -> str:
    """Return an operation's kind in a word: `copy`, `new`, or its transform, width and grid."""
    if op.transform is None:
        return "new" if op.op == "literal" else op.op
    return f"{op.transform}/{op.width}" + (
        f" 2^{-op.grid}" if op.transform.startswith("grid") and op.grid is not None else ""
    )


def _old_bytes(op: OpReport, at: int, stop: int, base: bytes, target: bytes) -> bytes:
    """Return what stands in the base where target bytes `at` to `stop` are taken from; all different past its end."""
    shift = None if op.base_offset is None else op.base_offset - op.target_offset
    old = b"" if shift is None else base[at + shift : stop + shift]
    missing = target[at + len(old) : stop]
    return old + bytes(b ^ 255 for b in missing)


def _report(r: _Range, tensor: Tensor) -> TensorReport:
    elements = -(-(r.end - r.start) // tensor.width)
    name, share = tensor.name, r.changed / elements
    return TensorReport(
        name, tensor.dtype, tensor.shape, r.start, r.end - r.start, share, r.patch_bytes, [*r.how], [*r.coders]
    )


def _rest(ranges: list[_Range]) -> TensorReport:
    length = sum(r.end - r.start for r in ranges)
    share = sum(r.changed for r in ranges) / length if length else 0.0
    used = dict.fromkeys(name for r in ranges for name in r.how)
    coders = dict.fromkeys(name for r in ranges for name in r.coders)
    cost = sum(r.patch_bytes for r in ranges)
    return TensorReport("", "bytes", (length,), 0, length, share, cost, [*used], [*coders])
