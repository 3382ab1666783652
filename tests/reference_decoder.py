"""Owns a second decoder of the patch format, written from docs/patch-format.md alone: it imports nothing of ours.

Plain and slow on purpose: files are bytes in memory. It proves that the specification is sufficient, and tests
compare modelpatch with it. It refuses all that is invalid with one exception, `Invalid`. Folders are in
reference_folders.py.
"""

import hashlib
import lzma
import math
import struct
import zlib

MAGIC = bytes.fromhex("894b4d50")
FILE, WHOLE, FOLDER = 0, 1, 2
STORED, LZMA, ZSTD, FILL, JOIN, NIBBLE, DEFLATE, CRUMB = range(8)
FEATURE_OF_CODER = {LZMA: 1, ZSTD: 8, NIBBLE: 32, DEFLATE: 64, CRUMB: 128}
RAW, XOR, SUB, ORDER, SORTED, GRID, GRID_NEW, RESCALE = range(8)
FEATURE_OF_TRANSFORM = {SORTED: 4, GRID: 2, GRID_NEW: 2, RESCALE: 16}
MAX_PAYLOAD = 2**22 + 2**16


class Invalid(Exception):
    """The patch, or what it is applied to, is not what the specification asks for."""


def need(condition, reason):
    if not condition:
        raise Invalid(reason)


