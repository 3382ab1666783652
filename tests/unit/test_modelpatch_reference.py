"""modelpatch and an independent decoder, written from the specification alone, agree on every patch."""

import functools
import importlib.util
import io
import operator
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelpatch
from modelpatch import DecoderFeatures, PatchError
from modelpatch.format import big_integers
from modelpatch.installed import engine
from tests import reference_decoder, reference_folders
from tests.patch_damage import PAIRS, damaged, damaged_body, refitted, related_pair
from tests.vectors.hand_folders import FolderVector
from tests.vectors.hand_valid import Vector
from tests.vectors.make_patches import read_hand_made

VALID_FILES = sorted((Path(__file__).parents[1] / "vectors" / "patches" / "valid").glob("*.patch"))
HAND = read_hand_made()
MAX_TARGET = 1 << 24
needs_zstd = pytest.mark.skipif(importlib.util.find_spec("zstandard") is None, reason="no module for zstd")
FEATURES = st.lists(st.sampled_from([f for f in DecoderFeatures if f is not DecoderFeatures.ZSTD])).map(
    lambda flags: functools.reduce(operator.or_, flags, DecoderFeatures.NONE)
)


def by_modelpatch(patch: bytes, base: bytes) -> bytes | None:
    """Return the target, None where the patch is refused."""
    out = io.BytesIO()
    try:
        modelpatch.apply_stream(io.BytesIO(base), io.BytesIO(patch), out, max_target_bytes=MAX_TARGET)
    except PatchError:
        return None
    return out.getvalue()


def by_reference(patch: bytes, base: bytes, *, strict: bool = False) -> bytes | None:
    """Return the target, None where the patch is refused."""
    try:
        return reference_decoder.decode(patch, base, MAX_TARGET, strict=strict)
    except reference_decoder.Invalid:
        return None


def folder_by_modelpatch(patch: bytes, base: Mapping[str, bytes], scratch: Path) -> dict[str, bytes] | None:
    """Return the files made, None where the patch is refused; nothing else may be in `scratch` afterwards."""
    old, out = scratch / "old", scratch / "out"
    for name, data in base.items():
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_bytes(data)
    old.mkdir(exist_ok=True)
    (scratch / "patch").write_bytes(patch)
    try:
        modelpatch.apply_folder(old, scratch / "patch", out, max_target_bytes=MAX_TARGET)
    except PatchError:
        assert sorted(path.name for path in scratch.iterdir()) == ["old", "patch"]
        return None
    assert sorted(path.name for path in scratch.iterdir()) == ["old", "out", "patch"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def folder_by_reference(patch: bytes, base: Mapping[str, bytes]) -> dict[str, bytes] | None:
    try:
        made = reference_folders.decode_folder(patch, {n.encode(): d for n, d in base.items()}, MAX_TARGET)
    except reference_decoder.Invalid:
        return None
    return {name.decode(): data for name, data in made.items()}


def marked(kind: str) -> list[object]:
    return [
        pytest.param(vector, id=name, marks=[needs_zstd] if name.startswith("zstd") else [])
        for name, vector in HAND[kind].items()
    ]


def test_the_reference_decoder_imports_nothing_of_ours() -> None:
    source = Path(reference_decoder.__file__).read_text() + Path(reference_folders.__file__).read_text()
    imports = {line.split()[1] for line in source.splitlines() if line.strip().startswith(("import ", "from "))}
    assert imports == {"hashlib", "lzma", "math", "struct", "zlib", "zstandard", "tests.reference_decoder"}


@pytest.mark.parametrize("path", VALID_FILES, ids=lambda path: path.stem)
def test_both_decode_the_vectors_made_by_the_diff(path: Path) -> None:
    patch, base = path.read_bytes(), path.with_suffix(".base").read_bytes()
    assert by_reference(patch, base) == by_modelpatch(patch, base) == path.with_suffix(".target").read_bytes()


@pytest.mark.parametrize("numpy", [True, False], ids=["numpy", "plain"])
@pytest.mark.parametrize("vector", marked("valid"))
def test_both_decode_the_valid_vectors(vector: Vector, numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not numpy:
        monkeypatch.setattr(engine, "find_arithmetic", lambda: big_integers)
    assert by_modelpatch(vector.patch, vector.base) == vector.target
    assert by_reference(vector.patch, vector.base, strict=True) == vector.target


@pytest.mark.parametrize("vector", marked("invalid"))
def test_both_refuse_the_invalid_vectors(vector: Vector) -> None:
    assert by_modelpatch(vector.patch, vector.base) is None
    assert by_reference(vector.patch, vector.base) is None


@pytest.mark.parametrize("vector", marked("valid_folders"))
def test_both_decode_the_valid_folder_vectors(vector: FolderVector, tmp_path: Path) -> None:
    assert folder_by_modelpatch(vector.patch, vector.base, tmp_path) == vector.target
    assert folder_by_reference(vector.patch, vector.base) == vector.target


@pytest.mark.parametrize("vector", marked("invalid_folders"))
def test_both_refuse_the_invalid_folder_vectors(vector: FolderVector, tmp_path: Path) -> None:
    assert folder_by_modelpatch(vector.patch, vector.base, tmp_path) is None
    assert folder_by_reference(vector.patch, vector.base) is None


@settings(max_examples=50)
@given(st.sampled_from(PAIRS), st.integers(0, 2**32), st.sampled_from(["fast", "best"]), FEATURES)
def test_both_decode_what_a_diff_makes(kind: str, seed: int, effort: str, features: DecoderFeatures) -> None:
    old, new = related_pair(kind, seed)
    patch = modelpatch.diff_bytes(old, new, effort=effort, features=features)
    assert modelpatch.read_header(patch).features & ~features == 0
    assert by_modelpatch(patch, old) == new
    assert by_reference(patch, old, strict=True) == new


SMALL = [v for name, v in HAND["valid"].items() if len(v.patch) < 400 and not name.startswith("zstd")]


@pytest.mark.slow
@settings(max_examples=1500)
@given(st.sampled_from(SMALL), st.sampled_from(SMALL), st.integers(0, 2**32))
def test_both_agree_on_damaged_patches(vector: Vector, donor: Vector, seed: int) -> None:
    patch = damaged(vector.patch, random.Random(seed), donor.patch)
    assert by_modelpatch(patch, vector.base) == by_reference(patch, vector.base)


@pytest.mark.slow
@settings(max_examples=2000)
@given(st.sampled_from(SMALL), st.sampled_from(SMALL), st.integers(0, 2**32))
def test_both_make_the_same_of_a_damaged_body_whose_digest_fits(vector: Vector, donor: Vector, seed: int) -> None:
    patch = damaged_body(vector.patch, random.Random(seed), donor.patch)
    fitting = refitted(patch, vector.base)
    made = by_reference(fitting or patch, vector.base)
    assert by_modelpatch(fitting or patch, vector.base) == made
    assert (made is None) == (fitting is None)


def test_a_fitting_digest_is_mostly_possible() -> None:
    rng = random.Random(1)
    patches = [(damaged_body(v.patch, rng, v.patch), v.base) for v in SMALL for _ in range(10)]
    assert sum(refitted(patch, base) is not None for patch, base in patches) > len(patches) // 10
