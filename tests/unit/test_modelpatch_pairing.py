"""Which old tensor a new one is made from, and how rows, columns and gaps are tiled."""

import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelpatch
from modelpatch.diff.alignment import align_dimension, align_rows, source_rows
from modelpatch.diff.inputs import Contents, DiffInput, DiffSettings
from modelpatch.diff.matching import SEED_BYTES, index_seeds, match_files
from modelpatch.diff.pairing import ResizedPartners, Side, pair_tensors, without_counters
from modelpatch.diff.pieces import Piece, Stored, as_bytes
from modelpatch.diff.tiling import rescale_of, tilings
from modelpatch.tensors.find import Quantization, Tensor, find_tensors
from tests import model_files
from tests.unit.test_modelpatch_diff import apply, safetensors

RNG = np.random.default_rng(31)
ALL = modelpatch.DEFAULT_FEATURES


def fast(old: bytes, new: bytes) -> DiffInput:
    return DiffInput(Contents(old), Contents(new), DiffSettings("fast", ALL))


def tiling_of(old: bytes, new: bytes) -> list[Piece]:
    tiling = next(iter(tilings(fast(old, new))))
    at = 0
    for piece in tiling:
        assert piece.target == at
        assert piece.length > 0
        assert piece.base is None or 0 <= piece.base <= len(old) - piece.length
        at += piece.length
    assert at == len(new)
    return tiling


def partners(old: bytes, new: bytes) -> dict[str, str | None]:
    olds, news = find_tensors(old), find_tensors(new)
    found = pair_tensors(Side(as_bytes(old), olds), Side(as_bytes(new), news))
    return {new.name: old and old.name for new, old in zip(news, found, strict=True)}


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("<f4")


def tuned(values: np.ndarray) -> np.ndarray:
    return (values + RNG.normal(size=values.shape) * 1e-4).astype("<f4")


def test_a_name_leads_to_its_counterpart_wherever_that_moved() -> None:
    a, b, slot = weights(40, 40), weights(40, 40), weights(40, 40)
    old = safetensors({"a": a, "b": b})
    new = safetensors({"adam/a": slot, "b": tuned(b), "adam/b": slot + 1, "a": tuned(a)})
    assert partners(old, new)["a"] == "a"
    assert partners(old, new)["b"] == "b"


def test_equal_content_is_found_under_another_name_first() -> None:
    a, b = weights(40, 40), weights(40, 40)
    assert partners(safetensors({"a": a, "b": b}), safetensors({"b": a, "c": b})) == {"b": "a", "c": "b"}


def test_counters_that_shifted_by_one_do_not_lead_to_the_wrong_layer() -> None:
    layers = [weights(30, 30) for _ in range(4)]
    old = safetensors({f"dense_{i}/kernel": layer for i, layer in enumerate(layers)})
    new = safetensors({f"dense_{i + 1}/kernel": tuned(layer) for i, layer in enumerate(layers)})
    assert partners(old, new) == {f"dense_{i + 1}/kernel": f"dense_{i}/kernel" for i in range(4)}


def test_tensors_without_any_likeness_are_paired_by_name_and_then_in_order() -> None:
    old = safetensors({name: weights(30, 30) for name in ("x", "y", "head_1/kernel")})
    new = safetensors({name: weights(30, 30) for name in ("head_7/kernel", "p", "q")})
    found = partners(old, new)
    assert found["head_7/kernel"] == "head_1/kernel"


def test_types_are_never_mixed() -> None:
    values = RNG.integers(0, 100, 400).astype("i1")
    old, new = safetensors({"a": values}), safetensors({"a": weights(100)})
    assert partners(old, new) == {"a": None}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("functional_1_1/head_2/MatMul1", "functional/head/MatMul"),
        ("functional/head/MatMul", "functional/head/MatMul"),
        ("block_13_expand_BN_1/batchnorm/sub", "block_13_expand_BN/batchnorm/sub"),
        ("dense_4/kernel", "dense/kernel"),
    ],
)
def test_counters_are_taken_off_names_but_not_out_of_them(name: str, plain: str) -> None:
    assert without_counters(name) == plain


@pytest.mark.parametrize("axis", [0, 1])
def test_an_inserted_row_or_column_costs_little_more_than_itself(axis: int) -> None:
    old = weights(300, 6) if axis else weights(6, 300)
    new = np.insert(old, 2, weights(300), axis=axis)
    before, after = safetensors({"k": old}), safetensors({"k": new})
    fresh = sum(p.length for p in tiling_of(before, after) if p.base is None)
    patch = modelpatch.diff_bytes(before, after)
    assert fresh <= 4 * 300 + 100
    assert len(patch) < 4 * 300 + 320
    assert apply(before, patch) == after


