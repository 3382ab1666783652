"""Owns the public functions of modelpatch, each as a person calls it. Refuses to import what a call does not need.

Applying the patch of a file is over in less time than the rest of the package takes to load.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from modelpatch.apply import files, stream
from modelpatch.apply.stream import Applied
from modelpatch.format.header import (
    DEFAULT_FEATURES,
    DEFAULT_MEMORY_BYTES,
    INSPECTED_TARGET_BYTES,
    DecoderFeatures,
    PatchHeader,
)
from modelpatch.installed.engine import InstalledEngine

if TYPE_CHECKING:
    from modelpatch.inspect.inspection import PatchReport
    from modelpatch.peers.base import Peer
    from modelpatch.peers.comparison import Comparison

PathLike = str | os.PathLike[str]


def apply_stream(
    base: BinaryIO | None,
    patch: BinaryIO,
    target: BinaryIO,
    *,
    max_target_bytes: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Applied:
    """Write to `target` what `patch` makes of `base`; numpy is used where it is loaded, or for much work.

    Memory stays below 512 KiB plus what the header declares, whatever the sizes of the files. When an error is
    raised, `target` may hold part of the bytes, and the caller must throw it away.

    Args:
        base: seekable, read from its start. May be None for a whole-file patch.
        patch: read once from where it stands, to its end.
        target: written in order, never read.
        max_target_bytes: refuse a larger target; None for no limit.
        max_memory_bytes: refuse a patch that declares a larger working memory.

    Raises:
        PatchFormatError: the patch is truncated, altered, or not a patch.
        UnsupportedPatchError: the patch needs a newer decoder or a missing feature.
        PatchLimitError: the patch declares more than the caller allows.
        BaseMismatchError: the patch is for another base; nothing was written.
        TargetMismatchError: the result is not the declared target.
        OSError: a stream could not be read or written.
    """
    return stream.apply_stream(
        base,
        patch,
        target,
        max_target_bytes=max_target_bytes,
        max_memory_bytes=max_memory_bytes,
        engine=InstalledEngine(),
    )


def apply_file(
    base: PathLike | None,
    patch: PathLike,
    target: PathLike,
    *,
    max_target_bytes: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Applied:
    """Write to the file `target` what the file `patch` makes of the file `base`; an older `target` is replaced.

    The bytes and the name are on disk when this returns. `base` may be None for a whole-file patch. Limits are
    those of `apply_stream`.

    Raises:
        SamePathError: two of the three are one file.
        PatchError: as `apply_stream`; the message names the file at fault, `target` is as it was.
        OSError: a file cannot be read or written (missing, disk full); `target` is as it was.
    """
    return files.apply_file(
        base,
        patch,
        target,
        max_target_bytes=max_target_bytes,
        max_memory_bytes=max_memory_bytes,
        engine=InstalledEngine(),
    )


def apply_folder(
    base: PathLike,
    patch: PathLike,
    target: PathLike,
    *,
    max_target_bytes: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Applied:
    """Make the folder `target`, which must not exist, from the folder `base` and the folder patch `patch`.

    Raises:
        FolderError: `target` exists, or `base` holds something else than plain files.
        SamePathError: `target` is the patch or in `base`.
        PatchError: as `apply_stream`; the message names the file at fault, no `target` appears.
        OSError: a file cannot be read or written; no `target` appears.
    """
    from modelpatch.apply.folder import apply_folder as run

    return run(
        base,
        patch,
        target,
        max_target_bytes=max_target_bytes,
        max_memory_bytes=max_memory_bytes,
        engine=InstalledEngine(),
    )


def inspect_patch(
    patch: PathLike | bytes | BinaryIO,
    *,
    base: PathLike | None = None,
    max_target_bytes: int = INSPECTED_TARGET_BYTES,
) -> "PatchReport":
    """Return what `patch` does.

    Args:
        patch: a file name, the bytes, or a stream.
        base: the old file or folder, which tells what happens to each tensor; the old and the new file are then held
            in memory.
        max_target_bytes: with a base, refuse a larger target.

    Raises:
        PatchFormatError, UnsupportedPatchError: as `apply_stream`.
        BaseMismatchError, PatchLimitError, TargetMismatchError: as `apply_stream`, with a base.
        OSError: a file cannot be read.
    """
    from modelpatch.inspect.inspection import inspect_patch as run

    return run(patch, base=base, max_target_bytes=max_target_bytes)


def compare(
    old: PathLike,
    new: PathLike,
    *,
    effort: str = "best",
    features: DecoderFeatures = DEFAULT_FEATURES,
    peers: "Sequence[Peer] | None" = None,
    progress: Callable[[int, int, str], None] = lambda done, steps, what: None,
) -> "Comparison":
    """Return sizes and times of our patch and of every peer's for the files or folders `old` and `new`.

    Args:
        old: the base, a file or a folder.
        new: the target, of the same kind.
        effort: `best` measures our both efforts and all settings of the peers, `fast` our fast one alone and the
            settings of peers that are not slow.
        features: what the decoder on the device has; for our patches.
        peers: those to measure; all of them by default.
        progress: called before each step with the steps done, the steps in all, and what comes next.

    Raises:
        FolderError: one of the two is a folder and the other is not, or a folder holds a link or device.
        OSError: a file cannot be read.
    """
    from modelpatch.peers.comparison import compare as run

    return run(old, new, effort=effort, features=features, peers=peers, progress=progress)


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
    from modelpatch.diff.inputs import Contents, DiffInput, DiffSettings
    from modelpatch.diff.make import smallest_patch

    return smallest_patch(DiffInput(Contents(old), Contents(new), DiffSettings(effort, features)))


def diff_file(
    old: PathLike,
    new: PathLike,
    patch: PathLike,
    *,
    effort: str = "best",
    features: DecoderFeatures = DEFAULT_FEATURES,
) -> PatchHeader:
    """Write to `patch` what turns the file `old` into `new`; return the header written.

    Raises:
        SamePathError: `patch` is `old` or `new`.
        OSError: a file cannot be read or written; no half-written patch stays.
    """
    from modelpatch.diff.inputs import DiffSettings
    from modelpatch.diff.make import diff_file as run

    return run(old, new, patch, DiffSettings(effort, features))


def diff_folder(
    old_dir: PathLike,
    new_dir: PathLike,
    patch: PathLike,
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
    from modelpatch.diff.folder import diff_folder as run
    from modelpatch.diff.inputs import DiffSettings

    return run(old_dir, new_dir, patch, DiffSettings(effort, features))
