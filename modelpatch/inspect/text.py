"""Owns the words of an inspection: what a patch does as lines for a person.

Refuses to work anything out: it shows what `inspection.py` found.
"""

from collections import Counter

from modelpatch.format.header import PatchKind
from modelpatch.inspect.frames import FrameReport, OpReport
from modelpatch.inspect.inspection import FileReport, PatchReport, feature_names
from modelpatch.inspect.tables import printable, table
from modelpatch.inspect.tensors import TensorReport, how

_KINDS = {
    PatchKind.FILE: "file patch: makes one exact file of another",
    PatchKind.WHOLE: "whole-file patch: carries the complete target and needs no base",
    PatchKind.FOLDER: "folder patch: makes one exact folder of another",
}
_HEAD = ("tensor", "type", "shape", "changed", "patch bytes", "how", "coders")
_RIGHT = (3, 4)
_INDENT = "    "
_NAME_CHARACTERS = 56
_HINT = "With --base OLD, this shows what happens to each tensor."


def lines(report: PatchReport, *, every_op: bool = False) -> list[str]:
    """Return `report` as lines of text; with `every_op` each frame, operation and unchanged tensor too."""
    out = _head(report)
    kept = [file for file in report.files if file.action == "keep"]
    for file in report.files:
        if every_op or file not in kept:
            out += ["", *_file(file, every_op)]
    if kept and not every_op:
        out += ["", f"{len(kept)} of {len(report.files)} files unchanged"]
    out += _contents(report, every_op)
    return [*out, "", _HINT] if _could_tell_more(report) else out


def _could_tell_more(report: PatchReport) -> bool:
    parts = [report, *(file.report for file in report.files if file.report)]
    deltas = [part for part in parts if part.header.kind is PatchKind.FILE]
    return bool(deltas) and all(part.rest is None for part in deltas)


def _head(report: PatchReport) -> list[str]:
    header = report.header
    share = f", {100 * report.patch_bytes / header.target_length:.2f} % of the target" if header.target_length else ""
    out = [_KINDS[header.kind], f"patch    {report.patch_bytes:>14,} bytes{share}, format {header.version}"]
    if header.kind is not PatchKind.WHOLE:
        out.append(f"base     {header.base_length:>14,} bytes, sha256 {header.base_sha256}")
    out.append(f"target   {header.target_length:>14,} bytes, sha256 {header.target_sha256}")
    features = ", ".join(feature_names(header)) or "none"
    memory = f"{header.memory_bytes / (1 << 20):.1f}"
    return [*out, f"decoder  {memory:>14} MiB of memory, features: {features}"]


def _file(file: FileReport, every_op: bool) -> list[str]:
    old = file.base_name or (None if file.base_index is None else f"base file {file.base_index}")
    name = file.name or old or ""
    action = file.action.replace("_", " and ")
    moved = f" (from {old})" if file.name and old and old != file.name else ""
    cost = f": {file.report.patch_bytes:,} bytes" if file.report else ""
    out = [printable(f"{action} {name}{moved}{cost}")]
    if file.report is None:
        return out
    if file.report.header.kind is PatchKind.WHOLE:
        out[0] += " (whole file)"
        return out + (_indented(file.report, every_op) if every_op else [])
    return out + _indented(file.report, every_op)


def _indented(report: PatchReport, every_op: bool) -> list[str]:
    return [(_INDENT + line).rstrip() for line in _contents(report, every_op)]


def _contents(report: PatchReport, every_op: bool) -> list[str]:
    if not report.frames:
        return []
    out = ["", *_summary(report)]
    if report.tensors:
        out += ["", *_tensors(report, every_op)]
    elif report.rest is not None:
        out.append("no tensors: not a model format that is known")
    if every_op:
        for number, frame in enumerate(report.frames):
            out += ["", *_frame(number, frame)]
    return out


def _summary(report: PatchReport) -> list[str]:
    """Return one line for each way in which target bytes are made: how many, in how many operations, at what cost."""
    count: Counter[str] = Counter()
    length: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    for op in (op for frame in report.frames for op in frame.ops):
        kind = how(op)
        count[kind] += 1
        length[kind] += op.length
        cost[kind] += op.patch_bytes  # type: ignore[assignment]  # a sum of shares
    rows = [
        (k, f"{count[k]:,}", f"{length[k]:,}", f"{cost[k]:,.0f}") for k in sorted(count, key=lambda k: -length[k])
    ]
    rows.append(("headers and operation tables", "", "", f"{report.overhead_bytes:,.0f}"))
    return table(("how", "operations", "target bytes", "patch bytes"), rows, right=(1, 2, 3))


def _tensors(report: PatchReport, every: bool) -> list[str]:
    shown = [t for t in report.tensors if every or t.changed_share]
    rows = [_tensor(t) for t in sorted(shown, key=lambda t: -t.patch_bytes)]
    if report.rest is not None and report.rest.length:
        rows.append(("(bytes outside of tensors)", *_tensor(report.rest)[1:]))
    out = table(_HEAD, rows, right=_RIGHT)
    unchanged = [t for t in report.tensors if not t.changed_share]
    if unchanged:
        cost = sum(t.patch_bytes for t in unchanged)
        paid = f", {cost:,.0f} bytes in the patch" if round(cost) else ""
        out.append(f"{len(unchanged)} of {len(report.tensors)} tensors unchanged{paid}")
    return out


def _tensor(report: TensorReport) -> tuple[str, ...]:
    return (
        _short(report.name) or "(no name)",
        report.dtype,
        "x".join(map(str, report.shape)) or "scalar",
        _percent(report.changed_share),
        f"{report.patch_bytes:,.0f}",
        ", ".join(report.how),
        ", ".join(report.coders),
    )


def _short(name: str) -> str:
    """Return a name that fits a table: of names fused by a converter the first, of a long one the end."""
    first, *others = printable(name).split(";")
    short = first if len(first) <= _NAME_CHARACTERS else "..." + first[3 - _NAME_CHARACTERS :]
    # What the reader of the format adds to a name, ` scale` for one, stands at its very end.
    word = others[-1].partition(" ")[2] if others else ""
    return short + (f" (+{len(others)}) {word}".rstrip() if others else "")


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share < 1 else "100 %"


def _frame(number: int, frame: FrameReport) -> list[str]:
    rows = [_op(op) for op in frame.ops]
    title = f"frame {number}: {frame.type}, {frame.coded_bytes:,} bytes, coders {' '.join(frame.coders)}"
    return [
        title,
        *table(
            ("operation", "target", "bytes", "base", "how", "changed", "patch bytes"), rows, right=(1, 2, 3, 5, 6)
        ),
    ]


def _op(op: OpReport) -> tuple[str, ...]:
    base = "" if op.base_offset is None or op.op == "literal" else str(op.base_offset)
    share = "" if op.changed_share is None else _percent(op.changed_share)
    kind = how(op) if op.transform else ""
    cost = "" if op.op == "copy" else f"{op.patch_bytes:,.0f}"
    return op.op, str(op.target_offset), str(op.length), base, kind, share, cost
