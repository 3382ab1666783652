"""Owns making the patch of a folder: an entry for each file of the new tree, over a file of the old one.

Refuses to carry twice what the old folder has: equal files are kept or renamed. Needs numpy.
"""

import os
from pathlib import Path
from typing import NamedTuple

from modelpatch.apply.files import refuse_same_path, replacing
from modelpatch.apply.folder import EntryKind
from modelpatch.apply.tree import TreeFile, scan, tree_sha256
from modelpatch.diff.folder_bases import FolderBases
from modelpatch.diff.inputs import Contents, DiffInput, DiffSettings, read_contents
from modelpatch.diff.make import smallest_patch
from modelpatch.errors import SamePathError
from modelpatch.format import varint
from modelpatch.format.header import DecoderFeatures, PatchHeader, PatchKind, read_header

PathLike = str | os.PathLike[str]


class _Tree(NamedTuple):
    """A folder and the files in it."""

    folder: Path
    files: list[TreeFile]

    def path(self, file: TreeFile) -> Path:
        return self.folder / file.path


def diff_folder(old_dir: PathLike, new_dir: PathLike, patch: PathLike, settings: DiffSettings) -> PatchHeader:
    """Write the patch of two folders; see `modelpatch.diff_folder`."""
    _refuse_inside(patch, [old_dir, new_dir])
    old, new = (_Tree(Path(folder), scan(folder)) for folder in (old_dir, new_dir))
    entries = _Entries(old, new, settings)
    body, headers = bytearray(varint.encode(len(new.files))), []
    for file in new.files:
        entry, made = entries.entry(file)
        body += entry + made
        headers += [read_header(made)] if made else []
    header = _folder_header(old.files, new.files, headers, len(body))
    with replacing(patch) as out:
        out.write(header.encode() + body)
    return header


def _refuse_inside(patch: PathLike, folders: list[PathLike]) -> None:
    refuse_same_path(patch, [*folders])
    for folder in folders:
        if Path(folder).resolve() in Path(patch).resolve().parents:
            raise SamePathError(f"{patch}: this is inside of the folder {folder}, which is only read")


class _Entries:
    """Makes the entries of the new tree's files, in their order."""

    def __init__(self, old: _Tree, new: _Tree, settings: DiffSettings) -> None:
        self._old, self._new, self._settings = old, new, settings
        self._bases = FolderBases(old.files, new.files)

    def entry(self, file: TreeFile) -> tuple[bytes, bytes]:
        """Return the entry of one target file and the patch that follows it, empty for an unchanged file."""
        own, equal = self._bases.own(file), self._bases.equal(file)
        name = varint.encode(len(file.name)) + file.name
        if equal is not None:
            kind = EntryKind.KEEP if equal == own else EntryKind.RENAME
            return bytes((kind,)) + varint.encode(equal) + (name if kind is EntryKind.RENAME else b""), b""
        source = own if own is not None else self._bases.take_likely(file)
        made = self._patch(source, file)
        length = varint.encode(len(made))
        if source is None or read_header(made).kind is PatchKind.WHOLE:
            return bytes((EntryKind.ADD,)) + name + length, made
        if source != own:
            return bytes((EntryKind.PATCH_RENAME,)) + varint.encode(source) + name + length, made
        return bytes((EntryKind.PATCH,)) + varint.encode(source) + length, made

    def _patch(self, source: int | None, file: TreeFile) -> bytes:
        old = Contents(b"") if source is None else read_contents(self._old.path(self._old.files[source]))
        return smallest_patch(DiffInput(old, read_contents(self._new.path(file)), self._settings))


def _folder_header(
    old_files: list[TreeFile], new_files: list[TreeFile], headers: list[PatchHeader], body_length: int
) -> PatchHeader:
    features = DecoderFeatures.NONE
    for header in headers:
        features |= header.features
    return PatchHeader(
        kind=PatchKind.FOLDER,
        features=features,
        memory_bytes=max((h.memory_bytes for h in headers), default=0),
        base_sha256=tree_sha256(old_files),
        base_length=sum(f.length for f in old_files),
        target_sha256=tree_sha256(new_files),
        target_length=sum(f.length for f in new_files),
        body_length=body_length,
    )
