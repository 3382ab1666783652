"""Owns finding the tensors of a model file: where each one's bytes are, its name, element type and shape.

Refuses to guess: a file that is no TFLite flatbuffer or safetensors file, or a damaged one, has no known tensors
and is treated as plain bytes. Nothing here is trusted by apply; it only makes patches smaller.
"""

import json
import struct
from dataclasses import dataclass

# TFLite's TensorType (schema.fbs): name, bytes of an element, whether it is IEEE-like floating point.
_TFLITE_TYPES = {
    0: ("float32", 4, True),
    1: ("float16", 2, True),
    2: ("int32", 4, False),
    3: ("uint8", 1, False),
    4: ("int64", 8, False),
    7: ("int16", 2, False),
    9: ("int8", 1, False),
    10: ("float64", 8, True),
    15: ("uint32", 4, False),
    16: ("uint16", 2, False),
    17: ("int4", 1, False),
    18: ("bfloat16", 2, True),
}
_SAFETENSORS_TYPES = {
    "F64": ("float64", 8, True),
    "F32": ("float32", 4, True),
    "F16": ("float16", 2, True),
    "BF16": ("bfloat16", 2, True),
    "I64": ("int64", 8, False),
    "I32": ("int32", 4, False),
    "I16": ("int16", 2, False),
    "I8": ("int8", 1, False),
    "U8": ("uint8", 1, False),
}
_MAX_SAFETENSORS_HEADER = 100_000_000
_UNKNOWN = ("bytes", 1, False)


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor's bytes are in its file (offset and length in bytes) and what they are."""

    offset: int
    length: int
    name: str
    dtype: str
    width: int
    is_float: bool
    shape: tuple[int, ...]


def find_tensors(data: bytes) -> list[Tensor]:
    """Return the tensors of `data` by ascending offset, none overlapping; an empty list for an unknown format."""
    try:
        if data[4:8] == b"TFL3":
            found = _tflite_tensors(data)
        elif data[8:9] == b"{":
            found = _safetensors_tensors(data)
        else:
            found = []
    except (struct.error, IndexError, ValueError, KeyError, TypeError, AttributeError):
        return []  # damaged, or of a newer schema: plain bytes then
    return _without_overlaps(found, len(data))


def _without_overlaps(found: list[Tensor], size: int) -> list[Tensor]:
    out: list[Tensor] = []
    end = 0
    for tensor in sorted(found, key=lambda t: (t.offset, t.length)):
        if tensor.length > 0 and tensor.offset >= end and tensor.offset + tensor.length <= size:
            out.append(tensor)
            end = tensor.offset + tensor.length
    return out


class _Table:
    """A flatbuffer table at an offset: fields by index, vectors, strings."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self._vtable = at - struct.unpack_from("<i", data, at)[0]
        self._vtable_size = struct.unpack_from("<H", data, self._vtable)[0]

    def field(self, index: int) -> int:
        """Return the absolute offset of field `index`, or 0 where it is absent."""
        slot = 4 + 2 * index
        if slot >= self._vtable_size:
            return 0
        offset: int = struct.unpack_from("<H", self.data, self._vtable + slot)[0]
        return self.at + offset if offset else 0

    def scalar(self, index: int, code: str) -> int:
        """Return the number in field `index`, 0 where it is absent."""
        at = self.field(index)
        return int(struct.unpack_from("<" + code, self.data, at)[0]) if at else 0

    def vector(self, index: int) -> tuple[int, int]:
        """Return (offset of the first item, number of items) of the vector in field `index`."""
        at = self.field(index)
        if not at:
            return 0, 0
        at += _u32(self.data, at)
        return at + 4, _u32(self.data, at)

    def tables(self, index: int) -> list["_Table"]:
        """Return the tables of the vector of tables in field `index`."""
        start, count = self.vector(index)
        if count * 4 > len(self.data):
            raise ValueError("a vector is longer than the file")
        return [_Table(self.data, at + _u32(self.data, at)) for at in range(start, start + 4 * count, 4)]


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _tflite_tensors(data: bytes) -> list[Tensor]:
    # Fields by their order in TFLite's schema.fbs: Model 2 subgraphs, 4 buffers; SubGraph 0 tensors;
    # Tensor 0 shape, 1 type, 2 buffer, 3 name; Buffer 0 data, 1 offset, 2 size.
    model = _Table(data, _u32(data, 0))
    described: dict[int, _Table] = {}
    for graph in model.tables(2):
        for tensor in graph.tables(0):
            described.setdefault(tensor.scalar(2, "I"), tensor)
    out = []
    for index, buffer in enumerate(model.tables(4)):
        start, length = buffer.vector(0)
        if not length and buffer.scalar(1, "Q") > 1:  # data behind the flatbuffer, for files above 2 GB
            start, length = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
        if length:
            out.append(_tflite_tensor(data, described.get(index), start, length))
    return out


def _tflite_tensor(data: bytes, table: _Table | None, offset: int, length: int) -> Tensor:
    if table is None:
        return Tensor(offset, length, "", *_UNKNOWN, (length,))
    dtype, width, is_float = _TFLITE_TYPES.get(table.scalar(1, "b"), _UNKNOWN)
    start, count = table.vector(0)
    shape = struct.unpack_from(f"<{count}i", data, start) if count else ()
    at, size = table.vector(3)
    name = data[at : at + size].decode("utf-8", "replace")
    if length % width:
        dtype, width, is_float = _UNKNOWN
    return Tensor(offset, length, name, dtype, width, is_float, tuple(shape))


def _safetensors_tensors(data: bytes) -> list[Tensor]:
    size = int(struct.unpack_from("<Q", data)[0])
    if size > min(_MAX_SAFETENSORS_HEADER, len(data) - 8):
        return []
    out = []
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        kind = _SAFETENSORS_TYPES.get(entry["dtype"], _UNKNOWN)
        if (end - begin) % kind[1]:
            kind = _UNKNOWN
        out.append(Tensor(8 + size + begin, end - begin, str(name), *kind, tuple(entry["shape"])))
    return out
