"""Finding tensors: right for files that TensorFlow and safetensors really wrote, harmless for damaged ones."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpatch import diff_bytes
from modelpatch.tensors import sstable
from modelpatch.tensors.find import BundleIndex, Tensor, find_tensors
from modelpatch.tensors.tensorbundle import index_beside

MODELS = Path(__file__).parent.parent / "vectors" / "models"
SHARD_0, SHARD_1 = (MODELS / f"sharded.data-0000{i}-of-00002" for i in range(2))
RNG = np.random.default_rng(17)
PRECISIONS = ("float32", "float16", "dynamic", "int8")


def by_name(tensors: list[Tensor]) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in tensors}


def tensors_of(path: Path) -> dict[str, Tensor]:
    return by_name(find_tensors(path.read_bytes(), index_beside(path)))


def test_each_shard_of_a_bundle_has_its_own_tensors_with_type_and_shape() -> None:
    first, second = tensors_of(SHARD_0), tensors_of(SHARD_1)
    kernel = first["a/kernel"]
    assert (kernel.dtype, kernel.shape, kernel.width, kernel.is_float) == ("float32", (3, 100), 4, True)
    values = np.frombuffer(SHARD_0.read_bytes()[kernel.offset : kernel.end], "<f4")
    assert values.tolist() == list(range(300))
    assert {name: (t.offset, t.length, t.dtype) for name, t in second.items()} == {
        "b": (0, 400, "int64"),
        "c": (400, 600, "bfloat16"),
        "d": (1000, 600, "float16"),
    }


def test_strings_in_a_bundle_are_no_tensor_of_numbers() -> None:
    assert tensors_of(SHARD_0)["note"].dtype == "bytes"


def test_adam_slots_are_named_apart_from_the_weights() -> None:
    index = BundleIndex((MODELS / "slots.index").read_bytes())
    found = by_name(find_tensors(bytes(1 << 20), index))
    tail = "/.ATTRIBUTES/VARIABLE_VALUE"
    kernels = {name.removesuffix(tail) for name, tensor in found.items() if tensor.shape == (288, 6)}
    assert len(kernels) == 3  # the weights, Adam's first and second moments
    assert len({name for name in kernels if name.startswith("optimizer/_variables/")}) == 2


def test_without_the_index_or_beside_another_name_a_shard_is_plain_bytes(tmp_path: Path) -> None:
    lonely = tmp_path / "x.data-00000-of-00001"
    lonely.write_bytes(b"1234")
    assert index_beside(lonely) is None
    assert index_beside(MODELS / "sharded.index") is None
    assert find_tensors(lonely.read_bytes(), index_beside(lonely)) == []


def test_a_tensor_that_ends_behind_the_shard_is_left_out() -> None:
    assert list(by_name(find_tensors(SHARD_1.read_bytes()[:1100], index_beside(SHARD_1)))) == ["b", "c"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tflite_weights_are_found_in_every_precision(precision: str) -> None:
    data = (MODELS / f"{precision}.tflite").read_bytes()
    (weights,) = (t for t in find_tensors(data) if t.shape == (6, 288))
    expected = {"float32": "float32", "float16": "float16", "dynamic": "int8", "int8": "int8"}[precision]
    assert (weights.dtype, weights.length) == (expected, 6 * 288 * weights.width)
    assert (weights.quantization is None) == (expected != "int8")


def test_scales_of_int8_weights_are_those_of_the_float_weights() -> None:
    quantised = (MODELS / "int8.tflite").read_bytes()
    original = (MODELS / "float32.tflite").read_bytes()
    (weights,) = (t for t in find_tensors(quantised) if t.shape == (6, 288))
    (floats,) = (t for t in find_tensors(original) if t.shape == (6, 288))
    real = np.frombuffer(original[floats.offset : floats.end], "<f4").reshape(floats.shape)
    whole = np.frombuffer(quantised[weights.offset : weights.end], "i1").reshape(weights.shape)
    assert weights.quantization is not None
    assert weights.quantization.dimension == 0
    scales = np.array(weights.quantization.scales)[:, None]
    assert np.abs(whole * scales - real).max() <= 0.51 * scales.max()
    table = by_name(find_tensors(quantised))[f"{weights.name} scale"]
    assert struct.unpack("<6f", quantised[table.offset : table.end]) == weights.quantization.scales


def test_safetensors_as_its_own_library_writes_it() -> None:
    library, types = pytest.importorskip("safetensors.numpy"), pytest.importorskip("ml_dtypes")
    values = {
        "w": RNG.normal(size=(8, 8)).astype("<f4"),
        "b": RNG.normal(size=64).astype(types.bfloat16),
        "e": RNG.normal(size=64).astype(types.float8_e4m3fn),
    }
    data = library.save(values, {"made": "by a test"})
    found = by_name(find_tensors(data))
    assert {name: (t.dtype, t.width, t.is_float, t.shape) for name, t in found.items()} == {
        "w": ("float32", 4, True, (8, 8)),
        "b": ("bfloat16", 2, True, (64,)),
        "e": ("float8_e4m3", 1, True, (64,)),
    }
    for name, tensor in found.items():
        assert data[tensor.offset : tensor.end] == values[name].tobytes()


def damaged(good: bytes) -> st.SearchStrategy[bytes]:
    def change(changes: list[tuple[int, int]], length: int) -> bytes:
        data = bytearray(good)
        for at, value in changes:
            data[at] = value
        return bytes(data[:length])

    places = st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255))
    return st.builds(change, st.lists(places, max_size=8), st.integers(len(good) * 3 // 4, len(good)))


def assert_well_formed(tensors: list[Tensor], size: int) -> None:
    end = 0
    for tensor in tensors:
        assert tensor.offset >= end
        assert tensor.length > 0
        assert tensor.length % tensor.width == 0
        end = tensor.end
    assert end <= size


@pytest.mark.slow
@settings(max_examples=400, deadline=2000)
@given(damaged((MODELS / "slots.index").read_bytes()))
def test_a_damaged_index_gives_sound_tensors_or_none_and_never_hangs(table: bytes) -> None:
    assert_well_formed(find_tensors(bytes(30_000), BundleIndex(table)), 30_000)


@pytest.mark.slow
@settings(max_examples=200, deadline=2000)
@given(damaged((MODELS / "int8.tflite").read_bytes()))
def test_a_damaged_tflite_file_gives_sound_tensors_or_none_and_never_hangs(data: bytes) -> None:
    assert_well_formed(find_tensors(data), len(data))


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def sorted_table(data_block: bytes, handles: int) -> bytes:
    """Return a table whose index names the same block of entries `handles` times."""
    block = data_block + struct.pack("<II", 0, 1) + bytes(5)
    handle = varint(0) + varint(len(block) - 5)
    index = b"".join(b"\0\1" + bytes((len(handle),)) + b"k" + handle for _ in range(handles))
    index += struct.pack("<II", 0, 1) + bytes(5)
    footer = b"\0\0" + varint(len(block)) + varint(len(index) - 5)
    return block + index + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def test_the_hostile_tables_are_tables() -> None:
    table = sorted_table(b"\0\1\1kv" + b"\1\1\1lv", 2)
    assert list(sstable.entries(table)) == 2 * [(b"k", b"v"), (b"kl", b"v")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "handles"),
    [
        # One key of 4,000 bytes, shared by half a million keys; one block of many entries named again and again.
        (b"\0" + varint(4000) + b"\0" + bytes(4000) + (varint(4000) + b"\0\0") * 500_000, 1),
        (b"\0\1\0k" * 50_000, 100_000),
        (b"", 1_000_000),
        (b"\0" + varint(1 << 30) + b"\0k", 1),
        (b"\xff" * 500, 1),
    ],
    ids=["long-keys", "one-block-often", "empty-block-often", "key-past-end", "endless-varint"],
)
def test_a_hostile_index_is_given_up_soon(block: bytes, handles: int) -> None:
    table = sorted_table(block, handles)
    start = time.process_time()
    assert find_tensors(bytes(100), BundleIndex(table)) == []
    assert time.process_time() - start < 2


def test_a_compressed_or_big_endian_index_is_not_read() -> None:
    def entries(endianness: bytes) -> bytes:
        return b"\0\0\2" + b"\x10" + endianness + b"\0\1\4k" + b"\x08\1\x28\4"

    good = sorted_table(entries(b"\0"), 1)
    assert len(find_tensors(bytes(4), BundleIndex(good))) == 1
    assert find_tensors(bytes(4), BundleIndex(sorted_table(entries(b"\1"), 1))) == []
    compressed = bytearray(good)
    compressed[len(entries(b"\0")) + 8] = 1  # the type behind the entries and the restart array
    assert find_tensors(bytes(4), BundleIndex(bytes(compressed))) == []


def hostile_safetensors(shape: str, length: int = 4000) -> bytes:
    text = f'{{"w": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, {length}]}}}}'.encode()
    return struct.pack("<Q", len(text)) + text + RNG.bytes(length)


@pytest.mark.parametrize("shape", ["[1e999]", "[-1e999]", "[NaN]", '["x"]', "{}", "[[]]"])
def test_a_size_that_is_no_number_makes_plain_bytes(shape: str) -> None:
    data = hostile_safetensors(shape)
    assert find_tensors(data) == []
    assert diff_bytes(data, data[:-9] + b"!" + data[-8:], effort="fast")


@pytest.mark.parametrize("shape", ["[-1, -1000]", "[-10, -100]", "[0, 7]", str([1] * 99 + [1000])])
def test_a_shape_that_no_tensor_has_becomes_that_of_a_vector(shape: str) -> None:
    data = hostile_safetensors(shape)
    assert [t.shape for t in find_tensors(data)] == [(1000,)]
    for other in ("[-1, -500]", "[500]", str([1] * 99 + [500])):
        old = hostile_safetensors(other, 2000)
        assert diff_bytes(old, data, effort="fast")


def test_scales_of_a_tensor_with_a_negative_size_are_not_used() -> None:
    good = (MODELS / "int8.tflite").read_bytes()
    shape = good.index(struct.pack("<3i", 2, 6, 288))
    for size in (0, -288, -1, 1 << 30):
        bad = bytearray(good)
        bad[shape + 8 : shape + 12] = struct.pack("<i", size)
        tables = [t for t in find_tensors(bytes(bad)) if t.name.endswith(" scale") and t.length == 24]
        new = bytearray(bad)
        for table in tables:
            scales = np.frombuffer(bad[table.offset : table.end], "<f4")
            new[table.offset : table.end] = (scales * np.array([2, 1, 1, 1, 4, 1], "f4")).tobytes()
        weights = next(t for t in find_tensors(good) if t.shape == (6, 288))
        new[weights.offset : weights.end] = bytes(255 - b for b in new[weights.offset : weights.end])
        assert tables
        assert diff_bytes(bytes(bad), bytes(new), effort="fast")
