"""Making patches: exact for any edit, small for small changes, never larger than the whole."""

import io
import json
import lzma
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelpatch
from modelpatch import DecoderFeatures, PatchKind
from modelpatch.apply.tree import TreeFile
from modelpatch.diff.folder_bases import FolderBases
from modelpatch.tensors.find import find_tensors

HEADER_BYTES = 110


def apply(base: bytes, patch: bytes) -> bytes:
    out = io.BytesIO()
    modelpatch.apply_stream(io.BytesIO(base), io.BytesIO(patch), out)
    return out.getvalue()


def transforms(patch: bytes) -> set[str | None]:
    return {op.transform for frame in modelpatch.inspect_patch(patch).frames for op in frame.ops if op.transform}


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    header, body = {}, b""
    names = {"float32": "F32", "float16": "F16", "int8": "I8"}
    for name, tensor in tensors.items():
        data = tensor.tobytes()
        header[name] = {
            "dtype": names[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


edits = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 60), st.binary(max_size=60)), min_size=0, max_size=6)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.binary(max_size=3000), edits, st.sampled_from(["fast", "best"]))
def test_any_edit_round_trips_and_is_never_larger_than_the_whole(old: bytes, changes: list, effort: str) -> None:
    new = bytearray(old)
    for at, removed, added in changes:
        new[at : at + removed] = added
    patch = modelpatch.diff_bytes(old, bytes(new), effort=effort)
    assert apply(old, patch) == new
    raw = lzma.compress(bytes(new), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "preset": 9}])
    assert len(patch) <= min(len(new), len(raw)) + HEADER_BYTES


@pytest.mark.parametrize(("old", "new"), [(b"", b""), (b"", b"a"), (b"a", b""), (b"a", b"b"), (b"ab" * 9, b"ab" * 8)])
def test_tiny_files_round_trip(old: bytes, new: bytes) -> None:
    assert apply(old, modelpatch.diff_bytes(old, new)) == new


def test_an_unchanged_file_costs_the_header_alone() -> None:
    data = np.random.default_rng(1).bytes(200_000)
    assert len(modelpatch.diff_bytes(data, data)) <= 96


def test_a_few_changed_bytes_cost_little_more_than_themselves() -> None:
    old = np.random.default_rng(2).bytes(100_000)
    new = old[:5000] + b"12345678" + old[5000:90_000] + b"!" + old[90_001:]
    assert len(modelpatch.diff_bytes(old, new)) <= 96 + 40


def test_a_manifest_with_a_new_digest_costs_little_more_than_the_digest() -> None:
    def manifest(digest: str, version: int) -> bytes:
        files = [{"name": f"f{i}", "sha256": f"{i * 7919:064x}", "size": i} for i in range(20)]
        files[3]["sha256"] = digest
        return json.dumps({"version": version, "files": files}, indent=1).encode()

    rng = np.random.default_rng(3)
    patch = modelpatch.diff_bytes(manifest(rng.bytes(32).hex(), 1), manifest(rng.bytes(32).hex(), 2))
    assert len(patch) <= 96 + 64 + 40


@pytest.mark.slow
def test_a_finetuned_float_tensor_beats_bytewise_deltas() -> None:
    rng = np.random.default_rng(4)
    old = rng.normal(size=60_000).astype("<f4")
    new = (old + rng.normal(size=60_000) * 1e-3).astype("<f4")
    patch = modelpatch.diff_bytes(safetensors({"w": old}), safetensors({"w": new}))
    assert transforms(patch) & {"order", "order_sorted"}
    assert len(patch) < 0.65 * old.nbytes
    assert apply(safetensors({"w": old}), patch) == safetensors({"w": new})


@pytest.mark.slow
def test_a_head_on_a_grid_takes_the_grid_transform() -> None:
    rng = np.random.default_rng(5)
    old = (rng.integers(-200, 200, (5, 1280)) / 128).astype("<f4")
    new = (old + rng.integers(-2, 3, old.shape) / 128).astype("<f4")
    patch = modelpatch.diff_bytes(safetensors({"w": old}), safetensors({"w": new}))
    assert "grid" in transforms(patch)
    assert len(patch) < 2500  # 6400 weights at log2(5) bits are 1858 bytes; LZMA codes literals a quarter worse


