"""Owns finding the tensors of a TensorBundle, the checkpoint inside a SavedModel: `X.index` describes the shards
`X.data-00000-of-00001`, which are tensors end to end and nothing else.

Refuses big-endian bundles and compressed indexes. Raises ValueError or IndexError on a damaged index. Source:
tensor_bundle.proto and types.proto of TensorFlow; the two messages are too small to be worth a dependency.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelpatch.tensors import sstable
from modelpatch.tensors.tensor import UNKNOWN_TYPE, Tensor

# TensorFlow's DataType: name, bytes of an element, whether it is IEEE-like floating point. 7, strings, has none.
_TYPES = {
    1: ("float32", 4, True),
    2: ("float64", 8, True),
    3: ("int32", 4, False),
    4: ("uint8", 1, False),
    5: ("int16", 2, False),
    6: ("int8", 1, False),
    9: ("int64", 8, False),
    10: ("bool", 1, False),
    14: ("bfloat16", 2, True),
    17: ("uint16", 2, False),
    19: ("float16", 2, True),
    22: ("uint32", 4, False),
    23: ("uint64", 8, False),
    24: ("float8_e5m2", 1, True),
    25: ("float8_e4m3", 1, True),
}
_SHARD_NAME = re.compile(r"(.+)\.data-(\d{5})-of-\d{5}")
_MAX_INDEX_BYTES = 16 << 20
_MAX_DIMENSIONS = 64


@dataclass(frozen=True, slots=True)
class BundleIndex:
    """The bytes of a bundle's index file, and the number of the shard that is looked at."""

    table: bytes
    shard: int = 0


def index_beside(path: Path) -> BundleIndex | None:
    """Return the index that describes the shard at `path`; None if it is no shard or there is no such file."""
    shard = shard_of(path.name)
    if shard is None:
        return None
    try:
        with path.with_name(shard[0]).open("rb") as file:
            table = file.read(_MAX_INDEX_BYTES + 1)
    except OSError:
        return None  # without it the shard is plain bytes
    return BundleIndex(table, shard[1]) if len(table) <= _MAX_INDEX_BYTES else None


def shard_of(name: str) -> tuple[str, int] | None:
    """Return the name of the index file of the shard `name`, and the shard's number; None if it is no shard."""
    named = _SHARD_NAME.fullmatch(name)
    return None if named is None else (named[1] + ".index", int(named[2]))


def bundle_tensors(index: BundleIndex) -> list[Tensor]:
    """Return the tensors of the index's shard in the order of their names, unchecked against the shard's length."""
    out = []
    for key, value in sstable.entries(index.table):
        message = dict(_fields(value))
        if key == b"":  # the header of the bundle
            if message.get(2):
                raise ValueError("the bundle is big-endian")
        elif message.get(3, 0) == index.shard:
            out.append(_tensor(key.decode("utf-8", "replace"), message))
    return out


def _tensor(name: str, entry: dict[int, int | bytes]) -> Tensor:
    # BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size.
    offset, length, dtype, shape = (entry.get(field, 0) for field in (4, 5, 1, 2))
    if not isinstance(offset, int) or not isinstance(length, int) or not isinstance(dtype, int):
        raise ValueError("a number was expected")
    kind = _TYPES.get(dtype, UNKNOWN_TYPE)
    if length % kind[1]:
        kind = UNKNOWN_TYPE
    return Tensor(offset, length, name, *kind, _shape(shape or b""))


def _shape(message: int | bytes) -> tuple[int, ...]:
    """Return the sizes in a TensorShapeProto: field 2, repeated, whose field 1 is the size of a dimension."""
    sizes: list[int] = []
    for field, dimension in _fields(message):
        if field == 2:
            size = dict(_fields(dimension)).get(1, 0)
            if not isinstance(size, int) or len(sizes) == _MAX_DIMENSIONS:
                raise ValueError("a shape has no such dimension")
            sizes.append(size)
    return tuple(sizes)


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """Return the fields of a protocol buffer message: (number, integer or bytes)."""
    if not isinstance(message, bytes):
        raise ValueError("a message was expected")
    at = 0
    while at < len(message):
        tag, at = sstable.varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = sstable.varint(message, at)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = sstable.varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError("a field is outside its message")
        yield tag >> 3, message[at : at + size]
        at += size
