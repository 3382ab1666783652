"""Owns a tiny builder of patches for tests: every byte is put where the caller says, nothing is chosen or checked.

It shares no code with modelpatch, so that what it builds tests the format and not one encoder.
"""

import hashlib
import lzma
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

FILE, WHOLE, FOLDER = 0, 1, 2
RAW, XOR, SUB, ORDER, SORTED, GRID, GRID_NEW, RESCALE = range(8)
LZMA, GRIDS, SORTS, ZSTD, RESCALES, NIBBLES, DEFLATE, CRUMBS = (1 << i for i in range(8))


def varint(value: int) -> bytes:
    """Return `value` in groups of seven bits, low ones first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def signed(value: int) -> bytes:
    """Return the varint of the zigzag of `value`."""
    return varint(2 * value if value >= 0 else -2 * value - 1)


@dataclass(frozen=True)
class Stream:
    """One stream of a frame: its description, its payload, the feature bits of its coders."""

    description: bytes
    payload: bytes = b""
    features: int = 0


def stored(raw: bytes) -> Stream:
    return Stream(b"\0", raw)


def fill(value: int) -> Stream:
    return Stream(bytes((3, value)))


JOIN = Stream(b"\x04")


def lzma_payload(raw: bytes, props: int = 93, d: int = 12) -> bytes:
    """Return raw LZMA1 without its first byte, which is always 0."""
    (rest, lc), dictionary = divmod(props, 9), 1 << d
    chain = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": lc, "lp": rest % 5, "pb": rest // 5}]
    return lzma.compress(raw, lzma.FORMAT_RAW, filters=chain)[1:]


def lzma1(raw: bytes, props: int = 93, payload: bytes | None = None, length: int | None = None) -> Stream:
    payload = lzma_payload(raw, props) if payload is None else payload
    return Stream(bytes((1, props)) + varint(len(payload) if length is None else length), payload, LZMA)


def deflate_payload(raw: bytes, level: int = 9) -> bytes:
    coder = zlib.compressobj(level, wbits=-15)
    return coder.compress(raw) + coder.flush()


def deflate(raw: bytes, payload: bytes | None = None) -> Stream:
    payload = deflate_payload(raw) if payload is None else payload
    return Stream(b"\x06" + varint(len(payload)), payload, DEFLATE)


def zstd_payload(raw: bytes, window: int | None = None) -> bytes:
    """Return a zstd frame of one raw block: of a single segment, or with this window descriptor."""
    start = bytes((0x20, len(raw))) if window is None else bytes((0, window))
    return b"\x28\xb5\x2f\xfd" + start + (len(raw) << 3 | 1).to_bytes(3, "little") + raw


def zstd(raw: bytes, payload: bytes | None = None) -> Stream:
    payload = zstd_payload(raw) if payload is None else payload
    return Stream(b"\x02" + varint(len(payload)), payload, ZSTD)


def nibble(halves: Stream, escapes: Stream) -> Stream:
    parts = (halves, escapes)
    features = NIBBLES | halves.features | escapes.features
    return Stream(b"\x05" + b"".join(p.description for p in parts), b"".join(p.payload for p in parts), features)


def crumb(packed: Stream, escapes: Stream) -> Stream:
    parts = (packed, escapes)
    features = CRUMBS | packed.features | escapes.features
    return Stream(b"\x07" + b"".join(p.description for p in parts), b"".join(p.payload for p in parts), features)


def copy(length: int, seek: int | None = None) -> bytes:
    return varint(length << 2) if seek is None else varint(length << 2 | 1) + signed(seek)


def literal(length: int) -> bytes:
    return varint(length << 2 | 2)


def delta(length: int, lane: int = 0, seek: int | None = None) -> bytes:
    return varint(length << 2 | 3) + (varint(lane << 1) if seek is None else varint(lane << 1 | 1) + signed(seek))


_FEATURE_OF_TRANSFORM = {SORTED: SORTS, GRID: GRIDS, GRID_NEW: GRIDS, RESCALE: RESCALES}


@dataclass(frozen=True)
class Lane:
    """A lane's transform, log2 of its width, and the bytes that follow."""

    transform: int
    log2_width: int
    more: bytes = b""

    @property
    def features(self) -> int:
        return _FEATURE_OF_TRANSFORM.get(self.transform, 0)

    def encode(self) -> bytes:
        return bytes((self.transform << 2 | self.log2_width,)) + self.more