def test_an_inserted_class_is_found_among_the_rows() -> None:
    rng = np.random.default_rng(6)
    old = rng.normal(size=(5, 1280)).astype("<f4")
    row = rng.normal(size=(1, 1280)).astype("<f4")
    new = np.concatenate((old[:2], row, old[2:]))
    patch = modelpatch.diff_bytes(safetensors({"w": old}), safetensors({"w": new}))
    assert len(patch) < row.nbytes + 250


def test_a_moved_tensor_is_copied() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(2, 5000)).astype("<f4")
    patch = modelpatch.diff_bytes(safetensors({"a": a, "b": b}), safetensors({"b": b, "a": a}))
    assert len(patch) < 250


def test_diff_uses_no_feature_that_the_device_lacks() -> None:
    rng = np.random.default_rng(8)
    old = (rng.integers(-200, 200, 6400) / 128).astype("<f4").tobytes()
    new = (rng.integers(-200, 200, 6400) / 128).astype("<f4").tobytes()
    for features in (DecoderFeatures.NONE, DecoderFeatures.LZMA, DecoderFeatures.GRID):
        patch = modelpatch.diff_bytes(old, new, features=features)
        assert int(modelpatch.read_header(patch).features) & ~int(features) == 0
        assert apply(old, patch) == new


def test_an_unrelated_target_becomes_a_whole_file_patch_and_says_so() -> None:
    rng = np.random.default_rng(9)
    patch = modelpatch.diff_bytes(rng.bytes(5000), rng.bytes(5000))
    assert modelpatch.read_header(patch).kind is PatchKind.WHOLE
    assert len(patch) <= 5000 + HEADER_BYTES


def test_a_damaged_model_file_is_treated_as_bytes() -> None:
    good = safetensors({"w": np.arange(3000, dtype="<f4")})
    broken = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 8
    for old, new in ((good, good[:9000]), (broken, broken[:-5]), (b"\xff" * 8 + b"{" + good, good)):
        assert apply(old, modelpatch.diff_bytes(old, new)) == new
    assert find_tensors(broken) == []


def test_effort_must_be_known() -> None:
    with pytest.raises(ValueError, match="effort"):
        modelpatch.diff_bytes(b"a", b"b", effort="hard")


def test_a_tensor_larger_than_a_frame_is_cut_into_bounded_frames() -> None:
    rng = np.random.default_rng(10)
    old = rng.integers(-90, 90, 5 << 19, dtype=np.int8)
    new = old + (rng.random(old.shape) < 0.3).astype(np.int8)
    patch = modelpatch.diff_bytes(safetensors({"w": old}), safetensors({"w": new}), effort="fast")
    assert len(modelpatch.inspect_patch(patch).frames) >= 3
    assert modelpatch.read_header(patch).memory_bytes <= 20 << 20
    assert apply(safetensors({"w": old}), patch) == safetensors({"w": new})


_PEAK = """
import resource, sys, modelpatch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
modelpatch.apply_file(*sys.argv[1:4])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before, "numpy" in sys.modules)
"""


