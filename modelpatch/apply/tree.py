"""Owns what a folder is to a folder patch: its regular files, their safe names, and one digest over all of them.

Refuses links, devices, sockets, and names that could lead out of a folder. Empty folders, times and modes are
not part of a tree.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from modelpatch.apply.stream import digest_stream
from modelpatch.errors import FolderError, PatchFormatError
from modelpatch.format import varint

MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255
MAX_FILES = 10_000


@dataclass(frozen=True, slots=True, order=True)
class TreeFile:
    """One file of a tree: its name with `/` between parts as UTF-8 bytes, its length, its SHA-256 in hex."""

    name: bytes
    length: int
    sha256: str

    @property
    def path(self) -> str:
        """The name as text, relative to the folder."""
        return self.name.decode()


def scan(folder: str | os.PathLike[str]) -> list[TreeFile]:
    """Return the files below `folder`, by ascending name bytes.

    Raises:
        FolderError: something in it is neither a file nor a folder, or has an unsafe name.
        OSError: it is missing or cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(root))
    return sorted(_scan_file(root, path) for path in sorted(_walk(root)))


def tree_sha256(files: list[TreeFile]) -> str:
    """Return the tree digest: SHA-256 over varint(len(name)) name varint(length) sha256 of each file in order."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(varint.encode(len(file.name)) + file.name + varint.encode(file.length))
        digest.update(bytes.fromhex(file.sha256))
    return digest.hexdigest()


def check_name(name: bytes) -> str:
    """Return `name` as text if it is safe below any folder.

    Raises:
        PatchFormatError: it is absolute, has an empty, `.` or `..` part, a backslash, a control character, is too
            long, or is no UTF-8.
    """
    try:
        text = name.decode()
    except UnicodeDecodeError as e:
        raise PatchFormatError("a file name is not UTF-8") from e
    parts = text.split("/")
    bad = any(part in ("", ".", "..") or len(part.encode()) > MAX_PART_BYTES for part in parts)
    if bad or len(name) > MAX_NAME_BYTES or "\\" in text or any(c < " " or c == "\x7f" for c in text):
        raise PatchFormatError(f"unsafe file name {text[:80]!r}")
    return text


def _walk(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        for name in folders + names:
            path = Path(folder, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise FolderError(f"{path}: a folder patch carries plain files only")
            if path.is_file():
                found.append(path)
            if len(found) > MAX_FILES:
                raise FolderError(f"{root}: a folder patch carries at most {MAX_FILES} files")
    return found


def _scan_file(root: Path, path: Path) -> TreeFile:
    name = os.fsencode(path.relative_to(root).as_posix())
    try:
        check_name(name)
    except PatchFormatError as e:
        raise FolderError(f"{path}: {e}") from e
    with path.open("rb") as stream:
        return TreeFile(name, path.stat().st_size, digest_stream(stream))


def _raise(error: OSError) -> None:
    raise error
