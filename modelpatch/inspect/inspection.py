"""Owns telling what a patch does: its header, frames and files, and with the base what happens to each tensor.

Refuses damaged patches as apply does. Without a base it makes nothing and so checks no digest of contents; with one
it makes the target in memory, checks both digests, and refuses targets above a limit.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from modelpatch.apply.files import naming
from modelpatch.apply.folder import PATCHED, Entry, EntryKind, base_file, read_entries
from modelpatch.apply.stream import apply_stream
from modelpatch.apply.tree import TreeFile, scan, tree_sha256
from modelpatch.errors import BaseMismatchError, PatchFormatError
from modelpatch.format.engine import check_supported
from modelpatch.format.header import INSPECTED_TARGET_BYTES, PatchHeader, PatchKind, decode_header, read_header
from modelpatch.format.reading import PatchReader
from modelpatch.inspect.frames import FrameReport, read_frame
from modelpatch.inspect.tensors import TensorReport, tensor_reports
from modelpatch.installed.engine import InstalledEngine
from modelpatch.tensors.find import find_tensors
from modelpatch.tensors.tensorbundle import BundleIndex, index_beside, shard_of

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a folder patch does to one file. `action` is keep, rename, patch, patch_rename or add.

    `name` is the new name, and that of a base file which keeps it where the base is known; `base_name` the old one.
    """

    action: str
    base_index: int | None
    name: str | None
    base_name: str | None
    report: "PatchReport | None"


