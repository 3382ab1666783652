"""Owns the golden vectors of the patch format in tests/vectors/patches.

`python -m tests.vectors.make_patches` writes hand.json (put together byte by byte: hand_valid.py, hand_invalid.py,
hand_folders.py) anew, and adds vectors made by the diff where they are missing. It never makes an old one anew: the
format must not change, so old patches must go on decoding. Needs numpy.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import modelpatch
from modelpatch import DecoderFeatures
from modelpatch.diff.building import BodyBuilder
from modelpatch.diff.inputs import Contents, DiffInput, DiffSettings
from modelpatch.diff.make import file_patch
from modelpatch.diff.pieces import Piece
from modelpatch.format.header import PatchKind
from modelpatch.format.lane import Lane, Transform
from tests.vectors import hand_invalid, hand_valid
from tests.vectors.hand_folders import FolderVector, invalid_folders, valid_folders
from tests.vectors.hand_valid import Vector

HERE = Path(__file__).parent / "patches"
HAND = HERE / "hand.json"
ELEMENTS = 600


def valid_pairs() -> dict[str, tuple[bytes, bytes, DecoderFeatures]]:
    """Return name -> (base, target, features of the decoder)."""
    rng = np.random.default_rng(2255)
    some = random.Random(2255).randbytes(2000)
    floats = rng.normal(size=ELEMENTS).astype("<f4")
    near = (floats + rng.normal(size=ELEMENTS) * 1e-3).astype("<f4")
    grid = (np.round(floats * 128) / 128).astype("<f4")
    moved = (grid + rng.integers(-3, 4, ELEMENTS) / 128).astype("<f4")
    text = json.dumps({f"file{i}": hashlib.sha256(bytes((i,))).hexdigest() for i in range(9)}, indent=1).encode()
    int8 = rng.integers(-90, 90, 1500, dtype=np.int8)
    every = modelpatch.DEFAULT_FEATURES
    return {
        "equal": (some, some, every),
        "insert": (some, some[:700] + b"inserted" + some[700:], every),
        "remove": (some, some[:700] + some[900:], every),
        "text": (text, text.replace(b"file3", b"another"), every),
        "float32": (floats.tobytes(), near.tobytes(), every),
        "float32_no_sort": (floats.tobytes(), near.tobytes(), DecoderFeatures.LZMA),
        "float16": (floats.astype("<f2").tobytes(), near.astype("<f2").tobytes(), every),
        "grid": (grid.tobytes(), moved.tobytes(), every),
        "int8": (int8.tobytes(), (int8 + rng.integers(-2, 3, 1500, dtype=np.int8)).tobytes(), every),
        "whole": (b"", text, every),
        "whole_stored": (b"", some, DecoderFeatures.NONE),
        "empty_target": (some, b"", every),
    }


def lane_patch(transform: int, width: int, grid: int = 0) -> tuple[bytes, bytes, bytes]:
    """Return (base, target, patch) where the whole target is one DELTA of the given transform and width."""
    rng = np.random.default_rng(transform * 10 + width)
    base = rng.integers(0, 256, 40 * width, dtype=np.uint8).tobytes()
    target = rng.integers(0, 256, 40 * width, dtype=np.uint8).tobytes()
    if grid:
        steps = rng.integers(-40, 40, (2, 40)) / 2.0**grid
        base, target = (row.astype("<f4").tobytes() for row in steps)
    return base, target, forced_patch(base, target, transform, width, grid)


def forced_patch(base: bytes, target: bytes, transform: int, width: int, grid: int) -> bytes:
    """Return a patch that codes `target` as one DELTA in the lane asked for."""
    given = DiffInput(Contents(base), Contents(target), DiffSettings("best", modelpatch.DEFAULT_FEATURES))
    lane = Lane(Transform(transform), width, grid)
    body = BodyBuilder(given, lambda piece: lane).build([Piece(0, len(target), 0, False, width, True, 0)])
    return file_patch(PatchKind.FILE, base, target, body)


LANES = [
    *((name, number, width, 0) for number, name in enumerate(("raw", "xor", "sub")) for width in (1, 2, 4, 8)),
    *((name, number, width, 0) for number, name in ((3, "order"), (4, "order_sorted")) for width in (1, 2, 4, 8)),
    ("grid", 5, 4, 7),
    ("grid_new", 6, 4, 7),
]


def hand_made() -> dict[str, dict[str, dict[str, object]]]:
    """Return what hand.json holds: kind of vector -> name -> its parts, bytes as hex."""
    return {
        "valid": {name: _entry(vector) for name, vector in hand_valid.vectors().items()},
        "invalid": {name: _entry(vector) for name, vector in hand_invalid.vectors().items()},
        "valid_folders": {name: _entry(vector) for name, vector in valid_folders().items()},
        "invalid_folders": {name: _entry(vector) for name, vector in invalid_folders().items()},
    }


def _entry(vector: Vector | FolderVector) -> dict[str, object]:
    parts = {"about": vector.about, "base": _hex(vector.base), "patch": vector.patch.hex()}
    return parts if vector.target is None else {**parts, "target": _hex(vector.target)}


def _hex(data: bytes | Mapping[str, bytes]) -> object:
    return data.hex() if isinstance(data, bytes) else {name: part.hex() for name, part in data.items()}


def read_hand_made() -> dict[str, dict[str, Vector | FolderVector]]:
    """Return the vectors of hand.json as they stand in the file."""
    found: dict[str, dict[str, Vector | FolderVector]] = {}
    for kind, entries in json.loads(HAND.read_text()).items():
        make = FolderVector if kind.endswith("folders") else Vector
        found[kind] = {
            name: make(_raw(e["base"]), _raw(e.get("target")), bytes.fromhex(e["patch"]), e["about"])
            for name, e in entries.items()
        }
    return found


def _raw(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: bytes.fromhex(part) for name, part in data.items()}
    return None if data is None else bytes.fromhex(data)


def main() -> None:
    """Write hand.json anew, and those vectors made by the diff that are not there."""
    HAND.write_text(json.dumps(hand_made(), indent=1) + "\n")
    missing = 0
    for name, (base, target, features) in valid_pairs().items():
        if not (HERE / "valid" / f"{name}.patch").exists():
            missing += 1
            write(name, base, target, modelpatch.diff_bytes(base, target, features=features))
    for name, number, width, grid in LANES:
        if not (HERE / "valid" / f"lane_{name}_{width}.patch").exists():
            missing += 1
            write(f"lane_{name}_{width}", *lane_patch(number, width, grid))
    print(f"{ {kind: len(entries) for kind, entries in hand_made().items()} } by hand, {missing} new by the diff")


def write(name: str, base: bytes, target: bytes, patch: bytes) -> None:
    for suffix, data in (("base", base), ("target", target), ("patch", patch)):
        (HERE / "valid" / f"{name}.{suffix}").write_bytes(data)


if __name__ == "__main__":
    main()
