"""Owns the invalid golden vectors that are put together byte by byte: one rule of the specification broken in each.

Where it can be, the declared target is what a decoder would make that forgot the rule: then the digest hides nothing.
"""

import struct

from tests.vectors.hand_valid import BASE, TEXT, Vector
from tests.vectors.patch_builder import (
    DEFLATE,
    FILE,
    FOLDER,
    GRID,
    GRID_NEW,
    JOIN,
    RAW,
    SUB,
    WHOLE,
    Frame,
    Lane,
    Stream,
    copy,
    crumb,
    deflate,
    deflate_payload,
    delta,
    fill,
    header,
    identity,
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

WORD = b"word"
GOOD = patch(BASE, BASE[:50] + b"new" + BASE[50:], ops(copy(50) + literal(3) + copy(156, -3), stored(b"new")))
BODY = len(GOOD) - 14


def made(target: bytes, about: str, *frames: Frame, base: bytes | None = None, memory_kib: int = 4096) -> Vector:
    return Vector(base or b"", None, patch(base, target, *frames, memory_kib=memory_kib), about)


def headers() -> dict[str, Vector]:
    word, word_at = ops(literal(4), stored(WORD)), identity(WORD)
    body = word.data
    table = {
        "empty": (b"", "no byte"),
        "magic": (b"\x89KMQ" + GOOD[4:], ""),
        "newer_version": (GOOD[:4] + b"\x02" + GOOD[5:], ""),
        "version_0": (GOOD[:4] + b"\x00" + GOOD[5:], ""),
        "unknown_kind": (GOOD[:5] + b"\x07" + GOOD[6:], ""),
        "kind_3": (GOOD[:5] + b"\x03" + GOOD[6:], ""),
        "unknown_flag": (GOOD[:5] + b"\x08" + GOOD[6:], ""),
        "unknown_feature": (GOOD[:6] + b"\x80\x02" + GOOD[7:], "feature bit 256"),
        "features_out_of_range": (GOOD[:6] + varint((1 << 32) + 1) + GOOD[7:], ""),
        "cut_header": (GOOD[:20], ""),
        "cut_body": (GOOD[:-1], ""),
        "trailing_byte": (GOOD + b"\0", "a byte after the body"),
        "padded_varint": (GOOD[:6] + b"\x80\x00" + GOOD[7:], "0 as two bytes"),
        "varint_of_10_bytes": (GOOD[:6] + b"\x80" * 9 + b"\x01" + GOOD[7:], ""),
        "memory_out_of_range": (header(WHOLE, 0, (1 << 32) + 1, None, word_at, len(body)) + body, ""),
        "memory_above_64_mib": (header(WHOLE, 0, (1 << 16) + 1, None, word_at, len(body)) + body, ""),
        "extension_too_long": (header(WHOLE, 0, 4096, None, word_at, len(body), bytes(4097)) + body, ""),
        "declares_a_terabyte": (header(WHOLE, 0, 4096, None, (1 << 40, word_at[1]), len(body)) + body, ""),
        "target_longer": (header(WHOLE, 0, 4096, None, (5, word_at[1]), len(body)) + body, "the body ends before"),
        "target_shorter": (header(WHOLE, 0, 4096, None, (3, word_at[1]), len(body)) + body, "the body makes more"),
        "target_empty": (header(WHOLE, 0, 4096, None, (0, word_at[1]), len(body)) + body, "the body goes on"),
        "wrong_target_digest": (header(WHOLE, 0, 4096, None, (4, bytes(32)), len(body)) + body, ""),
        "body_length_short": (header(WHOLE, 0, 4096, None, word_at, len(body) - 1) + body, ""),
        "body_length_long": (header(WHOLE, 0, 4096, None, word_at, len(body) + 1) + body, ""),
        "body_length_huge": (header(WHOLE, 0, 4096, None, word_at, (1 << 63) - 1) + body, ""),
        "frame_behind_the_target": (
            header(WHOLE, 0, 4096, None, word_at, 2 * len(body)) + 2 * body,
            "a second frame after the last byte",
        ),
        "folder_as_file": (header(FOLDER, 0, 4096, (0, bytes(32)), word_at, len(body)) + body, ""),
        "base_length": (header(FILE, 0, 4096, (len(BASE) + 1, identity(BASE)[1]), word_at, len(body)) + body, ""),
        "base_digest": (header(FILE, 0, 4096, (len(BASE), bytes(32)), word_at, len(body)) + body, ""),
    }
    return {name: Vector(BASE, None, data, about) for name, (data, about) in table.items()}


def frames() -> dict[str, Vector]:
    def word(table: bytes | Stream, *streams: Stream, **more: int) -> Frame:
        return ops(table, *(streams or (stored(WORD),)), **more)

    good = word(literal(4)).data
    many = tuple(Lane(RAW, 0) for _ in range(65))
    large = ops(literal(1 << 22), fill(0))
    return {
        "unknown_frame": made(WORD, "type 2", Frame(bytes((good[0] | 2,)) + good[1:])),
        "dictionary_2_27": made(WORD, "", word(literal(4), d=27), memory_kib=1 << 16),
        "lzma_d_11": made(WORD, "", word(literal(4), lzma1(WORD), d=11)),
        "zstd_d_11": made(WORD, "", word(literal(4), zstd(WORD), d=11)),
        "table_empty": made(b"", "a table of no bytes", word(b"")),
        "table_too_long": made(
            bytes(1 << 18), "2^18 + 1 bytes", ops(fill(4), table_length=(1 << 18) + 1), base=b"", memory_kib=1 << 15
        ),
        "lanes_too_many": made(WORD, "65", word(literal(4), stored(WORD), lanes=many, planes=(fill(0),) * 65)),
        "frame_too_large": made(bytes(1 << 22), "raw above 2^22", large, memory_kib=1 << 17 >> 1),
        "memory_too_small": made(WORD, "one KiB less", word(literal(4), d=0), memory_kib=1024),
        "memory_of_the_dictionary": made(WORD, "", word(literal(4), d=22), memory_kib=4096),
        "memory_of_a_solid": made(WORD, "", solid(stored(WORD), 4, d=22), memory_kib=4096),
        "solid_of_nothing": made(WORD, "raw length 0", solid(stored(b""), 0), word(literal(4))),
        "solid_too_long": made(WORD, "", solid(stored(WORD + b"s"), 5)),
        "solid_short": made(
            TEXT, "the payload ends early", solid(lzma1(b"", payload=lzma_payload(TEXT)[:20]), len(TEXT))
        ),
        "solid_fill": made(bytes(4), "a coder that solid frames do not have", solid(fill(0), 4)),
        "solid_deflate": made(TEXT, "a coder that solid frames do not have", solid(deflate(TEXT), len(TEXT))),
        "solid_nibble": made(
            bytes(4), "a coder that solid frames do not have", solid(nibble(fill(0), stored(b"")), 4)
        ),
        "solid_join": made(WORD, "nothing to join", solid(JOIN, 4)),
    }


def tables() -> dict[str, Vector]:
    lane = (Lane(SUB, 0),)
    two = (Lane(SUB, 1),)

    def one(target: bytes, table: bytes, about: str = "", literals: Stream | None = None) -> Vector:
        return made(target, about, ops(table, literals), base=BASE)

    def typed(target: bytes, table: bytes, lanes: tuple[Lane, ...], count: int, about: str = "") -> Vector:
        return made(target, about, ops(table, None, lanes, (fill(0),) * count), base=BASE)

    end = len(BASE)
    return {
        "copy_of_nothing": one(BASE[:4], copy(0) + copy(4)),
        "literal_of_nothing": one(BASE[:4], literal(0) + copy(4)),
        "copy_behind_the_end": one(BASE + b"x", copy(end + 1)),
        "copy_seeks_behind_the_end": one(BASE[:4], copy(4, end - 3)),
        "copy_far_behind_the_end": one(BASE[:4], copy(4, (1 << 62) - 1)),
        "copy_before_the_base": one(BASE[-1:] + BASE[:3], copy(4, -1)),
        "literal_with_cursor_below_0": one(
            BASE[:1] + WORD, copy(1) + varint(4 << 2 | 1) + signed(-2), "seek below 0", stored(WORD)
        ),
        "raw_before_the_base": typed(bytes(4), delta(4, seek=-1), (Lane(RAW, 0),), 1, "the cursor, though unused"),
        "table_cut": one(BASE[:4], copy(4, 0)[:1], "the seek is missing"),
        "table_ends_in_a_varint": one(BASE[:4], copy(4) + b"\x80"),
        "table_padded_varint": one(BASE[:4], bytes((4 << 2 | 128, 0))),
        "delta_lane_missing": typed(bytes(4), delta(4, 1), lane, 1),
        "delta_part_of_an_element": typed(BASE[:3], delta(3), two, 2),
        "delta_behind_the_end": typed(BASE[-3:] + b"\0", delta(4, seek=end - 3), lane, 1),
        "operation_longer_than_the_target": made(WORD, "", ops(copy(1 << 40)), base=BASE),
        "copy_in_a_whole_patch": made(BASE[:4], "", ops(copy(4))),
        "literals_sum_too_large": made(WORD, "", ops(literal((1 << 61) - 1) * 8, fill(0))),
    }


def lanes() -> dict[str, Vector]:
    base = bytes(range(16))

    def typed(lane: Lane, target: bytes = b"\0\0\0\0", seek: int = 0) -> Vector:
        width = 1 << lane.log2_width
        table = delta(len(target), seek=seek)
        return made(target, "", ops(table, None, (lane,), (fill(0),) * width), base=base)

    float_bytes = struct.pack("<f", 0.0)
    many = rescale(0, 0, 1, 4, [16] * (1 << 14))
    over = (many, rescale(0, 0, 1, 4, [16]))
    broken = {
        "rescale_width_8": (rescale(3, 0, 1, 4, [16]), base[:8], 0),
        "rescale_block_0": (rescale(0, 0, 0, 4, [16]), base[:4], 0),
        "rescale_e_0": (rescale(0, 0, 1, 0, [1]), base[:4], 0),
        "rescale_e_25": (rescale(0, 0, 1, 25, [1 << 25]), base[:4], 0),
        "rescale_no_channel": (rescale(0, 0, 1, 4, []), base[:4], 0),
        "rescale_ratio_negative": (rescale(0, 0, 1, 4, [-1]), bytes(4), 0),
        "rescale_ratio_too_large": (rescale(0, 0, 1, 4, [(1 << 26) + 1]), b"\x00\x7f\x7f\x7f", 0),
        "rescale_below_start": (rescale(0, 8, 1, 4, [16]), base[7:11], 7),
        "rescale_between_elements": (rescale(1, 1, 1, 4, [16]), base[2:6], 2),
        "rescale_behind_the_end": (rescale(0, 0, 1, 4, [16]), base[13:] + b"\0", 13),
        "rescale_too_many_channels": (rescale(0, 0, 1, 4, [16] * ((1 << 14) + 1)), base[:4], 0),
        "unknown_transform": (Lane(8, 0), base[:4], 0),
        "unknown_transform_63": (Lane(63, 0), base[:4], 0),
        "grid_width_2": (Lane(GRID, 1, signed(0)), base[:4], 0),
        "grid_k_150": (Lane(GRID, 2, signed(150)), float_bytes, 0),
        "grid_k_minus_150": (Lane(GRID_NEW, 2, signed(-150)), float_bytes, 0),
    }
    out = {name: typed(lane, target, seek) for name, (lane, target, seek) in broken.items()}
    both = ops(delta(4), None, over, (fill(0), fill(0)))
    return {**out, "rescale_channels_of_all_lanes": made(base[:4], "2^14 + 1 in two lanes", both, base=base)}


def coders() -> dict[str, Vector]:
    def literals(coded: Stream, target: bytes = TEXT, about: str = "", d: int = 12) -> Vector:
        return made(target, about, ops(literal(len(target)), coded, d=d))

    good, limit = deflate_payload(TEXT), (1 << 22) + (1 << 16)
    lanes = (Lane(RAW, 0), Lane(RAW, 0))
    inside = (nibble(deflate(b"", deflate_payload(b"\x21\x43" + TEXT)), stored(b"")), JOIN)
    behind_inner = made(
        b"\1\2\3\4" + TEXT[:4],
        "a join finds no payload: that inside the nibble does not count",
        ops(delta(4) + delta(4, 1), None, lanes, inside),
    )
    dictionary = b"\x28\xb5\x2f\xfd\x21\x07" + zstd_payload(WORD)[5:]
    wide = zstd_payload(bytes(64), 3 << 3)
    return {
        "unknown_coder": literals(Stream(b"\x08")),
        "crumb_unused_bits": literals(crumb(stored(b"\x86"), stored(b"")), b"\2\1\0"),
        "crumb_packed_short": literals(crumb(stored(b"\x24"), stored(b"")), bytes(5)),
        "crumb_escapes_short": literals(crumb(stored(b"\x0f"), stored(b"\x20")), b"\x20\x20"),
        "crumb_of_crumb": literals(crumb(crumb(fill(0), stored(b"")), stored(b"")), bytes(4)),
        "crumb_of_nibble": literals(crumb(nibble(fill(0), stored(b"")), stored(b"")), bytes(4)),
        "nibble_of_crumb": literals(nibble(crumb(fill(0), stored(b"")), stored(b"")), bytes(4)),
        "join_first": made(TEXT, "the table joins", ops(JOIN, stored(TEXT), table_length=2)),
        "join_nothing": literals(JOIN),
        "join_stored": made(WORD, "stored is nothing to join", ops(stored(literal(4)), JOIN, table_length=1)),
        "join_runs_out": made(TEXT + b"x", "", ops(deflate(literal(107) + TEXT), JOIN, table_length=2)),
        "join_inside_a_nibble": behind_inner,
        "stored_short": literals(stored(TEXT[:-1])),
        "payload_behind_the_body": literals(Stream(b"\x06" + varint(1 << 20), good, DEFLATE)),
        "payload_too_long": literals(Stream(b"\x06" + varint(limit + 1), good, DEFLATE)),
        "lzma_props_225": literals(Stream(b"\x01\xe1" + varint(4), b"abcd", 1)),
        "lzma_lc_lp": literals(
            Stream(bytes((1, 2 * 45 + 2 * 9 + 3)) + varint(60), bytes(60), 1), bytes(9), "lc + lp"
        ),
        "lzma_short": literals(lzma1(b"", payload=lzma_payload(TEXT)[:20])),
        "lzma_first_byte_kept": literals(
            lzma1(b"", payload=b"\0" + lzma_payload(TEXT)), about="twice 0 at the start"
        ),
        "deflate_short": literals(deflate(b"", good[:-9])),
        "deflate_one_byte_less": literals(deflate(TEXT), TEXT + b"x", "the stream ends before"),
        "deflate_empty": literals(deflate(b"", b"")),
        "deflate_bad_block": literals(deflate(b"", b"\x07")),
        "deflate_bad_stored_block": literals(deflate(b"", b"\x01\x03\x00\xfc\xfeabc"), b"abc"),
        "deflate_far_distance": literals(deflate(b"", bytes.fromhex("4b044a0000")), b"aaaa", "before the start"),
        "deflate_with_zlib_header": literals(deflate(b"", b"\x78\xda" + good)),
        "deflate_in_place_of_lzma": literals(Stream(b"\x01\x5d" + varint(len(good)), good, 1)),
        "zstd_window": literals(zstd(b"", wide), bytes(64), "2^13, d is 12"),
        "zstd_dictionary": literals(zstd(b"", dictionary), WORD),
        "zstd_short": literals(zstd(b"", zstd_payload(TEXT)[:-5])),
        "zstd_empty": literals(zstd(b"", b"")),
        "nibble_unused_half": literals(nibble(stored(b"\x21\x13"), stored(b"")), b"\1\2\3"),
        "nibble_halves_short": literals(nibble(stored(b"\x21"), stored(b"")), b"\1\2\3"),
        "nibble_escapes_short": literals(nibble(stored(b"\xff"), stored(b"\x20")), b"\x20\x20"),
        "nibble_of_nibble": literals(nibble(nibble(fill(0), stored(b"")), stored(b"")), bytes(4)),
        "nibble_escapes_nibble": literals(nibble(fill(0), nibble(fill(0), stored(b""))), bytes(4)),
        "nibble_of_join": made(
            bytes(4), "", ops(deflate(literal(4) + bytes(2)), nibble(JOIN, stored(b"")), table_length=1)
        ),
        "nibble_escapes_join": made(
            b"\7" * 4, "", ops(deflate(literal(4) + b"\7" * 4), nibble(fill(255), JOIN), table_length=1)
        ),
    }


def vectors() -> dict[str, Vector]:
    """Return all of them by name."""
    return {**headers(), **frames(), **tables(), **lanes(), **coders()}