def _peak_kib(base: Path, patch: Path, target: Path) -> int:
    command = [sys.executable, "-c", _PEAK, str(base), str(patch), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return int(done.stdout.split()[0])


@pytest.mark.slow
def test_memory_of_apply_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """10 and 80 MB, every element of the first 2 MB changed: at most 8 MB between them, 64 MB in all."""
    peaks = []
    for mib in (10, 80):
        rng = np.random.default_rng(11)
        old = rng.integers(0, 255, mib << 20, dtype=np.uint8)
        new = old.copy()
        new[: 2 << 20] += rng.integers(1, 9, 2 << 20, dtype=np.uint8)
        new[-5000:] += 1
        paths = [tmp_path / f"{mib}.{name}" for name in ("base", "patch", "target")]
        paths[0].write_bytes(old.tobytes())
        paths[1].write_bytes(_patch_by_position(old, new))
        peaks.append(_peak_kib(*paths))
        assert paths[2].read_bytes() == new.tobytes()
    assert abs(peaks[1] - peaks[0]) < 8 << 10
    assert max(peaks) < 64 << 10


def _patch_by_position(old: np.ndarray, new: np.ndarray) -> bytes:
    """Build the patch without the matcher, which would take minutes on 80 MB of noise."""
    from modelpatch.diff.building import build_body
    from modelpatch.diff.inputs import Contents, DiffInput, DiffSettings
    from modelpatch.diff.make import file_patch
    from modelpatch.diff.pieces import Piece, split_equal_runs

    pieces = split_equal_runs([Piece(0, len(new), 0, False, 1)], old, new, 1024)
    settings = DiffSettings("fast", modelpatch.DEFAULT_FEATURES)
    given = DiffInput(Contents(old.tobytes()), Contents(new.tobytes()), settings)
    return file_patch(PatchKind.FILE, given.old.data, given.new.data, build_body(given, pieces))


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def folder_patch(tmp_path: Path, old: dict[str, bytes], new: dict[str, bytes]) -> dict[str | None, str]:
    """Make and apply the patch of two folders; return what it does to each file."""
    before, after = write_tree(tmp_path / "old", old), write_tree(tmp_path / "new", new)
    modelpatch.diff_folder(before, after, tmp_path / "p", effort="fast")
    modelpatch.apply_folder(before, tmp_path / "p", tmp_path / "made")
    made = {p.relative_to(tmp_path / "made").as_posix(): p.read_bytes() for p in (tmp_path / "made").rglob("*.*")}
    assert made == new
    files = modelpatch.inspect_patch(tmp_path / "p", base=before).files
    return {file.name: f"{file.action} {file.base_name}" for file in files}


def changed(data: bytes) -> bytes:
    return data[:100] + b"xy" + data[102:]


def test_a_renamed_file_with_changes_is_patched_not_sent_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    model, other, note = rng.bytes(50_000), rng.bytes(9000), rng.bytes(50_000)
    done = folder_patch(
        tmp_path,
        {"model_v1.tflite": model, "small_v1.tflite": other, "note.txt": note},
        {"model_v2.tflite": changed(model), "small_v2.tflite": other + b"!", "news.json": note[:900]},
    )
    assert done == {
        "model_v2.tflite": "patch_rename model_v1.tflite",
        "small_v2.tflite": "patch_rename small_v1.tflite",
        "news.json": "add None",
    }
    assert (tmp_path / "p").stat().st_size < 1600


def test_files_of_a_renamed_folder_are_each_patched_from_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    parts = {f"part{i}.bin": rng.bytes(3000 - i) for i in range(4)} | {
        f"same{i}.bin": rng.bytes(5000) for i in range(4)
    }
    before = {f"v1/{name}": data for name, data in parts.items()}
    after = {f"v2/{name}": changed(data + b"9" * 3) for name, data in parts.items()}
    done = folder_patch(tmp_path, before, after)
    assert done == {f"v2/{name}": f"patch_rename v1/{name}" for name in parts}


def test_a_file_that_keeps_its_name_is_no_base_of_another(tmp_path: Path) -> None:
    data = np.random.default_rng(14).bytes(3000)
    done = folder_patch(tmp_path, {"a.bin": data}, {"a.bin": changed(data), "b.bin": data[::-1]})
    assert done == {"a.bin": "patch a.bin", "b.bin": "add None"}


def test_a_new_file_unlike_any_gone_one_is_added_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(15)
    assert folder_patch(tmp_path, {"a.bin": rng.bytes(3000)}, {"b.bin": rng.bytes(3000)}) == {"b.bin": "add None"}


def test_bases_are_found_fast_among_ten_thousand_files() -> None:
    def tree(version: int) -> list[TreeFile]:
        return [TreeFile(b"v%d-%05d.bin" % (version, i), 100 + i % 3, f"{i * version:064x}") for i in range(10_000)]

    old, new = tree(1), tree(2)
    start = time.process_time()
    bases = FolderBases(old, new)
    found = [bases.take_likely(file) for file in new]
    assert found == list(range(10_000))
    assert bases.equal(new[3]) == 6
    assert bases.own(new[3]) is None
    assert time.process_time() - start < 2
