"""Owns making patches: plans are drawn up several ways, built, and the smallest that proves right is the patch.

Refuses to return a patch that it has not applied itself. Where a delta is larger than the compressed
whole file, it gives that. Needs numpy.
"""

import hashlib
import io
import lzma
import os
import zlib
from pathlib import Path

from modelpatch.apply.files import refuse_same_path, replacing
from modelpatch.apply.folder import EntryKind
from modelpatch.apply.stream import apply_stream
from modelpatch.apply.tree import TreeFile, scan, tree_sha256
from modelpatch.diff.building import Body, BodyBuilder, solid_body
from modelpatch.diff.folder_bases import FolderBases
from modelpatch.diff.pieces import Bytes, Piece, as_bytes, changed_elements, split_equal_runs
from modelpatch.diff.planning import plans, untethered_plan
from modelpatch.errors import PatchError, SamePathError
from modelpatch.format import varint
from modelpatch.format.header import NO_DIGEST, DecoderFeatures, PatchHeader, PatchKind, read_header
from modelpatch.tensors.tensorbundle import BundleIndex, index_beside

PathLike = str | os.PathLike[str]
EFFORTS = ("fast", "best")
# Shortest equal runs, in bytes, that become copies of their own: short ones win on few changes, long ones on many.
# None decides by the share of changes.
_SPLITS: dict[str, tuple[int | None, ...]] = {"best": (None, 12, 32, 128, 1024), "fast": (None,)}
# A patch below this part of the target is not worth another plan.
_GOOD_ENOUGH = 200
# Above this many changed elements only one split is tried.
_MANY_CHANGES = 64 << 10
# Parts of a target by which it is judged whether it compresses at all.
_PROBE_BYTES, _PROBES = 32 << 10, 8
_PROBED_BYTES = 4 << 20  # above this a target is judged by its parts alone
_COMPRESSORS = DecoderFeatures.LZMA | DecoderFeatures.DEFLATE | DecoderFeatures.ZSTD
# lc=3; lc=2, pb=2; lc=3, pb=2, the usual ones: (pb*5 + lp)*9 + lc
_LZMA_TEXT, _LZMA_WORDS, _LZMA_USUAL = 3, 92, 93


def diff_bytes(
    old: bytes,
    new: bytes,
    *,
    effort: str,
    features: DecoderFeatures,
    old_index: BundleIndex | None = None,
    new_index: BundleIndex | None = None,
) -> bytes:
    """Return the smallest patch found; see `modelpatch.diff_bytes`."""
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {EFFORTS}, not {effort!r}")
    patches: list[bytes] = []
    if old and new:
        for one in EFFORTS[: EFFORTS.index(effort) + 1]:  # what fast finds is now and then smaller
            patches += _delta_patches(old, new, one, features, old_index, new_index)
    smallest = min((len(p) for p in patches), default=len(new) + 128)
    patches += _whole_patches(new, smallest, effort, features, new_index)
    for patch in sorted(patches, key=len):
        if _makes(old, patch, new):
            return patch
    raise PatchError("no plan gave a right patch")  # a defect of this package: a stored whole file cannot fail


def diff_file(
    old: PathLike, new: PathLike, patch: PathLike, *, effort: str, features: DecoderFeatures
) -> PatchHeader:
    """Write the patch of two files; see `modelpatch.diff_file`."""
    refuse_same_path(patch, [old, new])
    made = diff_bytes(
        Path(old).read_bytes(),
        Path(new).read_bytes(),
        effort=effort,
        features=features,
        old_index=index_beside(Path(old)),
        new_index=index_beside(Path(new)),
    )
    with replacing(patch) as out:
        out.write(made)
    return read_header(made)


def diff_folder(
    old_dir: PathLike, new_dir: PathLike, patch: PathLike, *, effort: str, features: DecoderFeatures
) -> PatchHeader:
    """Write the patch of two folders; see `modelpatch.diff_folder`."""
    refuse_same_path(patch, [old_dir, new_dir])
    for folder in (old_dir, new_dir):
        if Path(folder).resolve() in Path(patch).resolve().parents:
            raise SamePathError(f"{patch}: this is inside of the folder {folder}, which is only read")
    old_files, new_files = scan(old_dir), scan(new_dir)
    bases = FolderBases(old_files, new_files)
    body, headers = bytearray(varint.encode(len(new_files))), []
    for file in new_files:
        path = Path(new_dir) / file.path
        entry, made = _entry(Path(old_dir), old_files, bases, file, path, effort, features)
        body += entry + made
        headers += [read_header(made)] if made else []
    header = _folder_header(old_files, new_files, headers, len(body))
    with replacing(patch) as out:
        out.write(header.encode() + body)
    return header


