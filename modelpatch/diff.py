"""Owns making patches: plans are drawn up several ways, built, and the smallest that proves right is the patch.

Refuses to return a patch that it has not applied itself. Never larger than the compressed whole file and a
header. Needs numpy.
"""

import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from modelpatch import varint
from modelpatch.applying import apply_stream
from modelpatch.building import Body, BodyBuilder, solid_body
from modelpatch.errors import PatchError
from modelpatch.files import refuse_same_path, replacing
from modelpatch.folder import EntryKind
from modelpatch.forward import guess_type
from modelpatch.header import NO_DIGEST, DecoderFeatures, PatchHeader, PatchKind, read_header
from modelpatch.layout import Tensor, find_tensors
from modelpatch.matching import SeedIndex, index_seeds, match_files, match_region
from modelpatch.pairing import LEAST_TENSOR_BYTES, Pairing
from modelpatch.pieces import Bytes, Piece, as_bytes, split_equal_runs
from modelpatch.tree import TreeFile, scan, tree_sha256

PathLike = str | os.PathLike[str]
EFFORTS = ("fast", "best")
# Shortest equal runs that become copies of their own: short ones win on few changes, long ones on many.
_SPLITS = {"best": (12, 32, 128, 1024), "fast": (32, 1024)}
# A patch below this part of the target is not worth another plan.
_GOOD_ENOUGH = 200
# Above this many changed bytes the shortest splits make tables that cost more than they save.
_MANY_CHANGES = 256 << 10
_LZMA_TEXT, _LZMA_WORDS = 3, 92  # lc=3; lc=2, lp=0, pb=2 as (pb*5 + lp)*9 + lc


def diff_bytes(old: bytes, new: bytes, *, effort: str, features: DecoderFeatures) -> bytes:
    """Return the smallest patch found; see `modelpatch.diff_bytes`."""
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {EFFORTS}, not {effort!r}")
    patches = [*_delta_patches(old, new, effort, features)] if old and new else []
    smallest = min((len(p) for p in patches), default=len(new) + 128)
    patches += _whole_patches(new, smallest, effort, features)
    for patch in sorted(patches, key=len):
        if _makes(old, patch, new):
            return patch
    raise PatchError("no plan gave a right patch")  # a defect of this package: a stored whole file cannot fail


def diff_file(
    old: PathLike, new: PathLike, patch: PathLike, *, effort: str, features: DecoderFeatures
) -> PatchHeader:
    """Write the patch of two files; see `modelpatch.diff_file`."""
    refuse_same_path(patch, [old, new])
    made = diff_bytes(Path(old).read_bytes(), Path(new).read_bytes(), effort=effort, features=features)
    with replacing(patch) as out:
        out.write(made)
    return read_header(made)


def diff_folder(
    old_dir: PathLike, new_dir: PathLike, patch: PathLike, *, effort: str, features: DecoderFeatures
) -> PatchHeader:
    """Write the patch of two folders; see `modelpatch.diff_folder`."""
    refuse_same_path(patch, [old_dir, new_dir])
    old_files, new_files = scan(old_dir), scan(new_dir)
    body, headers = bytearray(varint.encode(len(new_files))), []
    for file in new_files:
        data = (Path(new_dir) / file.path).read_bytes()
        entry, made = _entry(Path(old_dir), old_files, file, data, effort, features)
        body += entry + made
        headers += [read_header(made)] if made else []
    header = _folder_header(old_files, new_files, headers, len(body))
    with replacing(patch) as out:
        out.write(header.encode() + body)
    return header


def _delta_patches(old: bytes, new: bytes, effort: str, features: DecoderFeatures) -> list[bytes]:
    a, b = as_bytes(old), as_bytes(new)
    out: list[bytes] = []
    for plan in _plans(old, new, features):
        if out and min(map(len, out)) < len(new) // _GOOD_ENOUGH:
            break
        changed = sum(p.length for p in split_equal_runs(plan, a, b, 1) if not p.copy)
        splits = _SPLITS[effort] if changed < _MANY_CHANGES else _SPLITS[effort][-1:]
        for shortest in splits:
            pieces = split_equal_runs(plan, a, b, shortest)
            body = BodyBuilder(a, b, effort, features).build(pieces)
            out.append(file_patch(PatchKind.FILE, old, new, body))
    return out


def _plans(old: bytes, new: bytes, features: DecoderFeatures) -> Iterator[list[Piece]]:
    """Give different tilings of the target: by tensors where both formats are known, by position, by matches."""
    a, b = as_bytes(old), as_bytes(new)
    old_tensors, new_tensors = find_tensors(old), find_tensors(new)
    if old_tensors and new_tensors:
        yield _tensor_plan(a, b, old_tensors, new_tensors)
        return
    yield match_files(a, b)
    if abs(len(old) - len(new)) <= min(len(old), len(new)) // 8:
        same = min(len(old), len(new))
        yield _position_plan(a, b, same, features)