def test_rows_are_aligned_at_the_least_cost() -> None:
    old = RNG.integers(0, 256, (3, 50), dtype=np.uint8)
    new = np.stack((RNG.integers(0, 256, 50, dtype=np.uint8), old[0], old[1] + np.uint8(1), old[2]))
    assert source_rows(new, old, is_float=False) == [None, 0, 1, 2]
    assert source_rows(old, new, is_float=False) == [1, 2, 3]
    costs = np.array([[9.0, 9.0], [0.0, 9.0], [9.0, 0.0]])
    assert align_rows(costs, 5.0) == [None, 0, 1]


def test_scales_that_changed_come_with_the_piece_and_its_parts() -> None:
    data = (Path(__file__).parent.parent / "vectors" / "models" / "int8.tflite").read_bytes()
    tensors = {t.name: t for t in find_tensors(data)}
    (kernel,) = (t for t in tensors.values() if t.shape == (6, 288))
    table = tensors[f"{kernel.name} scale"]
    new = bytearray(data)
    scales = np.frombuffer(data[table.offset : table.end], "<f4")
    new[table.offset : table.end] = (scales * np.array([2, 1, 1, 1, 4, 1], "f4")).tobytes()
    halved = np.frombuffer(data[kernel.offset : kernel.end], "i1").reshape(6, 288).copy()
    halved[0] //= 2
    halved[4] //= 4
    new[kernel.offset : kernel.end] = halved.tobytes()
    (piece,) = (p for p in tiling_of(data, bytes(new)) if p.target == kernel.offset)
    assert piece.scales is not None
    assert piece.scales.ratios == (0.5, 1, 1, 1, 0.25, 1)
    assert (piece.scales.block, piece.scales.start) == (288, kernel.offset)
    assert piece.part(4, 8, copy=False).scales == piece.scales


def test_one_ratio_for_all_channels_is_told_once() -> None:
    now, was = (
        Tensor(9 * k, 6, "w", "int8", 1, False, (3, 2), Quantization(tuple(s * k for s in (1.0, 2.0, 4.0)), 0))
        for k in (1, 2)
    )
    found = rescale_of(now, was)
    assert found is not None
    assert (found.ratios, found.block, found.start) == ((2.0,), 1, 18)
    assert rescale_of(now, now) is None


def bundle_of(index_name: str, folder: Path, seed: int) -> Path:
    """Write a shard of random weights that the index of a real SavedModel describes."""
    models = Path(__file__).parent.parent / "vectors" / "models"
    path = folder / "variables.data-00000-of-00001"
    folder.mkdir(parents=True)
    (folder / "variables.index").write_bytes((models / index_name).read_bytes())
    common = np.random.default_rng(0).normal(size=7000)
    noise = np.random.default_rng(seed).normal(size=7000) * 1e-4
    path.write_bytes((common + noise).astype("<f4").tobytes())
    return path


@pytest.mark.slow
def test_a_shard_is_diffed_by_tensors_when_its_index_is_there(tmp_path: Path) -> None:
    old, new = bundle_of("slots.index", tmp_path / "old", 1), bundle_of("slots.index", tmp_path / "new", 2)
    header = modelpatch.diff_file(old, new, tmp_path / "patch")
    folder = modelpatch.diff_folder(tmp_path / "old", tmp_path / "new", tmp_path / "folder.patch")
    modelpatch.apply_file(old, tmp_path / "patch", tmp_path / "made")
    assert (tmp_path / "made").read_bytes() == new.read_bytes()
    assert header.body_length < 0.7 * new.stat().st_size
    assert folder.body_length < header.body_length + 200


def test_a_damaged_index_beside_a_shard_does_no_harm(tmp_path: Path) -> None:
    old, new = bundle_of("slots.index", tmp_path / "old", 1), bundle_of("slots.index", tmp_path / "new", 2)
    (tmp_path / "old" / "variables.index").write_bytes(b"\xff" * 300)
    modelpatch.diff_file(old, new, tmp_path / "patch", effort="fast")
    modelpatch.apply_file(old, tmp_path / "patch", tmp_path / "made")
    assert (tmp_path / "made").read_bytes() == new.read_bytes()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.binary(max_size=400), st.integers(0, 3))
def test_matches_tile_the_target_and_stay_inside_the_base(a: bytes, b: bytes, repeat: int) -> None:
    old, new = a + b * repeat + a, b + a * repeat + b[:7]
    at = 0
    for piece in match_files(as_bytes(old), as_bytes(new)):
        assert piece.target == at
        assert piece.base is None or 0 <= piece.base <= len(old) - piece.length
        at += piece.length
    assert at == len(new)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 100, (1 << 21) + 5, (1 << 24) + 3, 40 << 20])
