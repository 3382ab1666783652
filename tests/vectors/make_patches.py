"""Owns the golden vectors of the patch format: regenerates tests/vectors/patches from seeds.

Run as `python -m tests.vectors.make_patches` after a deliberate change of the diff; the format itself must not
change, so old vectors must go on decoding. Needs numpy.
"""

import hashlib
import json
import random
from pathlib import Path

import numpy as np

import modelpatch
from modelpatch import DecoderFeatures, varint
from modelpatch.building import BodyBuilder
from modelpatch.diff import file_patch
from modelpatch.header import PatchKind
from modelpatch.pieces import Piece, as_bytes

HERE = Path(__file__).parent / "patches"
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
    from modelpatch.frames import Lane
    from modelpatch.transforms import Transform

    class Forced(BodyBuilder):
        def choose(self, pieces: list[Piece]) -> Lane | None:
            return Lane(Transform(transform), width, grid)

    old, new = as_bytes(base), as_bytes(target)
    body = Forced(old, new, "best", modelpatch.DEFAULT_FEATURES).build(
        [Piece(0, len(target), 0, False, width, True, 0)]
    )
    return file_patch(PatchKind.FILE, base, target, body)


LANES = [
    *((name, number, width, 0) for number, name in enumerate(("raw", "xor", "sub")) for width in (1, 2, 4, 8)),
    *((name, number, width, 0) for number, name in ((3, "order"), (4, "order_sorted")) for width in (1, 2, 4, 8)),
    ("grid", 5, 4, 7),
    ("grid_new", 6, 4, 7),
]


def invalid_patches(good: bytes, whole: bytes) -> dict[str, bytes]:
    """Return name -> patch that must be refused; `good` is the vector `insert`, `whole` the vector `whole`."""
    body = len(good) - modelpatch.read_header(good).body_length
    bomb = bytearray(whole)
    length_at = 6 + len(varint.encode(bomb[6])) + 1
    return {
        "empty": b"",
        "magic": b"\x89KMQ" + good[4:],
        "newer_version": good[:4] + b"\x02" + good[5:],
        "unknown_kind": good[:5] + b"\x07" + good[6:],
        "unknown_flag": good[:5] + b"\x08" + good[6:],
        "unknown_feature": good[:6] + b"\x40" + good[7:],
        "cut_header": good[:20],
        "cut_body": good[:-1],
        "trailing_byte": good + b"\x00",
        "unknown_frame": good[:body] + bytes((good[body] & 0xF8 | 7,)) + good[body + 1 :],
        "huge_dictionary": good[:body] + b"\xf8" + good[body + 1 :],
        "huge_table": good[:body] + good[body : body + 1] + varint.encode(1 << 40) + good[body + 2 :],
        "padded_varint": good[:6] + b"\x80\x00" + good[7:],
        "wrong_target_digest": good[: body - 4] + bytes((good[body - 4] ^ 1,)) + good[body - 3 :],
        "declares_a_terabyte": bytes(bomb[:6]) + b"\x01\x04" + varint.encode(1 << 40) + bytes(bomb[length_at + 2 :]),
    }


def main() -> None:
    """Write all vectors."""
    for kind in ("valid", "invalid"):
        (HERE / kind).mkdir(parents=True, exist_ok=True)
        for stale in (HERE / kind).iterdir():
            stale.unlink()
    made = {
        name: (base, target, modelpatch.diff_bytes(base, target, features=features))
        for name, (base, target, features) in valid_pairs().items()
    }
    for name, number, width, grid in LANES:
        made[f"lane_{name}_{width}"] = lane_patch(number, width, grid)
    for name, parts in made.items():
        for suffix, data in zip(("base", "target", "patch"), parts, strict=True):
            (HERE / "valid" / f"{name}.{suffix}").write_bytes(data)
    for name, data in invalid_patches(made["insert"][2], made["whole"][2]).items():
        (HERE / "invalid" / f"{name}.patch").write_bytes(data)
    print(f"{len(made)} valid, {len(list((HERE / 'invalid').iterdir()))} invalid")


if __name__ == "__main__":
    main()