def _position_plan(old: Bytes, new: Bytes, same: int, features: DecoderFeatures) -> list[Piece]:
    """Compare what stands at the same place, as elements of the type that fits best."""
    width, is_float = guess_type(old[:same], new[:same], features)
    even = same // width * width
    plan = [Piece(0, even, 0, False, width, is_float), Piece(even, len(new) - even, None)]
    return [piece for piece in plan if piece.length]


def _tensor_plan(old: Bytes, new: Bytes, old_tensors: list[Tensor], new_tensors: list[Tensor]) -> list[Piece]:
    old_tensors = [t for t in old_tensors if t.length >= LEAST_TENSOR_BYTES]
    new_tensors = [t for t in new_tensors if t.length >= LEAST_TENSOR_BYTES]
    index = index_seeds(old, _gaps(old_tensors, len(old)))
    pairing = Pairing(old_tensors, old, new)
    out: list[Piece] = []
    at = 0
    for group, tensor in enumerate(new_tensors):
        out += _gap(index, new, at, tensor.offset, out)
        out += pairing.pieces(tensor, group)
        at = tensor.offset + tensor.length
    return out + _gap(index, new, at, len(new), out)


def _gap(index: SeedIndex, new: Bytes, start: int, end: int, before: list[Piece]) -> list[Piece]:
    if start == end:
        return []
    last = next((p for p in reversed(before) if p.base is not None), None)
    shift = 0 if last is None or last.base is None else last.base - last.target
    return match_region(index, new, start, end, start + shift)


def _gaps(tensors: list[Tensor], size: int) -> list[tuple[int, int]]:
    starts = [0] + [t.offset + t.length for t in tensors]
    ends = [t.offset for t in tensors] + [size]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def _whole_patches(new: bytes, smallest: int, effort: str, features: DecoderFeatures) -> list[bytes]:
    """Return the whole-file patches that could be smaller than `smallest` bytes."""
    bodies = [solid_body(new, [], features, effort)]
    if DecoderFeatures.LZMA in features and _may_be_smaller(new, smallest, effort):
        props = [_LZMA_TEXT] if effort == "fast" else [0, _LZMA_TEXT, _LZMA_WORDS]
        bodies.append(solid_body(new, props, features, effort))
        bodies.append(_untethered(new, effort, features))
    return [file_patch(PatchKind.WHOLE, b"", new, body) for body in bodies]


def _may_be_smaller(new: bytes, smallest: int, effort: str) -> bool:
    """Tell by a quick compression whether a better one, at most twice as good, could beat the best delta."""
    if len(new) <= 1 << 16:
        return True
    if len(zlib.compress(new, 1)) > 20 * smallest:
        return False  # far from it; spares the slower look
    return len(lzma.compress(new, preset=1)) < (2 if effort == "best" else 1.25) * smallest


def _untethered(new: bytes, effort: str, features: DecoderFeatures) -> Body:
    """Return a body without a base whose tensors are coded in byte planes."""
    array, pieces, at = as_bytes(new), [], 0
    for group, tensor in enumerate(find_tensors(new)):
        if tensor.offset > at:
            pieces.append(Piece(at, tensor.offset - at, None, width=1))
        pieces.append(Piece(tensor.offset, tensor.length, None, False, tensor.width, tensor.is_float, group))
        at = tensor.offset + tensor.length
    if at < len(new):
        pieces.append(Piece(at, len(new) - at, None))
    return BodyBuilder(as_bytes(b""), array, effort, features).build(pieces)


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
    old_dir: Path, old_files: list[TreeFile], file: TreeFile, data: bytes, effort: str, features: DecoderFeatures
) -> tuple[bytes, bytes]:
    """Return the entry of one target file and the patch that follows it, empty for an unchanged file."""
    own = next((i for i, f in enumerate(old_files) if f.name == file.name), None)
    equal = own if own is not None and old_files[own].sha256 == file.sha256 else None
    if equal is None:
        equal = next((i for i, f in enumerate(old_files) if f.sha256 == file.sha256), None)
    name = varint.encode(len(file.name)) + file.name
    if equal is not None:
        kind = EntryKind.KEEP if equal == own else EntryKind.RENAME
        return bytes((kind,)) + varint.encode(equal) + (name if kind is EntryKind.RENAME else b""), b""
    old = b"" if own is None else (old_dir / old_files[own].path).read_bytes()
    made = diff_bytes(old, data, effort=effort, features=features)
    if own is None or read_header(made).kind is PatchKind.WHOLE:
        return bytes((EntryKind.ADD,)) + name + varint.encode(len(made)), made
    return bytes((EntryKind.PATCH,)) + varint.encode(own) + varint.encode(len(made)), made


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
