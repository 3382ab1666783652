"""Owns the valid golden vectors that are put together byte by byte: each coder and transform alone, at its limits."""

import struct
from dataclasses import dataclass
from fractions import Fraction

from tests.vectors.patch_builder import (
    GRID,
    GRID_NEW,
    JOIN,
    ORDER,
    RAW,
    SORTED,
    SUB,
    XOR,
    Lane,
    Stream,
    copy,
    crumb,
    deflate,
    deflate_payload,
    delta,
    fill,
    literal,
    lzma1,
    lzma_payload,
    nibble,
    ops,
    patch,
    rescale,
    signed,
    solid,
    stored,
    varint,
    zstd,
    zstd_payload,
)

TEXT = b"a patch turns one exact file into another, nothing into one exact file, or one exact folder into another. "
BASE = bytes(range(100)) + TEXT
COUNTED = bytes(i % 15 for i in range(15))


@dataclass(frozen=True)
class Vector:
    """A patch, what it is applied to, what comes out (None: it must be refused), and what it is about."""

    base: bytes
    target: bytes | None
    patch: bytes
    about: str


def whole(target: bytes, about: str, *streams: Stream, table: bytes | Stream | None = None, **more: int) -> Vector:
    """Return a whole-file patch of one LITERAL whose literals are coded by the only stream."""
    first = literal(len(target)) if table is None else table
    return Vector(b"", target, patch(None, target, ops(first, *streams, **more)), about)


def crumbs() -> dict[str, Vector]:
    escapes = bytes((3, 0, 255, 2))
    return {
        "crumb_whole_bytes": whole(b"\0\1\2\0\2\2\1\0", "no escapes", crumb(stored(b"\x24\x1a"), stored(b""))),
        "crumb_one": whole(b"\x02", "six bits are unused", crumb(stored(b"\x02"), stored(b""))),
        "crumb_two": whole(b"\x02\x01", "four bits are unused", crumb(stored(b"\x06"), stored(b""))),
        "crumb_three": whole(b"\0\1\x09", "the last place is an escape", crumb(stored(b"\x34"), stored(b"\x09"))),
        "crumb_all_escapes": whole(escapes, "escapes of any value", crumb(fill(0xFF), stored(escapes))),
        "crumb_of_lzma_and_deflate": whole(b"\1\x80\2", "", crumb(lzma1(b"\x2d"), deflate(b"\x80"))),
    }


def nibbles() -> dict[str, Vector]:
    packed = bytes((0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0x0E))
    escapes = bytes((15, 0, 255, 16, 14, 7))
    # A LITERAL of 16, a COPY of 1 and a COPY of 2 as 66, 4, 8; halves 2, 15 (4 in the low one), escapes 66.
    table = nibble(stored(b"\x4f\x08"), stored(b"\x42"))
    inner = deflate(bytes(3), deflate_payload(b"\x21\x43\x65"))
    joined = nibble(inner, stored(b""))
    planes = (deflate(TEXT[:6], deflate_payload(TEXT)), joined, JOIN)
    lanes = tuple(Lane(RAW, 0) for _ in range(3))
    after = ops(delta(6) + delta(6, 1) + delta(6, 2), lanes=lanes, planes=planes)
    mixed = TEXT[:6] + bytes((1, 2, 3, 4, 5, 6)) + TEXT[6:12]
    none = (nibble(stored(b""), stored(b"")),)
    unused = ops(literal(4), stored(b"word"), (Lane(SUB, 0),), none)
    behind = TEXT[:16] + BASE[16:17] + BASE[17:19]
    return {
        "nibble_even": whole(COUNTED + b"\0", "no escapes", nibble(stored(packed), stored(b""))),
        "nibble_odd": whole(COUNTED, "the last half is unused", nibble(stored(packed[:7] + b"\x0e"), stored(b""))),
        "nibble_one": whole(b"\x07", "one value", nibble(stored(b"\x07"), stored(b""))),
        "nibble_all_escapes": whole(
            escapes, "escapes of any value, small ones too", nibble(fill(0xFF), stored(escapes))
        ),
        "nibble_odd_escape_last": whole(
            b"\x01\x02\xfe", "the last half is the escape", nibble(stored(b"\x21\x0f"), stored(b"\xfe"))
        ),
        "nibble_fills": whole(b"\x09" * 8, "halves and escapes are filled", nibble(fill(0xFF), fill(9))),
        "nibble_of_lzma_and_deflate": whole(
            b"\x01\x02\x03\x04\x05\x80", "", nibble(lzma1(b"\x21\x43\xf5"), deflate(b"\x80"))
        ),
        "nibble_table": Vector(
            BASE, behind, patch(BASE, behind, ops(table, stored(TEXT[:16]), table_length=3)), "the table is packed"
        ),
        "nibble_before_join": Vector(
            b"", mixed, patch(None, mixed, after), "a join reads on from the payload before the nibble, not inside it"
        ),
        "nibble_empty": Vector(b"", b"word", patch(None, b"word", unused), "a lane that no operation uses"),
    }


