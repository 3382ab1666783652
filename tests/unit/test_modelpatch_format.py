"""The patch format: golden vectors, damage, limits, transforms with and without numpy."""

import contextlib
import io
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelpatch
from modelpatch import PatchError, PatchFormatError, PatchKind, PatchLimitError, UnsupportedPatchError
from modelpatch.format import big_integers, varint
from modelpatch.format.lane import Lane, Transform
from modelpatch.format.transforms import Arithmetic, Delta, undo
from modelpatch.installed import engine, vectors
from tests.vectors.make_patches import HAND, LANES, hand_made, lane_patch, read_hand_made, valid_pairs

VECTORS = Path(__file__).parents[1] / "vectors" / "patches"
HAND_KINDS = ("valid", "invalid", "valid_folders", "invalid_folders")
VALID = sorted(p.stem for p in (VECTORS / "valid").glob("*.patch"))


def valid(name: str) -> tuple[bytes, bytes, bytes]:
    base, target, patch = ((VECTORS / "valid" / f"{name}.{s}").read_bytes() for s in ("base", "target", "patch"))
    return base, target, patch


def apply(base: bytes, patch: bytes, **limits: int) -> bytes:
    out = io.BytesIO()
    modelpatch.apply_stream(io.BytesIO(base), io.BytesIO(patch), out, **limits)
    return out.getvalue()


def test_vectors_are_there() -> None:
    assert len(VALID) >= 30
    assert {kind: len(found) > 10 for kind, found in read_hand_made().items()} == dict.fromkeys(HAND_KINDS, True)


@pytest.mark.parametrize("name", VALID)
def test_golden_patch_gives_its_target(name: str) -> None:
    base, target, patch = valid(name)
    assert apply(base, patch) == target


UNSUPPORTED = ("newer_version", "unknown_kind", "unknown_flag", "unknown_feature", "unknown_frame", "unknown_coder")


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_newer_versions_and_features_have_an_error_of_their_own(name: str) -> None:
    vector = read_hand_made()["invalid"][name]
    with pytest.raises(UnsupportedPatchError):
        apply(vector.base, vector.patch)


@pytest.mark.parametrize(("name", "number", "width", "grid"), LANES)
def test_every_transform_round_trips_over_any_bits(name: str, number: int, width: int, grid: int) -> None:
    base, target, patch = lane_patch(number, width, grid)
    ops = [op for frame in modelpatch.inspect_patch(patch).frames for op in frame.ops]
    assert {(op.transform, op.width) for op in ops} == {(name, width)}
    assert apply(base, patch) == target


@pytest.mark.parametrize("name", ["insert", "text", "float32", "grid", "whole", "lane_order_sorted_2"])
def test_a_truncated_patch_never_applies(name: str) -> None:
    base, _, patch = valid(name)
    for cut in range(len(patch)):
        with pytest.raises(PatchError):
            apply(base, patch[:cut])


@pytest.mark.parametrize("name", ["insert", "remove", "text", "grid", "whole", "equal"])
def test_a_flipped_bit_gives_an_error_or_the_exact_target(name: str) -> None:
    base, target, patch = valid(name)
    refused = 0
    for at in range(len(patch)):
        for bit in (1, 0x10, 0x80):
            damaged = patch[:at] + bytes((patch[at] ^ bit,)) + patch[at + 1 :]
            try:
                assert apply(base, damaged, max_target_bytes=1 << 24) == target
            except PatchError:
                refused += 1
    assert refused > 2 * len(patch)


