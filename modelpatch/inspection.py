"""Owns telling what a patch does without applying it: header, operations, lanes, coded sizes, tensors where known.

Refuses damaged patches as apply does, but does not check digests of contents: it never sees the result.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from modelpatch.coders import Coder
from modelpatch.errors import PatchFormatError
from modelpatch.files import naming
from modelpatch.folder import PATCHED, read_entries
from modelpatch.frames import FrameType, OpKind, OpsFrame, read_frame_type, read_ops_frame, read_stream_info
from modelpatch.header import PatchHeader, PatchKind, decode_header
from modelpatch.layout import Tensor, find_tensors
from modelpatch.reading import PatchReader

_SKIP_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class OpReport:
    """One operation: target and base offset and length in bytes; transform, width, grid for a delta; its tensor."""

    op: str
    target_offset: int
    length: int
    base_offset: int | None = None
    transform: str | None = None
    width: int | None = None
    grid: int | None = None
    changed_share: float | None = None
    tensor: str | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame: its operations, its coded bytes in the patch, and the coder of each of its streams."""

    type: str
    coded_bytes: int
    coders: list[str]
    ops: list[OpReport] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a folder patch does to one file. `action` is keep, rename, patch, patch_rename or add."""

    action: str
    base_index: int | None
    name: str | None
    report: "PatchReport | None"


@dataclass(frozen=True, slots=True)
class PatchReport:
    """What a patch does. Frames for a file patch, files for a folder patch."""

    header: PatchHeader
    patch_bytes: int
    frames: list[FrameReport] = field(default_factory=list)
    files: list[FileReport] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`; kind and features by their names."""
        data = asdict(self)
        for report, plain in _headers(self, data):
            plain["kind"] = report.kind.name.lower()
            plain["features"] = [
                f.name.lower() for f in type(report.features) if f in report.features and f.name and f
            ]
        return data


def inspect_patch(
    patch: str | os.PathLike[str] | bytes | BinaryIO, *, base: str | os.PathLike[str] | None = None
) -> PatchReport:
    """Return what `patch` does. With `base`, the old model file, operations are named after its tensors.

    Raises:
        PatchFormatError, UnsupportedPatchError: as `apply_stream`.
        OSError: a file cannot be read.
    """
    tensors = find_tensors(Path(base).read_bytes()) if base is not None else []
    if isinstance(patch, bytes):
        return _inspect(PatchReader(io.BytesIO(patch)), tensors)
    if isinstance(patch, (str, os.PathLike)):
        with Path(patch).open("rb") as stream, naming(base, patch):
            return _inspect(PatchReader(stream), tensors)
    return _inspect(PatchReader(patch), tensors)


def _headers(report: PatchReport, data: dict[str, Any]) -> Iterator[tuple[PatchHeader, dict[str, Any]]]:
    yield report.header, data["header"]
    for file, plain in zip(report.files, data["files"], strict=True):
        if file.report is not None:
            yield from _headers(file.report, plain["report"])


def _inspect(reader: PatchReader, tensors: list[Tensor]) -> PatchReport:
    header = decode_header(reader)
    header.check_supported()
    reader.enter_section(header.body_length)
    if header.kind is PatchKind.FOLDER:
        files = [*_read_files(reader)]
        reader.expect_end()
        return PatchReport(header, reader.consumed, files=files)
    frames, at = [], 0
    while at < header.target_length:
        frame, at = _read_frame(reader, header, at, tensors)
        frames.append(frame)
    reader.expect_end()
    return PatchReport(header, reader.consumed, frames=frames)


def _read_files(reader: PatchReader) -> Iterator[FileReport]:
    for entry in read_entries(reader):
        report = None
        if entry.kind in PATCHED:
            # Bounded by what is left of a section that itself had to be there: a patch is read into memory here.
            if entry.patch_length > reader.left:
                raise PatchFormatError("a section ends too early")
            report = _inspect(PatchReader(io.BytesIO(reader.read(entry.patch_length))), [])
        name = entry.name.decode() if entry.name is not None else None
        yield FileReport(entry.kind.name.lower(), entry.base_index, name, report)


def _read_frame(reader: PatchReader, header: PatchHeader, at: int, tensors: list[Tensor]) -> tuple[FrameReport, int]:
    start = reader.consumed
    frame_type, dict_log2 = read_frame_type(reader)
    if frame_type is FrameType.SOLID:
        info, length = read_stream_info(reader), reader.varint()
        coded = length if info.coder is Coder.STORED else info.coded_length
        if not length:
            raise PatchFormatError("a frame makes nothing")
        for left in range(coded, 0, -_SKIP_BYTES):
            reader.read(min(left, _SKIP_BYTES))
        report = OpReport("literal", at, length)
        return FrameReport("solid", reader.consumed - start, [info.coder.name.lower()], [report]), at + length
    frame = read_ops_frame(reader, dict_log2, header.memory_bytes)
    ops, end = _report_ops(frame, at, tensors)
    coders = [info.coder.name.lower() for info in frame.streams]
    return FrameReport("ops", reader.consumed - start, coders, ops), end


def _report_ops(frame: OpsFrame, at: int, tensors: list[Tensor]) -> tuple[list[OpReport], int]:
    out = []
    used = [0] * len(frame.lanes)
    for op in frame.ops():
        tensor = None if op.kind is OpKind.LITERAL else _tensor_at(tensors, op.base)
        values: dict[str, Any] = {}
        if op.kind is OpKind.DELTA:
            lane, first = frame.lanes[op.lane], used[op.lane]
            used[op.lane] += op.length // lane.width
            values = {"transform": lane.transform.name.lower(), "width": lane.width, "grid": lane.grid}
            values["changed_share"] = _changed(frame.planes[op.lane], first, used[op.lane])
        if tensor:
            values |= {"tensor": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape}
        base = None if op.kind is OpKind.LITERAL else op.base
        out.append(OpReport(op.kind.name.lower(), at, op.length, base, **values))
        at += op.length
    return out, at


def _changed(planes: list[bytes], start: int, end: int) -> float:
    """Return the share of elements whose coded value is not zero, which for a delta means changed."""
    joined = 0
    for plane in planes:
        joined |= int.from_bytes(plane[start:end], "little")
    zeros = joined.to_bytes(end - start, "little").count(0)
    return round(1 - zeros / (end - start), 4)


def _tensor_at(tensors: list[Tensor], offset: int) -> Tensor | None:
    return next((t for t in tensors if t.offset <= offset < t.offset + t.length), None)
