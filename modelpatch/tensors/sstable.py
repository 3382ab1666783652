"""Owns reading the keys and values of a sorted string table (LevelDB's, as TensorFlow writes it for its bundles).

Refuses compressed blocks, which TensorFlow does not write there, and tables that would cost much work for few
bytes. Raises ValueError or IndexError on a damaged one. Source: doc/table_format.md of LevelDB.
"""

from collections.abc import Iterator

_FOOTER_BYTES = 48
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_BLOCK_TAIL = 5  # compression type and CRC behind each block
# Far above real models (VGG-19 with Adam slots has about 200 keys of 60 bytes); they bound the work on hostile ones.
_MAX_ENTRIES = 1 << 16
_MAX_KEY_BYTES = 1 << 12


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint of `data` at offset `at`, at most ten bytes long, and the offset behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a varint is longer than ten bytes")


def entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return the keys and values of `table` in order."""
    if len(table) < _FOOTER_BYTES or table[-8:] != _MAGIC:
        raise ValueError("not a sorted string table")
    footer = table[-_FOOTER_BYTES:]
    _, at = varint(footer, 0)  # the meta index: nothing in it is needed
    _, at = varint(footer, at)
    count = 0  # of the blocks too: empty ones are work as well
    for _, handle in _block(table, footer[at:]):
        count += 1
        for entry in _block(table, handle):
            count += 1
            yield entry
            _check_count(count)
        _check_count(count)


def _check_count(count: int) -> None:
    if count > _MAX_ENTRIES:
        raise ValueError("more entries than a model has")


def _block(table: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return the keys and values of the block at a handle, the varints of its offset and length."""
    start, at = varint(handle, 0)
    length, _ = varint(handle, at)
    end = start + length
    if length < 4 or end + _BLOCK_TAIL > len(table) or table[end]:
        raise ValueError("a block is compressed or outside the table")
    restarts = int.from_bytes(table[end - 4 : end], "little")
    end -= 4 + 4 * restarts
    key = b""
    while start < end:
        shared, start = varint(table, start)
        added, start = varint(table, start)
        length, start = varint(table, start)
        if shared > len(key) or shared + added > _MAX_KEY_BYTES or start + added + length > end:
            raise ValueError("an entry is outside its block")
        key = key[:shared] + table[start : start + added]
        start += added
        yield key, table[start : start + length]
        start += length
