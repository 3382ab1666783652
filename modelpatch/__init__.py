"""Owns the public face of modelpatch: byte-exact patches of model files and of folders of them.

Refuses to import anything outside the standard library: applying and inspecting need nothing else. Making a
patch needs numpy, which is imported when a `diff_*` function is first called.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from modelpatch.apply.files import apply_file
from modelpatch.apply.stream import Applied, apply_stream
from modelpatch.errors import (
    BaseMismatchError,
    FolderError,
    PatchError,
    PatchFormatError,
    PatchLimitError,
    SamePathError,
    TargetMismatchError,
    UnsupportedPatchError,
)
from modelpatch.format.header import (
    DEFAULT_FEATURES,
    DEFAULT_MEMORY_BYTES,
    DecoderFeatures,
    PatchHeader,
    PatchKind,
    read_header,
)

if TYPE_CHECKING:
    from modelpatch.apply.folder import apply_folder
    from modelpatch.inspect.inspection import inspect_patch
    from modelpatch.peers.comparison import compare

__all__ = [
    "DEFAULT_FEATURES",
    "DEFAULT_MEMORY_BYTES",
    "Applied",
    "BaseMismatchError",
    "DecoderFeatures",
    "FolderError",
    "PatchError",
    "PatchFormatError",
    "PatchHeader",
    "PatchKind",
    "PatchLimitError",
    "SamePathError",
    "TargetMismatchError",
    "UnsupportedPatchError",
    "apply_file",
    "apply_folder",
    "apply_stream",
    "compare",
    "diff_bytes",
    "diff_file",
    "diff_folder",
    "inspect_patch",
    "read_header",
]

# Loaded when they are first named: applying the patch of a file is over in less time than these take to load.
_LATER = {
    "apply_folder": "modelpatch.apply.folder",
    "compare": "modelpatch.peers.comparison",
    "inspect_patch": "modelpatch.inspect.inspection",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def diff_bytes(
    old: bytes, new: bytes, *, effort: str = "best", features: DecoderFeatures = DEFAULT_FEATURES
) -> bytes:
    """Return the smallest patch found that turns `old` into `new`.

    Args:
        old: the base. Empty bytes give a whole-file patch.
        new: the target.
        effort: `best` tries more transforms and coders, `fast` fewer.
        features: what the decoder on the device has beyond the required part of the format.

    Raises:
        ValueError: `effort` is neither `fast` nor `best`.
    """
    from modelpatch.diff.make import diff_bytes as run

    return run(old, new, effort=effort, features=features)


def diff_file(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    patch: str | os.PathLike[str],
    *,
    effort: str = "best",
    features: DecoderFeatures = DEFAULT_FEATURES,
) -> PatchHeader:
    """Write to `patch` what turns the file `old` into `new`; return the header written.

    Raises:
        SamePathError: `patch` is `old` or `new`.
        OSError: a file cannot be read or written; no half-written patch stays.
    """
    from modelpatch.diff.make import diff_file as run

    return run(old, new, patch, effort=effort, features=features)


def diff_folder(
    old_dir: str | os.PathLike[str],
    new_dir: str | os.PathLike[str],
    patch: str | os.PathLike[str],
    *,
    effort: str = "best",
    features: DecoderFeatures = DEFAULT_FEATURES,
) -> PatchHeader:
    """Write to the file `patch` what turns the folder `old_dir` into `new_dir`; return the header written.

    Raises:
        SamePathError: `patch` is one of the folders, or in one.
        FolderError: a folder holds a link, a device, or a name that is not safe to carry.
        OSError: a file cannot be read or written; no half-written patch stays.
    """
    from modelpatch.diff.make import diff_folder as run

    return run(old_dir, new_dir, patch, effort=effort, features=features)