def test_seeds_are_indexed_where_they_stand_at_every_size(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    index = index_seeds(data, [(0, size)])
    assert len(index.keys) <= 1 << 20
    assert len(index.keys) == len(index.positions)
    for key, position in list(zip(index.keys.tolist(), index.positions.tolist(), strict=True))[:: 1 << 12]:
        assert int.from_bytes(data[position : position + SEED_BYTES].tobytes(), "little") == key
    assert (len(index.keys) > 0) == (size >= SEED_BYTES)


def test_a_moved_half_is_found_in_a_large_file_without_a_format() -> None:
    old = np.random.default_rng(5).bytes(5 << 20)
    half = (5 << 19) + 3
    new = old[half:] + b"new" + old[:half]
    tiling = tiling_of(old, new)
    assert sum(p.length for p in tiling if p.base is None) <= 3 + 2 * 64


def test_texts_inside_a_model_are_matched_not_replaced() -> None:
    def model(note: str) -> bytes:
        text = json.dumps({"notes": {"dtype": "X", "shape": [9], "data_offsets": [0, len(note)]}}).encode()
        return struct.pack("<Q", len(text)) + text + note.encode()

    lines = [f"line {i * 7919}\n" for i in range(300)]
    old, new = model("".join(lines)), model("".join([*lines[:100], "one more line\n", *lines[100:]]))
    assert sum(p.length for p in tiling_of(old, new) if p.base is None) < 60


HALVES = np.random.default_rng(41).normal(size=(2, 25_000)).astype("<f4")


@pytest.mark.parametrize("effort", ["fast", "best"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"w": HALVES.reshape(-1)}, {"w.0": HALVES[0], "w.1": HALVES[1]}),
        ({"q": HALVES[0], "k": HALVES[1]}, {"qk": HALVES.reshape(-1)}),
        ({"w": HALVES}, {"w": HALVES.view("i1")}),
        ({"w": HALVES}, {"w": HALVES.reshape(25, 2000)}),
    ],
    ids=["split", "merged", "type-renamed", "shape-renamed"],
)
def test_the_same_bytes_as_other_tensors_cost_little(before: dict, after: dict, effort: str) -> None:
    old, new = safetensors(before), safetensors(after)
    patch = modelpatch.diff_bytes(old, new, effort=effort)
    assert len(patch) < 300
    assert apply(old, patch) == new


def test_fast_trusts_the_tensors_alone_where_they_have_partners() -> None:
    old, more = {"a": weights(100, 100)}, {"b": weights(30, 30)}
    kept = {"a": tuned(old["a"])}
    assert len(list(tilings(fast(safetensors(old), safetensors(kept | more))))) == 1
    more = {"b": weights(50, 50)}
    assert len(list(tilings(fast(safetensors(old), safetensors(kept | more))))) == 2


def vector(name: str, *shape: int, at: int = 0) -> Tensor:
    return Tensor(at, 4 * int(np.prod(shape)), name, "float32", 4, True, shape)


def test_a_resized_tensor_is_sought_by_name_then_by_nearest_length() -> None:
    olds = [vector("a", 10, 8), vector("head_1", 50, 8), vector("b", 20, 8), vector("c", 20, 9), vector("d", 8, 20)]
    partners = ResizedPartners(olds)
    assert partners.find(vector("head_7", 21, 8)) is olds[1]
    assert partners.find(vector("other", 19, 8)) is olds[2]
    assert partners.find(vector("other", 5, 20)) is olds[4]
    assert partners.find(vector("other", 5, 21)) is None
    assert partners.find(vector("other")) is None


def test_resized_tensors_are_found_fast_among_thousands() -> None:
    start = time.process_time()
    partners = ResizedPartners([vector(f"a_{i}", 2 * i + 20, 3, 3) for i in range(5000)])
    found = [partners.find(vector(f"b_{i}", 2 * i + 21, 3, 3)) for i in range(5000)]
    assert [tensor.shape[0] for tensor in found if tensor] == [2 * i + 20 for i in range(5000)]
    assert time.process_time() - start < 3


@pytest.mark.slow
def test_thousands_of_new_tensors_with_bytes_between_them_are_tiled_fast() -> None:
    values = np.random.default_rng(42).normal(size=(6000, 24)).astype("<f4")
    old = model_files.safetensors({"a": values[0].reshape(4, 6)})
    # The tensors of two elements are too small to be pieces of their own: they are the gaps.
    new = model_files.safetensors({f"{i}": row if i % 2 else row[:2] for i, row in enumerate(values)})
    start = time.process_time()
    tiling = next(iter(tilings(fast(old, new))))
    assert sum(piece.length for piece in tiling) == len(new)
    assert len(tiling) > len(values)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("shape", [(-1, -400), (-2, 2, -100), (3,) * 100, (1 << 31,) * 64, (0, 5)])
def test_a_shape_that_no_tensor_has_is_not_aligned_nor_rescaled(shape: tuple[int, ...]) -> None:
    scales = Quantization((1.0, 2.0), 0), Quantization((3.0, 2.0), 0)
    now, was = (Tensor(0, 400, "w", "int8", 1, False, shape, q) for q in scales)
    whole = Piece(0, 400, None, False, 1)
    other = Tensor(0, 400, "w", "int8", 1, False, (400,))
    data = np.zeros(400, np.uint8)
    assert align_dimension(whole, Stored(now, data), Stored(other, data), 0) == [whole]
    found = rescale_of(now, was)
    assert found is None or 1 <= found.block <= 400
