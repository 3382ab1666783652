"""Owns making the patch of a file: of several tilings, built, the smallest that proves right is the patch.

Refuses to return a patch that it has not applied itself. Where a delta is larger than the compressed
whole file, it returns that. Needs numpy.
"""

import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from modelpatch.apply.files import refuse_same_path, replacing
from modelpatch.apply.stream import apply_stream
from modelpatch.diff.building import Body, build_body, solid_body
from modelpatch.diff.inputs import EFFORTS, DiffInput, DiffSettings, read_contents
from modelpatch.diff.pieces import Piece, changed_elements, split_equal_runs
from modelpatch.diff.tiling import tile_without_base, tilings
from modelpatch.errors import PatchError
from modelpatch.format.header import NO_DIGEST, DecoderFeatures, PatchHeader, PatchKind, read_header
from modelpatch.installed.engine import InstalledEngine

PathLike = str | os.PathLike[str]
# Shortest equal runs, in bytes, that become copies of their own: short ones win on few changes, long ones on many.
# None decides by the share of changes.
_SPLITS: dict[str, tuple[int | None, ...]] = {"best": (None, 12, 32, 128, 1024), "fast": (None,)}
# A patch below this part of the target is not worth another tiling.
_GOOD_ENOUGH = 200
# Above this many changed elements only one split is tried.
_MANY_CHANGES = 64 << 10
# Parts of a target by which it is judged whether it compresses at all.
_PROBE_BYTES, _PROBES = 32 << 10, 8
_PROBED_BYTES = 4 << 20  # above this a target is judged by its parts alone
_COMPRESSORS = DecoderFeatures.LZMA | DecoderFeatures.DEFLATE | DecoderFeatures.ZSTD
# lc=3; lc=2, pb=2; lc=3, pb=2, the usual ones: (pb*5 + lp)*9 + lc
_LZMA_TEXT, _LZMA_WORDS, _LZMA_USUAL = 3, 92, 93


def smallest_patch(given: DiffInput) -> bytes:
    """Return the smallest patch found."""
    old, new = given.old.data, given.new.data
    patches: list[bytes] = []
    if old and new:
        for one in EFFORTS[: EFFORTS.index(given.settings.effort) + 1]:  # what fast finds is now and then smaller
            patches += _delta_patches(given.by_effort(one))
    patches += _whole_patches(given, min(map(len, patches), default=len(new) + 128))
    for patch in sorted(patches, key=len):
        if _makes(old, patch, new):
            return patch
    raise PatchError("no tiling gave a right patch")  # a defect of this package: a stored whole file cannot fail


def diff_file(old: PathLike, new: PathLike, patch: PathLike, settings: DiffSettings) -> PatchHeader:
    """Write the patch of two files; see `modelpatch.diff_file`."""
    refuse_same_path(patch, [old, new])
    made = smallest_patch(DiffInput(read_contents(Path(old)), read_contents(Path(new)), settings))
    with replacing(patch) as out:
        out.write(made)
    return read_header(made)


def _delta_patches(given: DiffInput) -> list[bytes]:
    old, new = given.old, given.new
    out: list[bytes] = []
    for tiling in tilings(given):
        if out and min(map(len, out)) < len(new.data) // _GOOD_ENOUGH:
            break
        for shortest in _splits(tiling, given):
            body = build_body(given, split_equal_runs(tiling, old.array, new.array, shortest))
            out.append(file_patch(PatchKind.FILE, old.data, new.data, body))
    return out


def _splits(tiling: list[Piece], given: DiffInput) -> tuple[int | None, ...]:
    deltas = (piece for piece in tiling if piece.base is not None and not piece.copy)
    changed = sum(len(changed_elements(piece, given.old.array, given.new.array)) for piece in deltas)
    return _SPLITS[given.settings.effort] if changed < _MANY_CHANGES else (None,)


def _whole_patches(given: DiffInput, smallest: int) -> list[bytes]:
    """Return the whole-file patches that could be smaller than `smallest` bytes."""
    new = given.new.data
    return [file_patch(PatchKind.WHOLE, b"", new, body) for body in _whole_bodies(given, smallest)]


def _whole_bodies(given: DiffInput, smallest: int) -> Iterator[Body]:
    new, settings = given.new.data, given.settings
    yield solid_body(new, [], settings)
    if settings.features & _COMPRESSORS and _may_be_smaller(new, smallest, settings):
        props = [_LZMA_TEXT] if settings.fast else [0, _LZMA_TEXT, _LZMA_WORDS, _LZMA_USUAL]
        yield solid_body(new, props, settings)
        yield build_body(given.without_base(), tile_without_base(given.new))


def _may_be_smaller(new: bytes, smallest: int, settings: DiffSettings) -> bool:
    """Return whether a better compression of the whole could beat the best delta, by a quick one, of a part first."""
    if len(new) <= (1 << 12 if settings.fast else 1 << 16):
        return True
    step = max(_PROBE_BYTES, len(new) // _PROBES)
    probes = b"".join(new[at : at + _PROBE_BYTES] for at in range(0, len(new), step))
    # LZMA takes longer for the parts than the rest of a fast diff of a small change.
    quick = zlib.compress(probes, 1) if settings.fast else lzma.compress(probes, preset=1)
    expected = len(quick) * len(new) / len(probes)
    if settings.fast or len(new) > _PROBED_BYTES or expected > 2 * smallest:
        return expected < 1.25 * smallest
    return len(lzma.compress(new, preset=1)) < 1.25 * smallest


def file_patch(kind: PatchKind, old: bytes, new: bytes, body: Body) -> bytes:
    """Return the patch with this body: the header says what `old` and `new` are (`old` unused for kind whole)."""
    header = PatchHeader(
        kind=kind,
        features=body.features,
        memory_bytes=body.memory_bytes,
        base_sha256=NO_DIGEST if kind is PatchKind.WHOLE else hashlib.sha256(old).hexdigest(),
        base_length=len(old),
        target_sha256=hashlib.sha256(new).hexdigest(),
        target_length=len(new),
        body_length=len(body.data),
    )
    return header.encode() + body.data


def _makes(old: bytes, patch: bytes, new: bytes) -> bool:
    out = io.BytesIO()
    try:
        apply_stream(io.BytesIO(old), io.BytesIO(patch), out, engine=InstalledEngine())
    except PatchError:
        return False
    return out.getvalue() == new