def _delta_patches(
    old: bytes,
    new: bytes,
    effort: str,
    features: DecoderFeatures,
    old_index: BundleIndex | None = None,
    new_index: BundleIndex | None = None,
) -> list[bytes]:
    a, b = as_bytes(old), as_bytes(new)
    out: list[bytes] = []
    for plan in plans(old, new, features, effort=effort, old_index=old_index, new_index=new_index):
        if out and min(map(len, out)) < len(new) // _GOOD_ENOUGH:
            break
        for shortest in _splits(plan, a, b, effort):
            pieces = split_equal_runs(plan, a, b, shortest)
            body = BodyBuilder(a, b, effort, features).build(pieces)
            out.append(file_patch(PatchKind.FILE, old, new, body))
    return out


def _splits(plan: list[Piece], old: Bytes, new: Bytes, effort: str) -> tuple[int | None, ...]:
    changed = sum(len(changed_elements(p, old, new)) for p in plan if p.base is not None and not p.copy)
    return _SPLITS[effort] if changed < _MANY_CHANGES else (None,)


def _whole_patches(
    new: bytes, smallest: int, effort: str, features: DecoderFeatures, new_index: BundleIndex | None = None
) -> list[bytes]:
    """Return the whole-file patches that could be smaller than `smallest` bytes."""
    bodies = [solid_body(new, [], features, effort)]
    if features & _COMPRESSORS and _may_be_smaller(new, smallest, effort):
        props = [_LZMA_TEXT] if effort == "fast" else [0, _LZMA_TEXT, _LZMA_WORDS, _LZMA_USUAL]
        bodies.append(solid_body(new, props, features, effort))
        bodies.append(_untethered(new, effort, features, new_index))
    return [file_patch(PatchKind.WHOLE, b"", new, body) for body in bodies]


def _may_be_smaller(new: bytes, smallest: int, effort: str) -> bool:
    """Tell by a quick compression, of a part first, whether a better one of the whole could beat the best delta."""
    if len(new) <= (1 << 12 if effort == "fast" else 1 << 16):
        return True
    step = max(_PROBE_BYTES, len(new) // _PROBES)
    probes = b"".join(new[at : at + _PROBE_BYTES] for at in range(0, len(new), step))
    # LZMA takes longer for the parts than the rest of a fast diff of a small change.
    quick = zlib.compress(probes, 1) if effort == "fast" else lzma.compress(probes, preset=1)
    expected = len(quick) * len(new) / len(probes)
    if effort == "fast" or len(new) > _PROBED_BYTES or expected > 2 * smallest:
        return expected < 1.25 * smallest
    return len(lzma.compress(new, preset=1)) < 1.25 * smallest


def _untethered(new: bytes, effort: str, features: DecoderFeatures, new_index: BundleIndex | None) -> Body:
    """Return a body without a base whose tensors are coded in byte planes."""
    return BodyBuilder(as_bytes(b""), as_bytes(new), effort, features).build(untethered_plan(new, new_index))


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
        apply_stream(io.BytesIO(old), io.BytesIO(patch), out)
    except PatchError:
        return False
    return out.getvalue() == new


def _entry(
    old_dir: Path,
    old_files: list[TreeFile],
    bases: FolderBases,
    file: TreeFile,
    new: Path,
    effort: str,
    features: DecoderFeatures,
) -> tuple[bytes, bytes]:
    """Return the entry of one target file and the patch that follows it, empty for an unchanged file."""
    own, equal = bases.own(file), bases.equal(file)
    name = varint.encode(len(file.name)) + file.name
    if equal is not None:
        kind = EntryKind.KEEP if equal == own else EntryKind.RENAME
        return bytes((kind,)) + varint.encode(equal) + (name if kind is EntryKind.RENAME else b""), b""
    source = own if own is not None else bases.take_likely(file)
    old, old_index = b"", None
    if source is not None:
        path = old_dir / old_files[source].path
        old, old_index = path.read_bytes(), index_beside(path)
    made = diff_bytes(
        old, new.read_bytes(), effort=effort, features=features, old_index=old_index, new_index=index_beside(new)
    )
    length = varint.encode(len(made))
    if source is None or read_header(made).kind is PatchKind.WHOLE:
        return bytes((EntryKind.ADD,)) + name + length, made
    if source != own:
        return bytes((EntryKind.PATCH_RENAME,)) + varint.encode(source) + name + length, made
    return bytes((EntryKind.PATCH,)) + varint.encode(source) + length, made


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