@pytest.mark.slow
@settings(max_examples=1500)
@given(st.sampled_from(VALID), st.integers(0, 2**32))
def test_a_mutated_patch_never_succeeds_wrongly(name: str, seed: int) -> None:
    base, target, patch = valid(name)
    rng, damaged = random.Random(seed), bytearray(patch)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(damaged) + 1)
        damaged[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
    with contextlib.suppress(PatchError):
        assert apply(base, bytes(damaged), max_target_bytes=1 << 24) == target
    with contextlib.suppress(PatchError):
        modelpatch.inspect_patch(bytes(damaged))


@pytest.mark.parametrize("name", [n for n in VALID if modelpatch.read_header(valid(n)[2]).kind is PatchKind.FILE])
def test_another_base_is_refused_before_anything_is_written(name: str) -> None:
    base, _, patch = valid(name)
    out = io.BytesIO()
    for other in (base[:-1], base + b"x", bytes((base[0] ^ 1,)) + base[1:]):
        with pytest.raises(modelpatch.BaseMismatchError):
            modelpatch.apply_stream(io.BytesIO(other), io.BytesIO(patch), out)
    assert out.getvalue() == b""


def test_bytes_after_the_patch_are_refused() -> None:
    base, _, patch = valid("insert")
    with pytest.raises(PatchFormatError, match="follow"):
        apply(base, patch + b"\0")


def test_limits_of_the_caller_are_kept() -> None:
    base, target, patch = valid("float32")
    with pytest.raises(PatchLimitError, match="target"):
        apply(base, patch, max_target_bytes=len(target) - 1)
    with pytest.raises(PatchLimitError, match="memory"):
        apply(base, patch, max_memory_bytes=1 << 20)
    assert apply(base, patch, max_target_bytes=len(target)) == target


def test_a_frame_that_needs_more_than_the_header_declares_is_refused() -> None:
    base, _, patch = valid("float32")
    header = modelpatch.read_header(patch)
    lying = header._replace(memory_bytes=2048)
    with pytest.raises(PatchFormatError, match="memory"):
        apply(base, lying.encode() + patch[len(header.encode()) :])


def test_header_extensions_are_stepped_over() -> None:
    base, target, patch = valid("insert")
    header = modelpatch.read_header(patch)
    at = len(header.encode()) - len(varint.encode(header.body_length)) - 1
    assert patch[at] == 0
    extended = patch[:at] + varint.encode(5) + b"\x01\x03abc" + patch[at + 1 :]
    assert apply(base, extended) == target


def test_read_header_tells_what_the_patch_is_for() -> None:
    _base, target, patch = valid("whole")
    header = modelpatch.read_header(patch)
    assert (header.kind, header.base_length, header.target_length) == (PatchKind.WHOLE, 0, len(target))
    out = io.BytesIO()
    applied = modelpatch.apply_stream(None, io.BytesIO(patch), out)
    assert (applied.target_length, applied.patch_bytes) == (len(target), len(patch))


@given(st.integers(0, 2**63 - 1))
def test_varints_round_trip(value: int) -> None:
    coded = varint.encode(value)
    assert varint.decode(coded, 0) == (value, len(coded))
    assert len(coded) == max(1, -(-value.bit_length() // 7))


@given(st.integers(-(2**60), 2**60))
def test_zigzag_round_trips(value: int) -> None:
    assert varint.unzigzag(varint.zigzag(value)) == value


@pytest.mark.parametrize("arithmetic", [big_integers, vectors], ids=["standard library", "numpy"])
@given(st.sampled_from([t for t in Transform if t.value < 5]), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**32))
def test_each_arithmetic_undoes_what_the_diff_did(
    arithmetic: Arithmetic, transform: Transform, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 9000))
    new, old = (rng.integers(0, 256, count * width, dtype=np.uint8).view(f"<u{width}") for _ in range(2))
    from modelpatch.diff.transforms import Source, code, planes

    lane = Lane(transform, width)
    coded = code(Source(new, old, True), lane)
    assert coded is not None
    assert undo(Delta(lane, planes(coded), old.tobytes()), arithmetic) == new.tobytes()


_WITHOUT_NUMPY = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "zstandard"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
from pathlib import Path
from modelpatch.apply.files import apply_file
from modelpatch.installed.engine import InstalledEngine
for patch in sorted(Path(sys.argv[1]).glob("*.patch")):
    out = Path(sys.argv[2]) / patch.stem
    apply_file(patch.with_suffix(".base"), patch, out, engine=InstalledEngine(worth_bytes=0))
    assert out.read_bytes() == patch.with_suffix(".target").read_bytes(), patch
assert "numpy" not in sys.modules
print("same")
"""


def test_apply_without_numpy_gives_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WITHOUT_NUMPY, str(VECTORS / "valid"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("same\n", "")


def test_importing_the_package_imports_nothing_foreign() -> None:
    check = "import sys, modelpatch; print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'tensorflow'}))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


_ONE_APPLY = """
import sys
from modelpatch.apply.files import apply_file
from modelpatch.installed.engine import InstalledEngine
apply_file(*sys.argv[1:4], engine=InstalledEngine(worth_bytes=int(sys.argv[4])))
print("numpy" in sys.modules)
"""


@pytest.mark.parametrize(("worth_bytes", "loaded"), [(1, True), (1 << 30, False)])
def test_numpy_is_imported_for_much_work_alone(worth_bytes: int, loaded: bool, tmp_path: Path) -> None:
    vector = VECTORS / "valid" / "float32"
    paths = [str(path) for path in (vector.with_suffix(".base"), vector.with_suffix(".patch"), tmp_path / "out")]
    command = [sys.executable, "-c", _ONE_APPLY, *paths, str(worth_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{loaded}\n"


def test_numpy_is_used_at_once_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Arithmetic] = []

    def noting(delta: Delta, arithmetic: Arithmetic) -> bytes:
        used.append(arithmetic)
        return undo(delta, arithmetic)

    monkeypatch.setattr(engine, "undo", noting)
    base, target, patch = valid("float32")
    assert apply(base, patch) == target
    assert used == [vectors]


_WHAT_APPLY_IMPORTS = """
import sys, modelpatch
modelpatch.apply_file(*sys.argv[1:])
rooms = {m.split(".")[1] for m in sys.modules if m.startswith("modelpatch.")}
print(sorted(rooms), "numpy" in sys.modules, "zstandard" in sys.modules)
"""


def test_applying_a_file_loads_what_a_device_runs_and_nothing_else(tmp_path: Path) -> None:
    vector = VECTORS / "valid" / "float32"
    paths = [str(path) for path in (vector.with_suffix(".base"), vector.with_suffix(".patch"), tmp_path / "out")]
    command = [sys.executable, "-c", _WHAT_APPLY_IMPORTS, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['apply', 'errors', 'format', 'functions', 'installed'] False False\n"


def test_vectors_can_be_made_again() -> None:
    assert json.loads(HAND.read_text()) == json.loads(json.dumps(hand_made()))
    for name, (base, target, features) in valid_pairs().items():
        assert valid(name)[:2] == (base, target)
        assert modelpatch.read_header(valid(name)[2]).features & ~features == 0


def test_the_worked_example_of_the_specification_is_right() -> None:
    text = (Path(__file__).parents[2] / "docs" / "patch-format.md").read_text()
    patch = bytes.fromhex(text.split("```hex\n")[1].split("```")[0])
    base = bytes(range(100)) + b"old tail"
    assert apply(base, patch) == base[:50] + b"new" + base[50:]