@dataclass(frozen=True, slots=True)
class PatchReport:
    """What a patch does. Frames for a file patch, files for a folder patch; lengths in bytes.

    `tensors` and `rest`, the bytes outside of tensors, are known for a file patch whose base is given.
    """

    header: PatchHeader
    patch_bytes: int
    frames: list[FrameReport] = field(default_factory=list)
    files: list[FileReport] = field(default_factory=list)
    tensors: list[TensorReport] = field(default_factory=list)
    rest: TensorReport | None = None

    @property
    def overhead_bytes(self) -> float:
        """Bytes of the patch that are neither literals nor deltas: headers, digests, operation tables."""
        return self.patch_bytes - sum(op.patch_bytes for frame in self.frames for op in frame.ops)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`; kind and features by their names."""
        data = asdict(self)
        for header, plain in _headers(self, data):
            names = {"kind": header.kind.name.lower(), "features": feature_names(header)}
            plain["header"] = header._asdict() | names
        return data


def feature_names(header: PatchHeader) -> list[str]:
    """Return the names of the decoder features that a patch needs, in lower case."""
    features = header.features
    return [f.name.lower() for f in type(features) if f in features and f.name and f]


def inspect_patch(
    patch: PathLike | bytes | BinaryIO,
    *,
    base: PathLike | None = None,
    max_target_bytes: int = INSPECTED_TARGET_BYTES,
) -> PatchReport:
    """Return what `patch` does; see `modelpatch.inspect_patch`."""
    if not isinstance(patch, (str, os.PathLike)):
        data = patch if isinstance(patch, bytes) else patch.read()
        return _inspect(data, base, max_target_bytes)
    with naming(base, patch):
        return _inspect(Path(patch).read_bytes(), base, max_target_bytes)


def _headers(report: PatchReport, data: dict[str, Any]) -> Iterator[tuple[PatchHeader, dict[str, Any]]]:
    yield report.header, data
    for file, plain in zip(report.files, data["files"], strict=True):
        if file.report is not None:
            yield from _headers(file.report, plain["report"])


def _inspect(data: bytes, base: PathLike | None, limit: int) -> PatchReport:
    header = read_header(data)
    if header.kind is PatchKind.FOLDER:
        return _inspect_folder(data, base, limit)
    if base is None or header.kind is PatchKind.WHOLE:
        return _inspect_frames(data)
    index = index_beside(Path(base))  # of a single file the new index is not known: a shard mostly keeps its layout
    return _inspect_tensors(data, Path(base).read_bytes(), index, limit)


def _inspect_frames(data: bytes) -> PatchReport:
    reader = PatchReader(io.BytesIO(data))
    header = decode_header(reader)
    if header.kind is PatchKind.FOLDER:
        raise PatchFormatError("a patch of a folder is inside a patch of a folder")
    engine = InstalledEngine()
    check_supported(header, engine)
    reader.enter_section(header.body_length)
    frames, at = [], 0
    while at < header.target_length:
        frames.append(read_frame(reader, header.memory_bytes, at, engine))
        at += sum(op.length for op in frames[-1].ops)
    reader.expect_end()
    return PatchReport(header, reader.consumed, frames=frames)


def _inspect_tensors(data: bytes, base: bytes, index: BundleIndex | None, limit: int) -> PatchReport:
    """Return the report of a file patch with its tensors. `index` describes the target, where it is a shard."""
    target = _target(data, base, limit)
    report = _inspect_frames(data)
    ops = [op for frame in report.frames for op in frame.ops]
    tensors, rest = tensor_reports(ops, base, target, find_tensors(target, index))
    return PatchReport(report.header, report.patch_bytes, report.frames, tensors=tensors, rest=rest)


def _target(data: bytes, base: bytes, limit: int) -> bytes:
    out = io.BytesIO()
    apply_stream(io.BytesIO(base), io.BytesIO(data), out, max_target_bytes=limit, engine=InstalledEngine())
    return out.getvalue()


def _inspect_folder(data: bytes, base: PathLike | None, limit: int) -> PatchReport:
    reader = PatchReader(io.BytesIO(data))
    header = decode_header(reader)
    check_supported(header, InstalledEngine())
    reader.enter_section(header.body_length)
    entries = [*_read_entries(reader)]
    reader.expect_end()
    if base is None:
        files = [_file_report(entry, None, _inspect_frames(patch) if patch else None) for entry, patch in entries]
    else:
        folder = _Folder(Path(base), header, entries, limit)
        files = [folder.report(entry, patch) for entry, patch in entries]
    return PatchReport(header, reader.consumed, files=files)


def _read_entries(reader: PatchReader) -> Iterator[tuple[Entry, bytes]]:
    for entry in read_entries(reader):
        # Bounded by what is left of a section that itself had to be there: a patch is read into memory here.
        if entry.patch_length > reader.left:
            raise PatchFormatError("a section ends too early")
        if entry.kind in PATCHED and not entry.patch_length:
            raise PatchFormatError("a file's patch is empty")
        yield entry, reader.read(entry.patch_length)


def _file_report(entry: Entry, source: TreeFile | None, report: PatchReport | None) -> FileReport:
    old = source.path if source else None
    name = entry.name.decode() if entry.name is not None else old
    return FileReport(entry.kind.name.lower(), entry.base_index, name, old, report)


class _Folder:
    """A base folder under a folder patch: knows the files' names, and makes each file of the target when asked."""

    def __init__(self, base: Path, header: PatchHeader, entries: list[tuple[Entry, bytes]], limit: int) -> None:
        self._base, self._limit, self._files = base, limit, scan(base)
        if tree_sha256(self._files) != header.base_sha256:
            raise BaseMismatchError(f"the folder is not the tree {header.base_sha256[:12]} that the patch is for")
        self._entries = {self._name(entry): (entry, patch) for entry, patch in entries}

    def report(self, entry: Entry, patch: bytes) -> FileReport:
        """Return what happens to one file."""
        source = base_file(self._files, entry)
        if not patch:
            return _file_report(entry, source, None)
        if source is None or read_header(patch).kind is PatchKind.WHOLE:
            return _file_report(entry, source, _inspect_frames(patch))
        index = self._new_index(self._name(entry))
        old = (self._base / source.path).read_bytes()
        return _file_report(entry, source, _inspect_tensors(patch, old, index, self._limit))

    def _name(self, entry: Entry) -> str:
        source = base_file(self._files, entry)
        return entry.name.decode() if entry.name is not None else source.path if source else ""

    def _new_index(self, name: str) -> BundleIndex | None:
        """Return the target's own index for the shard `name`, which the same patch may change."""
        shard = shard_of(name)
        if shard is None or shard[0] not in self._entries:
            return None
        entry, patch = self._entries[shard[0]]
        source = base_file(self._files, entry)
        old = (self._base / source.path).read_bytes() if source else b""
        table = old if entry.kind in (EntryKind.KEEP, EntryKind.RENAME) else _target(patch, old, self._limit)
        return BundleIndex(table, shard[1])