def deflates() -> dict[str, Vector]:
    table = literal(len(TEXT))
    one = Stream(b"\x06" + varint(len(deflate_payload(table + TEXT))), deflate_payload(table + TEXT), 64)
    lane = (Lane(RAW, 1),)
    halves = bytes(range(12))
    planes = (deflate(halves[0::2], deflate_payload(halves[0::2] + halves[1::2])), JOIN)
    words = ops(delta(12), lanes=lane, planes=planes)
    unused = ops(literal(4), stored(b"word"), (Lane(SUB, 0),), (deflate(b"", b"\xff\xff\xff"),))
    empty, no_payload = ops(copy(4), deflate(b"")), ops(copy(4), deflate(b"", b""))
    return {
        "deflate": whole(TEXT, "", deflate(TEXT)),
        "deflate_fixed_block": whole(b"abc", "payload 4b 4c 4a 06 00", deflate(b"", bytes.fromhex("4b4c4a0600"))),
        "deflate_stored_block": whole(b"abc", "", deflate(b"", b"\x01\x03\x00\xfc\xffabc")),
        "deflate_two_blocks": whole(b"abcabc", "", deflate(b"", b"\x00\x03\x00\xfc\xffabc\x01\x03\x00\xfc\xffabc")),
        "deflate_without_last_block": whole(
            b"abc", "the payload ends, the stream does not say so", deflate(b"", b"\x00\x03\x00\xfc\xffabc")
        ),
        "deflate_trailing_bytes": whole(
            TEXT, "bytes after the stream are ignored", deflate(b"", deflate_payload(TEXT) + b"left over")
        ),
        "deflate_longer": whole(TEXT[:20], "the stream has more than is taken", deflate(TEXT)),
        "deflate_small_dictionary": whole(TEXT, "d is 0: no LZMA, no zstd", deflate(TEXT), d=0),
        "deflate_of_nothing": Vector(BASE, BASE[:4], patch(BASE, BASE[:4], empty), "no literals"),
        "deflate_no_payload": Vector(BASE, BASE[:4], patch(BASE, BASE[:4], no_payload), "no literals"),
        "deflate_nothing_taken": Vector(
            b"", b"word", patch(None, b"word", unused), "a payload of which nothing is taken is not looked at"
        ),
        "deflate_join_from_table": whole(TEXT, "one stream for table and literals", JOIN, table=one, table_length=2),
        "deflate_join_planes": Vector(b"", halves, patch(None, halves, words), "low bytes, then high bytes"),
    }


