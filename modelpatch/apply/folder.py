"""Owns applying a folder patch: entries over the files of a base tree, made in a temporary folder, then named.

Refuses a base folder that is not exactly the declared tree, unsafe or repeated names, and an existing target.
Layout: docs/patch-format.md, "Folder".
"""

import enum
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from modelpatch.apply.files import (
    PathLike,
    blaming,
    naming,
    open_named,
    open_or_none,
    refuse_same_path,
    sync_folder,
    writing,
)
from modelpatch.apply.stream import COPY_BYTES, Applied, apply_stream, check_limits
from modelpatch.apply.temporaries import remove_stale, temporary_folder
from modelpatch.apply.tree import MAX_FILES, MAX_NAME_BYTES, TreeFile, check_name, scan, tree_sha256
from modelpatch.errors import (
    BaseMismatchError,
    FolderError,
    PatchFormatError,
    PatchLimitError,
    SamePathError,
    TargetMismatchError,
)
from modelpatch.format.engine import STANDARD, Engine, check_supported
from modelpatch.format.header import DEFAULT_MEMORY_BYTES, PatchHeader, PatchKind, decode_header
from modelpatch.format.reading import PatchReader


class EntryKind(enum.IntEnum):
    """How one file of the target tree comes to be. Files of the base that no entry makes are removed."""

    KEEP = 0  # a base file under its own name
    RENAME = 1  # a base file under a new name
    PATCH = 2  # a patched base file under its own name
    PATCH_RENAME = 3  # a patched base file under a new name
    ADD = 4  # a whole-file patch


