"""Owns the golden vectors of folder patches, valid and invalid, put together byte by byte."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.vectors.patch_builder import (
    FILE,
    add,
    change,
    copy,
    folder_patch,
    header,
    identity,
    keep,
    literal,
    ops,
    patch,
    rename,
    stored,
    tree_identity,
)

BASE: Mapping[str, bytes] = {"labels.txt": b"ann\nbob\n", "model/head.bin": bytes(range(60)), "model/old.bin": b"old"}
NEW_HEAD = bytes(range(50)) + b"end"
HEAD = patch(BASE["model/head.bin"], NEW_HEAD, ops(copy(50) + literal(3), stored(b"end")))
NOTE = patch(None, b"note", ops(literal(4), stored(b"note")))


@dataclass(frozen=True)
class FolderVector:
    """A folder patch, the files it is applied to, the files that come out (None: refused), what it is about."""

    base: Mapping[str, bytes]
    target: Mapping[str, bytes] | None
    patch: bytes
    about: str


def valid(
    target: Mapping[str, bytes], about: str, *entries: bytes, base: Mapping[str, bytes] = BASE, memory_kib: int = 4096
) -> FolderVector:
    return FolderVector(base, target, folder_patch(base, target, *entries, memory_kib=memory_kib), about)


def valid_folders() -> dict[str, FolderVector]:
    labels, head = BASE["labels.txt"], BASE["model/head.bin"]
    long = "a" * 255
    deep = "/".join(["d" * 254] * 4) + "/f"
    return {
        "folder_same": valid(BASE, "three files kept", keep(0), keep(1), keep(2)),
        "folder_every_kind": valid(
            {"a/note": b"note", "b.txt": labels, "model/head.bin": NEW_HEAD, "model/new.bin": NEW_HEAD, "z": b"old"},
            "add, rename, patch, patch and rename, rename",
            add("a/note", NOTE),
            rename(0, "b.txt"),
            change(1, HEAD),
            change(1, HEAD, "model/new.bin"),
            rename(2, "z"),
        ),
        "folder_whole_for_a_base": valid({"labels.txt": b"note"}, "a whole patch in a patch entry", change(0, NOTE)),
        "folder_emptied": valid({}, "no entry, no file"),
        "folder_from_nothing": valid({"note": b"note"}, "", add("note", NOTE), base={}),
        "folder_nothing_to_nothing": valid({}, "", base={}),
        "folder_one_base_twice": valid({"a": labels, "b": labels}, "", rename(0, "a"), rename(0, "b")),
        "folder_bytes_order": valid(
            {"a-b": labels, "a/b": head, "a0": labels, "é": labels, "\U0001f916": labels},
            "by bytes of the name, not by its parts",
            rename(0, "a-b"),
            rename(1, "a/b"),
            rename(0, "a0"),
            rename(0, "é"),
            rename(0, "\U0001f916"),
        ),
        "folder_long_names": valid(
            {long: labels, deep: head}, "255 and 1021 bytes", rename(0, long), rename(1, deep)
        ),
        "folder_dots": valid({"...": labels, ".hidden": head}, "", rename(0, "..."), rename(1, ".hidden")),
        "folder_memory_0": valid(BASE, "no patch inside, no memory", keep(0), keep(1), keep(2), memory_kib=0),
        "folder_moved_into_its_name": valid({"labels.txt/x": b"ann\nbob\n"}, "", rename(0, "labels.txt/x")),
    }


def named(name: str | bytes) -> bytes:
    """Return a folder patch whose only file has this name."""
    text = name.encode() if isinstance(name, str) else name
    return folder_patch(BASE, {"x": BASE["labels.txt"]}, rename(0, text))


def invalid_folders() -> dict[str, FolderVector]:
    labels = BASE["labels.txt"]
    two = {"a": labels, "b": labels}
    tree, body = tree_identity(BASE), b"\x03" + keep(0) + keep(1) + keep(2)
    note = {"note": b"note"}
    other = patch(b"another base", NEW_HEAD, ops(literal(53), stored(NEW_HEAD)))
    as_file = patch(b"", b"note", ops(literal(4), stored(b"note")))
    nested = folder_patch({}, {})
    table = {
        "folder_other_base": (header(2, 0, 0, (tree[0], bytes(32)), tree, len(body)) + body, ""),
        "folder_other_base_length": (header(2, 0, 0, (tree[0] + 1, tree[1]), tree, len(body)) + body, ""),
        "folder_other_target": (header(2, 0, 0, tree, (tree[0], bytes(32)), len(body)) + body, ""),
        "folder_target_longer": (header(2, 0, 0, tree, (tree[0] + 1, tree[1]), len(body)) + body, "sum of lengths"),
        "folder_target_shorter": (header(2, 0, 0, tree, (tree[0] - 1, tree[1]), len(body)) + body, "sum of lengths"),
        "folder_kind_of_file": (header(FILE, 0, 0, identity(b""), tree, len(body)) + body, ""),
        "folder_body_goes_on": (folder_patch(BASE, BASE, keep(0), keep(1), keep(2), b"\0"), ""),
        "folder_count_low": (folder_patch(BASE, BASE, keep(0), keep(1), keep(2), count=2), ""),
        "folder_count_high": (folder_patch(BASE, BASE, keep(0), keep(1), keep(2), count=4), ""),
        "folder_count_10001": (folder_patch(BASE, {}, count=10001), ""),
        "folder_unknown_entry": (folder_patch(BASE, BASE, keep(0), keep(1), b"\5" + keep(2)[1:]), ""),
        "folder_index": (folder_patch(BASE, {"labels.txt": labels}, keep(3)), "no such file in the base"),
        "folder_out_of_order": (folder_patch(BASE, two, rename(0, "b"), rename(0, "a")), ""),
        "folder_twice": (folder_patch(BASE, {"a": labels}, rename(0, "a"), rename(0, "a")), ""),
        "folder_file_is_folder": (
            folder_patch(BASE, {"a": labels, "a/b": labels}, rename(0, "a"), rename(0, "a/b")),
            "a name that is also a folder",
        ),
        "folder_file_is_folder_not_adjacent": (
            folder_patch(
                BASE, {"a": labels, "a-": labels, "a/b": labels}, rename(0, "a"), rename(0, "a-"), rename(0, "a/b")
            ),
            "",
        ),
        "folder_add_of_file_patch": (folder_patch(BASE, note, add("note", as_file)), "kind file in an add"),
        "folder_nested": (folder_patch(BASE, {"note": b""}, add("note", nested)), "a folder patch inside"),
        "folder_patch_of_another": (folder_patch(BASE, {"model/head.bin": NEW_HEAD}, change(1, other)), ""),
        "folder_patch_cut": (folder_patch(BASE, note, add("note", NOTE[:-1])), ""),
        "folder_patch_goes_on": (folder_patch(BASE, note, add("note", NOTE + b"\0")), ""),
        "folder_patch_empty": (folder_patch(BASE, {"note": b""}, add("note", b"")), ""),
        "folder_memory": (folder_patch(BASE, note, add("note", NOTE), memory_kib=4095), "a patch inside needs more"),
        "folder_patch_makes_more": (
            folder_patch(BASE, note, add("note", NOTE), target_length=3),
            "more bytes than the folder declares",
        ),
        "folder_name_empty": (named(""), ""),
        "folder_name_absolute": (named("/x"), ""),
        "folder_name_ends_in_slash": (named("x/"), ""),
        "folder_name_double_slash": (named("x//y"), ""),
        "folder_name_dot": (named("./x"), ""),
        "folder_name_parent": (named("../x"), ""),
        "folder_name_parent_inside": (named("x/../../y"), ""),
        "folder_name_backslash": (named("..\\x"), ""),
        "folder_name_newline": (named("x\ny"), ""),
        "folder_name_nul": (named("x\0"), ""),
        "folder_name_delete": (named("x\x7f"), ""),
        "folder_name_not_utf8": (named(b"\xff"), ""),
        "folder_name_surrogate": (named(b"\xed\xa0\x80"), ""),
        "folder_name_overlong": (named(b"\xc0\xaf"), "a slash in two bytes"),
        "folder_name_part_256": (named("a" * 256), ""),
        "folder_name_1025": (named("/".join(["d" * 204] * 5) + "x"), ""),
    }
    return {name: FolderVector(BASE, None, data, about) for name, (data, about) in table.items()}