def lzmas_and_zstds() -> dict[str, Vector]:
    zeros = lzma_payload(bytes(300)).rstrip(b"\0")
    table = literal(len(TEXT))
    one = lzma1(b"", payload=lzma_payload(table + TEXT), length=None)
    both = zstd_payload(table + TEXT)
    rle = b"\x28\xb5\x2f\xfd\x20\x40" + (64 << 3 | 3).to_bytes(3, "little") + b"!"
    return {
        "lzma": whole(TEXT, "", lzma1(TEXT)),
        "lzma_lc0_lp2_pb0": whole(TEXT, "", lzma1(TEXT, 2 * 9)),
        "lzma_lc4_pb4": whole(TEXT, "", lzma1(TEXT, 4 * 45 + 4)),
        "lzma_cut_zeros": whole(bytes(300), "trailing zeros of the payload left out", lzma1(b"", payload=zeros)),
        "lzma_no_payload": whole(bytes(5), "all zeros: an empty payload", lzma1(b"", payload=b"")),
        "lzma_trailing_bytes": whole(TEXT, "", lzma1(b"", payload=lzma_payload(TEXT) + b"left over")),
        "lzma_join_from_table": whole(TEXT, "", JOIN, table=one, table_length=2),
        "lzma_large_dictionary": Vector(
            b"", TEXT, patch(None, TEXT, ops(table, lzma1(TEXT), d=25), memory_kib=1 << 15 | 1 << 11), "d is 25"
        ),
        "solid_stored": Vector(b"", TEXT, patch(None, TEXT, solid(stored(TEXT), len(TEXT), d=0)), ""),
        "solid_lzma": Vector(b"", TEXT, patch(None, TEXT, solid(lzma1(TEXT), len(TEXT))), ""),
        "solid_lzma_no_payload": Vector(
            b"", bytes(5), patch(None, bytes(5), solid(lzma1(b"", payload=b""), 5)), "all zeros: an empty payload"
        ),
        "solid_twice": Vector(
            b"",
            TEXT + TEXT,
            patch(None, TEXT + TEXT, solid(stored(TEXT), len(TEXT)), solid(lzma1(TEXT), len(TEXT))),
            "",
        ),
        "zstd_raw_block": whole(TEXT, "single segment", zstd(TEXT)),
        "zstd_rle_block": whole(b"!" * 64, "", zstd(b"", rle)),
        "zstd_window_as_allowed": whole(TEXT, "window 2^12, d is 12", zstd(b"", zstd_payload(TEXT, 2 << 3))),
        "zstd_trailing_bytes": whole(TEXT, "", zstd(b"", zstd_payload(TEXT) + b"left over")),
        "zstd_longer": whole(TEXT[:9], "the frame has more than is taken", zstd(TEXT)),
        "zstd_join_from_table": whole(TEXT, "", JOIN, table=zstd(b"", both), table_length=2),
    }


def numbers(width: int, values: list[int]) -> bytes:
    return b"".join(value.to_bytes(width, "little", signed=True) for value in values)