NAMED = frozenset((EntryKind.RENAME, EntryKind.PATCH_RENAME, EntryKind.ADD))
PATCHED = frozenset((EntryKind.PATCH, EntryKind.PATCH_RENAME, EntryKind.ADD))
_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its kind, the index of its base file (None for ADD), its new name, the length of its patch."""

    kind: EntryKind
    base_index: int | None
    name: bytes | None
    patch_length: int


def apply_folder(
    base: PathLike,
    patch: PathLike,
    target: PathLike,
    *,
    max_target_bytes: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
    engine: Engine = STANDARD,
) -> Applied:
    """Make the folder `target` from the folder `base` and the folder patch `patch`; see `modelpatch.apply_folder`.

    One engine is used for all files, so that their work adds up.
    """
    refuse_same_path(target, [base, patch])
    if Path(base).resolve() in Path(target).resolve().parents:
        raise SamePathError(f"{target}: this is inside of the folder {base}, which is only read")
    if Path(target).exists() or Path(target).is_symlink():
        raise FolderError(f"{target}: the target folder exists already")
    with open_named(patch) as stream, naming(base, patch):
        reader = PatchReader(stream)
        header = decode_header(reader)
        if header.kind is not PatchKind.FOLDER:
            raise PatchFormatError("it is a patch of a file, not of a folder")
        check_supported(header, engine)
        check_limits(header, max_target_bytes, max_memory_bytes)
        files = scan(base)
        if (_total(files), tree_sha256(files)) != (header.base_length, header.base_sha256):
            raise BaseMismatchError(f"the folder is not the tree {header.base_sha256[:12]} that the patch is for")
        reader.enter_section(header.body_length)
        with _new_folder(Path(target)) as made:
            _FolderDecoder(reader, header, _Base(Path(base), files), made, engine).run()
    return Applied(
        header.kind, header.base_sha256, header.target_sha256, header.target_length, patch_bytes=reader.consumed
    )


def read_entries(reader: PatchReader) -> Iterator[Entry]:
    """Return the entries at `reader` one by one; the caller reads `patch_length` bytes after each.

    Raises:
        PatchFormatError: an entry is damaged.
    """
    count = reader.varint()
    if count > MAX_FILES:
        raise PatchFormatError(f"it holds too many files ({count})")
    for _ in range(count):
        kind = reader.byte()
        if kind not in EntryKind.__members__.values():
            raise PatchFormatError(f"it has an entry of unknown kind {kind}")
        kind = EntryKind(kind)
        index = None if kind is EntryKind.ADD else reader.varint()
        name = _read_name(reader) if kind in NAMED else None
        yield Entry(kind, index, name, reader.varint() if kind in PATCHED else 0)


def base_file(files: list[TreeFile], entry: Entry) -> TreeFile | None:
    """Return the file of the base tree that `entry` is made from, None for a new one.

    Raises:
        PatchFormatError: there is no such file.
    """
    if entry.base_index is None:
        return None
    if entry.base_index >= len(files):
        raise PatchFormatError("an entry names a base file that does not exist")
    return files[entry.base_index]


def _read_name(reader: PatchReader) -> bytes:
    length = reader.varint()
    if length > MAX_NAME_BYTES:
        raise PatchFormatError("a file name is too long")
    name = reader.read(length)
    check_name(name)
    return name


class _Base(NamedTuple):
    """The base tree: where it is and what is in it."""

    folder: Path
    files: list[TreeFile]


class _FolderDecoder:
    """Runs the entries of a folder patch into the folder `made`."""

    def __init__(self, reader: PatchReader, header: PatchHeader, base: _Base, made: Path, engine: Engine) -> None:
        self._reader, self._header, self._base, self._made, self._engine = reader, header, base, made, engine
        self._left = header.target_length

    def run(self) -> None:
        previous = b""
        for entry in read_entries(self._reader):
            source = base_file(self._base.files, entry)
            name = entry.name or (source.name if source else b"")
            if name <= previous:
                raise PatchFormatError("its files are not in order")
            previous = name
            self._make(entry, source, self._made / check_name(name))
        self._reader.expect_end()
        if self._left or tree_sha256(scan(self._made)) != self._header.target_sha256:
            raise TargetMismatchError("the folder made is not the declared one")

    def _make(self, entry: Entry, source: TreeFile | None, path: Path) -> None:
        if any(parent.is_file() for parent in path.parents if parent.is_relative_to(self._made)):
            raise PatchFormatError("a file name is also the name of a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as out:
            if entry.kind in PATCHED:
                self._patch(entry, source, out)
            elif source is not None:
                self._spend(source.length)
                with open_named(self._base.folder / source.path) as stream:
                    shutil.copyfileobj(stream, out, COPY_BYTES)

    def _patch(self, entry: Entry, source: TreeFile | None, out: BinaryIO) -> None:
        section = cast(BinaryIO, _Section(self._reader, entry.patch_length))
        with open_or_none(None if source is None else self._base.folder / source.path) as base:
            try:
                applied = apply_stream(
                    base,
                    section,
                    out,
                    max_target_bytes=self._left,
                    max_memory_bytes=self._header.memory_bytes,
                    engine=self._engine,
                )
            except PatchLimitError as e:  # the limits here are not the caller's, but what the folder's header says
                raise PatchFormatError(f"a patch in it needs more than it declares: {e}") from e
        self._spend(applied.target_length)

    def _spend(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise PatchFormatError("it makes more bytes than it declares")


def _total(files: list[TreeFile]) -> int:
    return sum(file.length for file in files)


class _Section:
    """A part of a patch as a stream of its own."""

    def __init__(self, reader: PatchReader, length: int) -> None:
        self._reader, self._left = reader, length

    def read(self, count: int) -> bytes:
        count = min(count, self._left)
        self._left -= count
        return self._reader.read(count) if count else b""


@contextmanager
def _blaming_inside(target: Path, made: Path) -> Iterator[None]:
    """Put on errors of files in `made` the names that these would have had in `target`."""
    try:
        yield
    except OSError as e:
        if isinstance(e.filename, str) and Path(e.filename).is_relative_to(made):
            e.filename = str(target / Path(e.filename).relative_to(made))
        raise


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Return a temporary folder beside `target` that becomes it when the block ends well, and vanishes otherwise."""
    remove_stale(target)
    with temporary_folder(target) as made:
        with _blaming_inside(target, made):
            yield made
        for folder, _, _ in os.walk(made):
            sync_folder(Path(folder))
        made.chmod(_FOLDER_MODE)
        try:
            with blaming(target):
                made.rename(target)
        except OSError as e:
            if e.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise FolderError(f"{target}: another process made it in the meantime") from e
            raise
    with blaming(target):
        sync_folder(target.parent)
