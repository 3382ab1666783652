"""Owns the second decoder's part for folder patches: files by name in a dict, names as bytes.

Written from docs/patch-format.md alone; imports nothing of ours but the second decoder itself.
"""

import hashlib

from tests.reference_decoder import FILE, FOLDER, WHOLE, Invalid, decode, need, read_header


def checked_name(raw):
    parts = raw.split(b"/")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Invalid("a name that is not UTF-8") from e
    need(len(raw) <= 1024 and all(0 < len(part) <= 255 and part not in (b".", b"..") for part in parts), "a bad name")
    need(all(byte >= 32 and byte not in (127, 0x5C) for byte in raw), "a bad character in a name")
    return raw


def varint(value):
    low = value & 127
    return bytes((low,)) if value < 128 else bytes((low | 128,)) + varint(value >> 7)


def tree_digest(tree):
    need(len(tree) <= 10000, "too many files")
    digest = hashlib.sha256()
    for name in sorted(tree):
        for above in range(name.count(b"/")):
            need(b"/".join(name.split(b"/")[: above + 1]) not in tree, "a name is also a folder")
        digest.update(varint(len(checked_name(name))) + name + varint(len(tree[name])))
        digest.update(hashlib.sha256(tree[name]).digest())
    return digest.digest()


def decode_folder(patch, base, max_target=2**24, max_memory=2**26):
    """Return {name: bytes} that a patch of kind folder makes of the files `base`; names are bytes."""
    header = read_header(patch, (FOLDER,), max_target, max_memory)
    need(sum(map(len, base.values())) == header.base_length, "another base: length")
    need(tree_digest(base) == header.base_digest, "another base: digest")
    body, names, target = header.body, sorted(base), {}
    for _ in range(body.varint(10000)):
        kind = body.byte()
        need(kind <= 4, "an unknown entry")
        name = old = b""
        if kind != 4:
            name = names[body.varint(len(names) - 1)]
            old = base[name]
        if kind in (1, 3, 4):
            name = checked_name(body.take(body.varint(1024)))
        need(not target or name > max(target), "names out of order")
        if kind >= 2:
            inner = body.take(body.varint())
            kinds = (WHOLE,) if kind == 4 else (FILE, WHOLE)
            old = decode(inner, old, header.target_length, header.memory, kinds)
        target[name] = old
        need(sum(map(len, target.values())) <= header.target_length, "more bytes than the target has")
    need(body.done(), "bytes after the last entry")
    need(sum(map(len, target.values())) == header.target_length, "another target: length")
    need(tree_digest(target) == header.target_digest, "another target: digest")
    return target