def rescaled(
    log2_width: int, values: list[int], residuals: list[int], ratios: list[int], e: int, block: int
) -> Vector:
    """Return one DELTA over all of a tensor that begins at byte 3 of the base. The formula is that of the ratios."""
    width, start = 1 << log2_width, 3
    limit = 1 << (8 * width - 1)
    new = []
    for i, (value, residual) in enumerate(zip(values, residuals, strict=True)):
        ratio = Fraction(ratios[i // block % len(ratios)], 2**e)
        predicted = max(-limit, min(limit - 1, (value * ratio + Fraction(1, 2)).__floor__()))
        new.append((predicted + residual + limit) % (2 * limit) - limit)
    base, target = b"old"[:start] + numbers(width, values), numbers(width, new)
    zigzags = b"".join((2 * r if r >= 0 else -2 * r - 1).to_bytes(width, "little") for r in residuals)
    planes = tuple(stored(zigzags[at::width]) for at in range(width))
    lane = (rescale(log2_width, start, block, e, ratios),)
    made = patch(base, target, ops(delta(len(target), seek=start), lanes=lane, planes=planes))
    return Vector(base, target, made, f"ratios {ratios} / 2^{e}, block {block}")


def rescales() -> dict[str, Vector]:
    ends = [-128, -127, -65, -64, -1, 0, 1, 63, 64, 65, 126, 127]
    wide = [-(1 << 15), -20000, -3, -1, 0, 1, 2, 30000, (1 << 15) - 1, 7]
    widest = [-(1 << 31), -(1 << 30), -5, -1, 0, 1, 2, 5, 1 << 30, (1 << 31) - 1]
    small = [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6]
    middle_base = bytes(range(8))
    # Elements 3 to 6 of a tensor of int8: channels (i / 2) mod 3 are 1, 2, 2, 0.
    middle_target = bytes((3 * 2, 4 * 3, 5 * 3, 6 * 1))
    middle = ops(delta(4, seek=3), lanes=(rescale(0, 0, 2, 4, [16, 32, 48]),), planes=(fill(0),))
    two_base = bytes((10, 20, 30, 40))
    two = ops(
        delta(2, 1) + delta(2, 0),
        lanes=(rescale(0, 2, 1, 1, [1]), rescale(0, 0, 1, 24, [1 << 26])),
        planes=(fill(0), fill(1)),
    )
    return {
        "rescale_equal_scales": rescaled(0, ends, small, [1 << 20], 20, 1),
        "rescale_1_clips": rescaled(0, ends, [0] * 12, [3 << 8], 8, 1),
        "rescale_1_channels": rescaled(0, ends, small, [200, 256, 300, 0, 511], 8, 1),
        "rescale_1_block": rescaled(0, ends, small, [200, 256, 300], 8, 2),
        "rescale_1_long_block": rescaled(0, ends, small, [200, 300], 8, 1 << 40),
        "rescale_1_e1": rescaled(0, ends, small, [1, 3, 5], 1, 1),
        "rescale_1_e24": rescaled(0, ends, small, [1, (1 << 24) - 1, (1 << 23) + 12345, 1 << 26], 24, 1),
        "rescale_1_wraps": rescaled(0, [127, -128, 127, -128], [1, -1, 127, -128], [4], 2, 1),
        "rescale_2": rescaled(1, wide, small[:10], [65000, 66000], 16, 3),
        "rescale_4_clips": rescaled(2, widest, small[:10], [1 << 26, 3], 1, 1),
        "rescale_4_e24": rescaled(2, widest, [-(1 << 31), *small[:9]], [(1 << 24) + 1, (1 << 24) - 1], 24, 1),
        "rescale_from_the_middle": Vector(
            middle_base, middle_target, patch(middle_base, middle_target, middle), "an operation inside of a block"
        ),
        "rescale_two_lanes": Vector(
            two_base,
            b"\x27\x4f\x0f\x14",
            patch(two_base, b"\x27\x4f\x0f\x14", two),
            "times 4 less 1, then half, by two lanes",
        ),
    }


def transforms() -> dict[str, Vector]:
    """Hand-computed elements, so that not only an encoder and a decoder agree with each other."""
    one, next_one = struct.pack("<f", 1.0), bytes.fromhex("0100803f")
    float_plane = tuple(stored(bytes((value,))) for value in (2, 0, 0, 0))
    zero_to_minus = (fill(1), *(fill(0),) * 3)
    infinite = struct.pack("<f", float("inf"))
    largest = bytes.fromhex("ffff7f7f")
    plus = tuple(stored(bytes((value,))) for value in (2, 0, 0, 0))
    # Exponents 3f8, 400, 3f8: keys 127, 128, 127, so the coded order is elements 0, 2, 1.
    mixed = struct.pack("<3f", 1.0, 2.0, 1.0)
    sorted_target = bytes.fromhex("0000803f030000400200803f")
    sorted_planes = (stored(bytes((0, 4, 6))), fill(0), fill(0), fill(0))
    quarter, tie = struct.pack("<2f", 1.0, -0.75), struct.pack("<2f", 1.5, 0.0)
    steps = (stored(bytes((4, 6))), fill(0), fill(0), fill(0))
    round_base = struct.pack("<f", 16777216.0)
    overflow = (fill(0xFE), *(fill(0xFF),) * 3)

    def lane(
        transform: int, more: bytes, base: bytes, target: bytes, planes: tuple[Stream, ...], about: str
    ) -> Vector:
        log2_width = len(planes).bit_length() - 1
        frame = ops(delta(len(target)), lanes=(Lane(transform, log2_width, more),), planes=planes)
        return Vector(base, target, patch(base, target, frame), about)

    return {
        "order_next_float": lane(ORDER, b"", one, next_one, float_plane, "1.0 to the next float"),
        "order_zero_to_minus_zero": lane(ORDER, b"", bytes(4), b"\0\0\0\x80", zero_to_minus, "0.0 to -0.0: one down"),
        "order_largest_to_infinity": lane(ORDER, b"", largest, infinite, plus, "one up"),
        "order_wraps": lane(ORDER, b"", b"\xff" * 4, b"\xff\xff\xff\x7f", zero_to_minus, "below the lowest"),
        "sorted_by_exponent": lane(SORTED, b"", mixed, sorted_target, sorted_planes, ""),
        "sorted_1": lane(SORTED, b"", b"\x82\x01\x02", b"\x81\x01\x04", (stored(b"\0\2\4"),), "keys 4, 2, 4"),
        "grid_quarters": lane(GRID, signed(2), quarter, tie, steps, "2 and 3 steps of a quarter"),
        "grid_new_eighths": lane(
            GRID_NEW, signed(3), b"", struct.pack("<2f", 0.25, 0.375), steps, "2 and 3 steps of an eighth"
        ),
        "grid_ties_to_even": lane(
            GRID, signed(0), round_base, round_base, (fill(2), *(fill(0),) * 3), "2^24 + 1 rounds to 2^24"
        ),
        "grid_new_infinity": lane(
            GRID_NEW, signed(-149), b"", infinite, overflow, "(2^31 - 1) * 2^149 is above all floats"
        ),
        "grid_new_smallest": lane(
            GRID_NEW, signed(149), b"", b"\1\0\0\0", (fill(2), *(fill(0),) * 3), "2^-149, the least subnormal"
        ),
    }


def operations() -> dict[str, Vector]:
    middle = BASE[:50] + b"new" + BASE[50:]
    moved = BASE[40:60] + BASE[10:20] + BASE[20:25]
    behind = b"\x01\x02\x03\x04"
    far = ops(delta(4, seek=1 << 40), lanes=(Lane(RAW, 0),), planes=(stored(behind),))
    flipped = bytes(b ^ 255 for b in BASE[5:9]) + BASE[9:12]
    exact = ops(literal(4), stored(behind), d=0)
    # 16 * (1 byte of table + 4 bytes of literals) + 2^0 + 2^20 bytes, in KiB rounded up.
    return {
        "copy_and_insert": Vector(
            BASE, middle, patch(BASE, middle, ops(copy(50) + literal(3) + copy(156, -3), stored(b"new"))), ""
        ),
        "copy_seeks": Vector(
            BASE, moved, patch(BASE, moved, ops(copy(20, 40) + copy(10, -50) + copy(5))), "forward, back, on"
        ),
        "frames_start_at_0": Vector(
            BASE, BASE[:8] * 2, patch(BASE, BASE[:8] * 2, ops(copy(8)), ops(copy(8))), "the cursor of each frame"
        ),
        "xor_after_seek": Vector(
            BASE,
            flipped,
            patch(BASE, flipped, ops(delta(4, seek=5) + copy(3), lanes=(Lane(XOR, 0),), planes=(fill(255),))),
            "",
        ),
        "raw_behind_the_base": Vector(
            BASE, behind, patch(BASE, behind, far), "raw reads no base, so none is missing"
        ),
        "memory_just_enough": Vector(b"", behind, patch(None, behind, exact, memory_kib=1025), ""),
        "extension": Vector(
            b"", behind, patch(None, behind, exact, extension=b"\x01\x03abc" * 800), "4000 bytes to step over"
        ),
        "empty_target": Vector(BASE, b"", patch(BASE, b"", memory_kib=0), "no frame"),
        "empty_base": Vector(b"", behind, patch(b"", behind, exact), "kind file"),
    }


def vectors() -> dict[str, Vector]:
    """Return all of them by name."""
    return {
        **nibbles(),
        **crumbs(),
        **deflates(),
        **lzmas_and_zstds(),
        **rescales(),
        **transforms(),
        **operations(),
    }