def rescale(log2_width: int, start: int, block: int, e: int, multipliers: list[int]) -> Lane:
    numbers = varint(start) + varint(block) + bytes((e,)) + varint(len(multipliers))
    return Lane(RESCALE, log2_width, numbers + b"".join(signed(m - (1 << e)) for m in multipliers))


@dataclass(frozen=True)
class Frame:
    """The bytes of a frame and the feature bits that it uses."""

    data: bytes
    features: int = 0


def ops(
    table: bytes | Stream,
    literals: Stream | None = None,
    lanes: tuple[Lane, ...] = (),
    planes: tuple[Stream, ...] = (),
    d: int = 12,
    table_length: int | None = None,
) -> Frame:
    """Return an ops frame. A table given as bytes is stored, a table given as a stream needs `table_length`."""
    first = stored(table) if isinstance(table, bytes) else table
    if table_length is None:
        table_length = len(table) if isinstance(table, bytes) else 0
    streams = (first, literals or stored(b""), *planes)
    data = bytes((d << 3,)) + varint(table_length) + varint(len(lanes))
    data += b"".join(lane.encode() for lane in lanes) + b"".join(s.description for s in streams)
    features = 0
    for part in (*lanes, *streams):
        features |= part.features
    return Frame(data + b"".join(s.payload for s in streams), features)


def solid(coded: Stream, length: int, d: int = 12) -> Frame:
    return Frame(bytes((d << 3 | 1,)) + coded.description + varint(length) + coded.payload, coded.features)


def header(
    kind: int,
    features: int,
    memory_kib: int,
    base: tuple[int, bytes] | None,
    target: tuple[int, bytes],
    body_length: int,
    extension: bytes = b"",
) -> bytes:
    """Return a header; `base` and `target` are (length, digest)."""
    return b"".join(
        (
            b"\x89KMP\x01" + bytes((kind,)) + varint(features) + varint(memory_kib),
            b"" if base is None else varint(base[0]) + base[1],
            varint(target[0]) + target[1],
            varint(len(extension)) + extension + varint(body_length),
        )
    )


def identity(data: bytes) -> tuple[int, bytes]:
    return len(data), hashlib.sha256(data).digest()


def patch(
    base: bytes | None,
    target: bytes,
    *frames: Frame,
    memory_kib: int = 4096,
    extension: bytes = b"",
    features: int = 0,
) -> bytes:
    """Return a patch of kind file, or whole where `base` is None, that declares the features its frames use."""
    for frame in frames:
        features |= frame.features
    body = b"".join(frame.data for frame in frames)
    known = None if base is None else identity(base)
    kind = WHOLE if base is None else FILE
    return header(kind, features, memory_kib, known, identity(target), len(body), extension) + body


def tree_identity(tree: Mapping[str, bytes]) -> tuple[int, bytes]:
    digest = hashlib.sha256()
    for name, data in sorted((name.encode(), data) for name, data in tree.items()):
        digest.update(varint(len(name)) + name + varint(len(data)) + hashlib.sha256(data).digest())
    return sum(map(len, tree.values())), digest.digest()


def keep(index: int) -> bytes:
    return b"\0" + varint(index)


def rename(index: int, name: str | bytes) -> bytes:
    return b"\x01" + varint(index) + named(name)


def change(index: int, inner: bytes, name: str | bytes | None = None) -> bytes:
    new = b"" if name is None else named(name)
    return (b"\x02" if name is None else b"\x03") + varint(index) + new + varint(len(inner)) + inner


def add(name: str | bytes, inner: bytes) -> bytes:
    return b"\x04" + named(name) + varint(len(inner)) + inner


def named(name: str | bytes) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    return varint(len(raw)) + raw


def folder_patch(
    base: Mapping[str, bytes],
    target: Mapping[str, bytes],
    *entries: bytes,
    memory_kib: int = 4096,
    features: int = 127,
    count: int | None = None,
    target_length: int | None = None,
) -> bytes:
    """Return a patch of kind folder."""
    body = varint(len(entries) if count is None else count) + b"".join(entries)
    length, digest = tree_identity(target)
    new = (length if target_length is None else target_length, digest)
    return header(FOLDER, features, memory_kib, tree_identity(base), new, len(body)) + body
