"""A patch cut at every byte, or with any bit flipped, for each coder and transform: refused by name, or right."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelpatch
from tests.vectors.make_patches import read_hand_made
from tests.vectors.patch_builder import change, folder_patch

MIB = 1 << 20

# One for each coder and transform, and the other frame and kinds of patch.
COVERING = (
    "nibble_of_lzma_and_deflate",
    "nibble_all_escapes",
    "deflate_join_from_table",
    "lzma",
    "solid_lzma",
    "rescale_1_channels",
    "sorted_by_exponent",
    "order_next_float",
    "grid_quarters",
    "xor_after_seek",
    "copy_and_insert",
)


@pytest.fixture
def memory_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of files are made in it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else tmp_path) as folder:
        yield Path(folder)


def applies(work: Path, data: bytes, function: str) -> bytes | None:
    """Return what the patch makes of the file or folder `old`, None where it is refused with an error as promised."""
    (work / "p").write_bytes(data)
    target = work / "out"
    try:
        getattr(modelpatch, function)(work / "old", work / "p", target, max_target_bytes=MIB)
    except modelpatch.PatchError as e:
        named = str(e).startswith((f"{work / 'p'}: ", f"{work / 'old'}: "))
        assert named, "an error without a name"
        assert sorted(path.name for path in work.iterdir()) == ["old", "p"]
        return None
    made = target.read_bytes() if target.is_file() else (target / "model").read_bytes()
    target.unlink() if target.is_file() else shutil.rmtree(target)
    return made


@pytest.mark.parametrize("name", COVERING)
def test_a_patch_truncated_anywhere_is_refused_by_name(memory_disk: Path, name: str) -> None:
    vector = read_hand_made()["valid"][name]
    (memory_disk / "old").write_bytes(vector.base)
    assert applies(memory_disk, vector.patch, "apply_file") == vector.target
    for length in range(len(vector.patch)):
        assert applies(memory_disk, vector.patch[:length], "apply_file") is None


@pytest.mark.parametrize("name", COVERING)
def test_a_patch_with_any_bit_flipped_is_refused_or_still_right(memory_disk: Path, name: str) -> None:
    vector = read_hand_made()["valid"][name]
    (memory_disk / "old").write_bytes(vector.base)
    refused = 0
    for bit in range(8 * len(vector.patch)):
        damaged = bytearray(vector.patch)
        damaged[bit // 8] ^= 1 << bit % 8
        made = applies(memory_disk, bytes(damaged), "apply_file")
        assert made in (None, vector.target)
        refused += made is None
    # Some bits mean nothing: more memory or features than needed, what follows the last byte taken of a payload.
    assert refused > 0.8 * 8 * len(vector.patch)


def folder_of_one(work: Path) -> tuple[bytes, bytes]:
    vector = read_hand_made()["valid"]["copy_and_insert"]
    assert vector.target is not None
    (work / "old").mkdir()
    (work / "old" / "model").write_bytes(vector.base)
    files = {"model": vector.base}, {"model": vector.target}
    return folder_patch(*files, change(0, vector.patch)), vector.target


def test_a_folder_patch_truncated_anywhere_is_refused_by_name(memory_disk: Path) -> None:
    patch, target = folder_of_one(memory_disk)
    assert applies(memory_disk, patch, "apply_folder") == target
    for length in range(len(patch)):
        assert applies(memory_disk, patch[:length], "apply_folder") is None


def test_a_folder_patch_with_any_bit_flipped_is_refused_or_still_right(memory_disk: Path) -> None:
    patch, target = folder_of_one(memory_disk)
    refused = 0
    for bit in range(8 * len(patch)):
        damaged = bytearray(patch)
        damaged[bit // 8] ^= 1 << bit % 8
        made = applies(memory_disk, bytes(damaged), "apply_folder")
        assert made in (None, target)
        refused += made is None
    assert refused > 0.9 * 8 * len(patch)
