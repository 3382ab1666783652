"""Owns damaged patches for tests: related inputs to make patches of, ways to damage them, headers that fit again.

It shares no code with modelpatch: headers are read by the reference decoder and written by the vectors' builder.
Everything follows from the random generator that it is given.
"""

import random

import numpy as np

from tests import reference_decoder
from tests.reference_decoder import Header, Invalid, Reader
from tests.vectors.patch_builder import header, identity, varint

PAIRS = ("float32", "float16", "int8", "grid", "text")
EXTREMES = (0, 1, 63, 64, 127, 128, 255, 1 << 12, 1 << 14, (1 << 18) + 1, 1 << 22, 1 << 26, 1 << 32, (1 << 63) - 1)
MAX_MADE = 1 << 16


def related_pair(kind: str, seed: int) -> tuple[bytes, bytes]:
    """Return two inputs of which the second comes from the first by small changes and by moves of bytes."""
    rng, choices = np.random.default_rng(seed), random.Random(seed)
    count = choices.choice([1, 3, 40, 700])
    if kind == "text":
        return _texts(choices, count)
    if kind == "int8":
        old = rng.integers(-128, 128, count, dtype=np.int8)
        scaled = np.round(old * choices.choice([1.0, 0.9, 1.1])) + rng.integers(-2, 3, count)
        return old.tobytes(), np.clip(scaled, -128, 127).astype(np.int8).tobytes()
    if kind == "grid":
        steps = rng.integers(-300, 300, count)
        return _floats(steps / 128), _floats((steps + rng.integers(-2, 3, count)) / 128)
    values = rng.normal(size=count)
    near = values + rng.normal(size=count) * 1e-3 * (rng.random(count) < choices.choice([0.05, 1.0]))
    if kind == "float16":
        return values.astype("<f2").tobytes(), near.astype("<f2").tobytes()
    new = _floats(near)
    cut = choices.randrange(len(new) + 1)
    return _floats(values), new[:cut] + choices.randbytes(choices.choice([0, 0, 8])) + new[cut:]


def _texts(choices: random.Random, count: int) -> tuple[bytes, bytes]:
    old = b" ".join(choices.choice([b"one", b"two", b"three", b"%d" % i]) for i in range(count))
    if choices.random() < 0.5:
        return old, old.replace(b"two", b"four")
    return old, old[: len(old) // 2] + b"inserted" + old[9:]


def _floats(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> bytes:
    return values.astype("<f4").tobytes()


def damaged(data: bytes, rng: random.Random, donor: bytes) -> bytes:
    """Return `data` with one to three pieces of damage; `donor` is what a splice takes bytes from."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_DAMAGES)(out, rng, donor)
    return bytes(out)


def _flip_bit(out: bytearray, rng: random.Random, donor: bytes) -> None:
    if out:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _set_byte(out: bytearray, rng: random.Random, donor: bytes) -> None:
    if out:
        out[rng.randrange(len(out))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))


def _truncate(out: bytearray, rng: random.Random, donor: bytes) -> None:
    del out[rng.randrange(len(out) + 1) :]


def _insert(out: bytearray, rng: random.Random, donor: bytes) -> None:
    at = rng.randrange(len(out) + 1)
    out[at:at] = rng.randbytes(rng.randint(1, 4))


def _remove(out: bytearray, rng: random.Random, donor: bytes) -> None:
    at = rng.randrange(len(out) + 1)
    del out[at : at + rng.randint(1, 4)]


def _splice(out: bytearray, rng: random.Random, donor: bytes) -> None:
    out[rng.randrange(len(out) + 1) :] = donor[rng.randrange(len(donor) + 1) :]


def _overwrite_number(out: bytearray, rng: random.Random, donor: bytes) -> None:
    at, number = rng.randrange(len(out) + 1), varint(rng.choice(EXTREMES))
    out[at : at + rng.choice((1, len(number)))] = number


_DAMAGES = (_flip_bit, _flip_bit, _set_byte, _set_byte, _truncate, _insert, _remove, _splice, _overwrite_number)


def damaged_body(patch: bytes, rng: random.Random, donor: bytes) -> bytes:
    """Return `patch` with a damaged body, digests kept and the body's length put right: the body is decoded."""
    read = Header(Reader(patch))
    return _front(read, (read.target_length, read.target_digest), damaged(read.body.data, rng, donor))


def edited_header(patch: bytes, rng: random.Random) -> bytes:
    """Return `patch` with some fields of its header set to other numbers, the rest kept."""
    read = Header(Reader(patch))
    for field in rng.sample(("kind", "features", "memory", "base_length", "target_length", "base_digest"), 2):
        if field == "kind":
            read.kind = rng.randrange(9)
        elif field == "base_digest":
            read.base_digest = rng.randbytes(32)
        elif field == "memory":
            read.memory = 1024 * rng.choice(EXTREMES)
        else:
            setattr(read, field, rng.choice(EXTREMES))
    return _front(read, (read.target_length, read.target_digest), read.body.data)


def refitted(patch: bytes, base: bytes) -> bytes | None:
    """Return `patch` with the length and digest of what its body makes of `base`; None where it makes nothing."""
    try:
        read = Header(Reader(patch))
        read.strict, read.target_length = False, MAX_MADE
        target, body = bytearray(), read.body
        base = b"" if read.kind == reference_decoder.WHOLE else base
        while not body.done():
            reference_decoder.make_frame(read, base, target)
    except Invalid:
        return None
    return _front(read, identity(bytes(target)), body.data)


def _front(read: Header, target: tuple[int, bytes], body: bytes) -> bytes:
    base = None
    if read.kind != reference_decoder.WHOLE:
        base = getattr(read, "base_length", 0), getattr(read, "base_digest", bytes(32))
    return header(read.kind, read.features, read.memory // 1024, base, target, len(body)) + body