class Reader:
    """Takes numbers and bytes from the front of `data`."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(count <= len(self.data) - self.at, "the bytes end early")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self, largest=2**63 - 1):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            need(shift < 63, "a varint above 9 bytes")
        need(byte or shift == 7, "a varint that is not in the shortest form")
        need(value <= largest, "a number above its limit")
        return value

    def signed(self):
        value = self.varint()
        return -(value + 1) // 2 if value & 1 else value // 2

    def done(self):
        return self.at == len(self.data)


class Header:
    def __init__(self, reader):
        need(reader.take(4) == MAGIC, "not a patch")
        need(reader.byte() == 1, "another version")
        self.kind = reader.byte()
        need(self.kind in (FILE, WHOLE, FOLDER), "an unknown kind or flag")
        self.features = reader.varint(2**32)
        need(self.features < 256, "an unknown feature")
        self.memory = 1024 * reader.varint(2**32)
        if self.kind != WHOLE:
            self.base_length, self.base_digest = reader.varint(), reader.take(32)
        self.target_length, self.target_digest = reader.varint(), reader.take(32)
        reader.take(reader.varint(4096))
        self.body = Reader(reader.take(reader.varint()))
        need(reader.done(), "bytes after the body")


def read_header(patch, kinds, max_target, max_memory, strict=False):
    header = Header(Reader(patch))
    header.strict = strict
    need(header.kind in kinds, "a patch of another kind is wanted here")
    need(header.target_length <= max_target, "the target is too long for the caller")
    need(header.memory <= max_memory, "too much memory for the caller")
    return header


def decode(patch, base=b"", max_target=2**24, max_memory=2**26, kinds=(FILE, WHOLE), strict=False):
    """Return the target bytes that a patch of kind file or whole makes of `base`.

    `strict` also refuses what uses a feature that the header does not declare; a decoder need not, a diff must.
    """
    header = read_header(patch, kinds, max_target, max_memory, strict)
    if header.kind == WHOLE:
        base = b""
    else:
        need(len(base) == header.base_length, "another base: length")
        need(hashlib.sha256(base).digest() == header.base_digest, "another base: digest")
    target = bytearray()
    while len(target) < header.target_length:
        make_frame(header, base, target)
    need(len(target) == header.target_length, "more bytes than the target has")
    need(header.body.done(), "bytes after the last frame")
    need(hashlib.sha256(target).digest() == header.target_digest, "another target")
    return bytes(target)


def make_frame(header, base, target):
    """Append to `target` what the next frame makes."""
    body, first = header.body, header.body.byte()
    frame_type, d = first & 7, first >> 3
    need(frame_type < 2 and d <= 26, "an unknown frame")
    streams = Streams(header, d)
    left = header.target_length - len(target)
    if frame_type == 0:
        run(*read_ops_frame(header, streams, left), base, target)
        return
    streams.check_memory(0)
    description = streams.describe(len(body.data))
    need(description[0] in (STORED, LZMA), "a coder that solid frames do not have")
    raw = body.varint()
    need(1 <= raw <= left, "a bad length of a solid frame")
    target += streams.read(description, raw)


def read_ops_frame(header, streams, left):
    """Return the operations and the literals; the lanes that operations name have got their planes."""
    table_length = header.body.varint(2**18)
    need(table_length >= 1, "an empty table")
    lanes = [Lane(header) for _ in range(header.body.varint(64))]
    need(sum(len(lane.multipliers) for lane in lanes) <= 2**14, "too many channels")
    table_coder, literal_coder, *plane_coders = [streams.describe() for _ in range(2 + sum(x.width for x in lanes))]
    streams.check_memory(table_length)
    operations = read_table(Reader(streams.read(table_coder, table_length)), lanes)
    need(sum(operation[1] for operation in operations) <= left, "more bytes than the target has")
    literal_length = sum(length for kind, length, _, _ in operations if kind == 2)
    for _, length, lane, _ in operations:
        if lane:
            lane.length += length
    raw = table_length + literal_length + sum(lane.length for lane in lanes)
    need(raw <= 2**22, "too many raw bytes in a frame")
    streams.check_memory(raw)
    literals = Reader(streams.read(literal_coder, literal_length))
    for lane in lanes:
        for _ in range(lane.width):
            lane.planes.append(Reader(streams.read(plane_coders.pop(0), lane.length // lane.width)))
    return operations, literals


def run(operations, literals, base, target):
    cursor = 0
    for kind, length, lane, seek in operations:
        cursor += seek
        need(cursor >= 0, "a cursor below 0")
        if kind == 2:
            target += literals.take(length)
        elif kind < 2:
            need(cursor + length <= len(base), "a read past the end of the base")
            target += base[cursor : cursor + length]
        else:
            target += lane.make(base, cursor, length)
        cursor += length


def read_table(table, lanes):
    """Return (kind, length, lane or None, what is added to the cursor before) of each operation."""
    operations = []
    while not table.done():
        v = table.varint()
        kind, length, lane, seek = v & 3, v >> 2, None, 0
        need(length, "an empty operation")
        if kind == 1:
            seek = table.signed()
        if kind == 3:
            u = table.varint()
            need(u >> 1 < len(lanes), "no such lane")
            lane = lanes[u >> 1]
            need(length % lane.width == 0, "part of an element")
            if u & 1:
                seek = table.signed()
        operations.append((kind, length, lane, seek))
    return operations


class Streams:
    """Reads stream descriptions, and the raw bytes of streams from the payloads."""

    def __init__(self, header, d):
        self.header, self.body, self.d, self.last = header, header.body, d, None

    def check_memory(self, raw):
        need(16 * raw + 2**self.d + 2**20 <= self.header.memory, "more memory than the header declares")

    def describe(self, max_payload=MAX_PAYLOAD, inner=False):
        coder, more = self.body.byte(), None
        need(coder <= CRUMB and not (inner and coder in (JOIN, NIBBLE, CRUMB)), "an unknown coder")
        feature = FEATURE_OF_CODER.get(coder, 0)
        need(not self.header.strict or feature & self.header.features == feature, "an undeclared coder")
        need(coder not in (LZMA, ZSTD) or self.d >= 12, "too small a dictionary")
        if coder == LZMA:
            props = self.body.byte()
            need(props // 45 <= 4 and props % 9 + props // 9 % 5 <= 4, "bad LZMA properties")
            more = props, self.body.varint(max_payload)
        elif coder in (ZSTD, DEFLATE):
            more = self.body.varint(max_payload)
        elif coder == FILL:
            more = self.body.take(1)
        elif coder in (NIBBLE, CRUMB):
            more = self.describe(inner=True), self.describe(inner=True)
        return coder, more

    def read(self, description, length, inner=False):
        coder, more = description
        if coder == STORED:
            return self.body.take(length)
        if coder == FILL:
            return more * length
        if coder == NIBBLE:
            return self.read_nibble(*more, length)
        if coder == CRUMB:
            return self.read_crumb(*more, length)
        if coder == JOIN:
            need(self.last, "nothing to join")
            return self.last.take(length)
        if coder == LZMA:
            payload = Unpacked(lzma_bytes(more[0], 2**self.d, self.body.take(more[1])))
        elif coder == ZSTD:
            payload = Unpacked(zstd_bytes(2**self.d, self.body.take(more)))
        else:
            payload = Unpacked(deflate_bytes(self.body.take(more)))
        if not inner:
            self.last = payload
        return payload.take(length)

    def read_nibble(self, halves_coder, escapes_coder, length):
        halves = self.read(halves_coder, (length + 1) // 2, inner=True)
        values = [half for byte in halves for half in (byte & 15, byte >> 4)]
        need(length % 2 == 0 or values[-1] == 0, "the unused half is not 0")
        escapes = iter(self.read(escapes_coder, values[:length].count(15), inner=True))
        return bytes(next(escapes) if value == 15 else value for value in values[:length])

    def read_crumb(self, packed_coder, escapes_coder, length):
        packed = self.read(packed_coder, (length + 3) // 4, inner=True)
        values = [byte >> shift & 3 for byte in packed for shift in (0, 2, 4, 6)]
        need(not any(values[length:]), "the unused bits are not 0")
        escapes = iter(self.read(escapes_coder, values[:length].count(3), inner=True))
        return bytes(next(escapes) if value == 3 else value for value in values[:length])


class Unpacked:
    """Raw bytes as they come out of a payload: `pull(n)` gives at most n more, nothing when there are none."""

    def __init__(self, pull):
        self.pull = pull

    def take(self, length):
        raw = b""
        while len(raw) < length:
            more = self.pull(length - len(raw))
            need(more, "a payload is too short")
            raw += more
        return raw


def lzma_bytes(props, dictionary, payload):
    lclppb = {"lc": props % 9, "lp": props // 9 % 5, "pb": props // 45}
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, **lclppb}]
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    waiting = [b"\0" + payload + bytes(16)]

    def pull(most):
        try:
            return b"" if unpacker.eof else unpacker.decompress(waiting.pop() if waiting else b"", most)
        except lzma.LZMAError as e:
            raise Invalid(str(e)) from e

    return pull


def deflate_bytes(payload):
    unpacker, waiting = zlib.decompressobj(-15), [payload]

    def pull(most):
        try:
            raw = unpacker.decompress(waiting.pop(), most)
        except zlib.error as e:
            raise Invalid(str(e)) from e
        waiting.append(unpacker.unconsumed_tail)
        return raw

    return pull


def zstd_bytes(window, payload):
    try:
        import zstandard  # the only part that the standard library does not have
    except ImportError as e:
        raise Invalid("no module for zstd") from e
    stream = zstandard.ZstdDecompressor(max_window_size=window).stream_reader(payload)

    def pull(most):
        try:
            return stream.read(most)
        except zstandard.ZstdError as e:
            raise Invalid(str(e)) from e

    return pull


class Lane:
    """Transform and width, and the planes that the operations of the lane consume."""

    def __init__(self, header):
        reader = header.body
        self.transform, self.width = divmod(reader.byte(), 4)
        self.width, self.length, self.planes, self.multipliers = 1 << self.width, 0, [], []
        need(self.transform <= RESCALE, "an unknown transform")
        feature = FEATURE_OF_TRANSFORM.get(self.transform, 0)
        need(not header.strict or feature & header.features == feature, "an undeclared transform")
        if self.transform in (GRID, GRID_NEW):
            self.k = reader.signed()
            need(abs(self.k) <= 149 and self.width == 4, "a bad grid")
        if self.transform == RESCALE:
            self.start, self.block, self.e = reader.varint(), reader.varint(), reader.byte()
            channels = reader.varint(2**14)
            need(self.block >= 1 and 1 <= self.e <= 24 and channels >= 1 and self.width < 8, "a bad rescale")
            self.multipliers = [reader.signed() + 2**self.e for _ in range(channels)]
            need(all(0 <= m <= 2**26 for m in self.multipliers), "a bad multiplier")

    def make(self, base, cursor, length):
        """Return the target bytes of one DELTA whose base elements begin at `cursor`."""
        count, bits = length // self.width, 8 * self.width
        parts = [plane.take(count) for plane in self.planes]
        coded = [int.from_bytes(bytes(element), "little") for element in zip(*parts, strict=True)]
        if self.transform in (RAW, GRID_NEW):
            old = [0] * count
        else:
            need(cursor + length <= len(base), "a read past the end of the base")
            places = range(cursor, cursor + length, self.width)
            old = [int.from_bytes(base[at : at + self.width], "little") for at in places]
        if self.transform == SORTED:
            key = [(b << 1 if bits == 8 else b >> (bits - 9)) & 255 for b in old]
            order = sorted(range(count), key=key.__getitem__)
            coded = [z for _, z in sorted(zip(order, coded, strict=True))]
        if self.transform == RESCALE:
            need(cursor >= self.start and (cursor - self.start) % self.width == 0, "outside of the tensor")
            first = (cursor - self.start) // self.width
            old = [self.predict(b, first + j) for j, b in enumerate(old)]
        new = [self.undo(b, z, bits) % 2**bits for b, z in zip(old, coded, strict=True)]
        return b"".join(t.to_bytes(self.width, "little") for t in new)

    def predict(self, b, i):
        half = 2 ** (8 * self.width - 1)
        b = b - 2 * half if b >= half else b
        m = self.multipliers[i // self.block % len(self.multipliers)]
        p = (b * m + 2 ** (self.e - 1)) // 2**self.e
        return max(-half, min(half - 1, p))

    def undo(self, b, z, bits):
        top = 2 ** (bits - 1)
        u = z >> 1 ^ -(z & 1)
        if self.transform in (RAW, XOR):
            return b ^ z
        if self.transform in (SUB, RESCALE):
            return b + u
        if self.transform in (ORDER, SORTED):
            place = (2 * top - 1 - b if b & top else b | top) + u
            place %= 2 * top
            return place & (top - 1) if place & top else ~place
        old = float32(b) if self.transform == GRID else 0.0
        return float32_bits(old + math.ldexp(u, -self.k))


def float32(bits):
    return struct.unpack("<f", bits.to_bytes(4, "little"))[0]


def float32_bits(value):
    try:
        return int.from_bytes(struct.pack("<f", value), "little")
    except OverflowError:  # rounds to an infinity
        return 0xFF800000 if value < 0 else 0x7F800000
