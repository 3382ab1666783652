"""Owns finding the tensors of a TFLite flatbuffer, and the scales of the quantised ones.

Refuses files whose tables would cost far more work than their size. Raises ValueError, IndexError or struct.error
on a damaged one. Source: schema.fbs of TensorFlow Lite; the numbers of fields are their order there.
"""

import math
import struct

from modelpatch.tensors.tensor import UNKNOWN_TYPE, Quantization, Tensor

# TensorType: name, bytes of an element, whether it is IEEE-like floating point.
_TYPES = {
    0: ("float32", 4, True),
    1: ("float16", 2, True),
    2: ("int32", 4, False),
    3: ("uint8", 1, False),
    4: ("int64", 8, False),
    6: ("bool", 1, False),
    7: ("int16", 2, False),
    9: ("int8", 1, False),
    10: ("float64", 8, True),
    12: ("uint64", 8, False),
    15: ("uint32", 4, False),
    16: ("uint16", 2, False),
    17: ("int4", 1, False),
    18: ("bfloat16", 2, True),
}
_QUANTISED = ("int8", "uint8", "int16", "int32")
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_SUBGRAPH_TENSORS = 0
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTIZATION = range(5)
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = range(3)
_SCALE, _ZERO_POINT, _QUANTISED_DIMENSION = 2, 3, 6
_MAX_NAME_BYTES = 1024
_MAX_DIMENSIONS = 64
# Tables of a file, most of them tensors and operators: a large language model has about 20,000.
_MAX_TABLES = 1 << 19
_MAX_SCALES = 1 << 22


class _Reader:
    """The bytes of a flatbuffer and what may still be spent on reading them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.tables_left, self.scales_left = _MAX_TABLES, _MAX_SCALES

    def u32(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.data, at)[0])

    def table(self, at: int) -> "_Table":
        self.tables_left -= 1
        if self.tables_left < 0:
            raise ValueError("more tables than a model has")
        return _Table(self, at)


class _Table:
    """A flatbuffer table at an offset: fields by index, vectors, tables."""

    def __init__(self, reader: _Reader, at: int) -> None:
        self._reader, self._at = reader, at
        self._vtable = at - int(struct.unpack_from("<i", reader.data, at)[0])
        if self._vtable < 0:
            raise ValueError("a vtable is outside the file")
        self._vtable_size = int(struct.unpack_from("<H", reader.data, self._vtable)[0])

    def field(self, index: int) -> int:
        """Return the absolute offset of field `index`, or 0 where it is absent."""
        slot = 4 + 2 * index
        if slot >= self._vtable_size:
            return 0
        offset = int(struct.unpack_from("<H", self._reader.data, self._vtable + slot)[0])
        return self._at + offset if offset else 0

    def scalar(self, index: int, code: str) -> int:
        """Return the number in field `index`, 0 where it is absent."""
        at = self.field(index)
        return int(struct.unpack_from("<" + code, self._reader.data, at)[0]) if at else 0

    def vector(self, index: int) -> tuple[int, int]:
        """Return (offset of the first item, number of items) of the vector in field `index`."""
        at = self.field(index)
        if not at:
            return 0, 0
        at += self._reader.u32(at)
        return at + 4, self._reader.u32(at)

    def table(self, index: int) -> "_Table | None":
        """Return the table in field `index`."""
        at = self.field(index)
        return self._reader.table(at + self._reader.u32(at)) if at else None

    def tables(self, index: int) -> list["_Table"]:
        """Return the tables of the vector of tables in field `index`."""
        start, count = self.vector(index)
        if count > self._reader.tables_left:
            raise ValueError("a vector is longer than a model's")
        return [self._reader.table(at + self._reader.u32(at)) for at in range(start, start + 4 * count, 4)]


def tflite_tensors(data: bytes) -> list[Tensor]:
    """Return the constant tensors of the model in any order, and all vectors of scales and zero points.

    These vectors are named after their tensor, with ` scale` or ` zero_point` behind its name.
    """
    reader = _Reader(data)
    model = reader.table(reader.u32(0))
    described: dict[int, _Table] = {}
    out = []
    for graph in model.tables(_MODEL_SUBGRAPHS):
        for tensor in graph.tables(_SUBGRAPH_TENSORS):
            described.setdefault(tensor.scalar(_TENSOR_BUFFER, "I"), tensor)
            out += _quantization_vectors(reader, tensor)
    for index, buffer in enumerate(model.tables(_MODEL_BUFFERS)):
        start, length = buffer.vector(_BUFFER_DATA)
        if not length and buffer.scalar(_BUFFER_OFFSET, "Q") > 1:  # behind the flatbuffer, in files above 2 GB
            start, length = buffer.scalar(_BUFFER_OFFSET, "Q"), buffer.scalar(_BUFFER_SIZE, "Q")
        if length:
            out.append(_tensor(reader, described.get(index), start, length))
    return out


def _tensor(reader: _Reader, table: _Table | None, offset: int, length: int) -> Tensor:
    if table is None:
        return Tensor(offset, length, "", *UNKNOWN_TYPE, (length,))
    kind = _TYPES.get(table.scalar(_TENSOR_TYPE, "b"), UNKNOWN_TYPE)
    if length % kind[1]:
        kind = UNKNOWN_TYPE
    start, count = table.vector(_TENSOR_SHAPE)
    if count > _MAX_DIMENSIONS:
        raise ValueError("a shape has no so many dimensions")
    shape = struct.unpack_from(f"<{count}i", reader.data, start) if count else ()
    quantization = _quantization(reader, table, shape) if kind[0] in _QUANTISED else None
    return Tensor(offset, length, _name(reader, table), *kind, shape, quantization)


def _name(reader: _Reader, table: _Table) -> str:
    at, size = table.vector(_TENSOR_NAME)
    return reader.data[at : at + min(size, _MAX_NAME_BYTES)].decode("utf-8", "replace")


def _quantization(reader: _Reader, table: _Table, shape: tuple[int, ...]) -> Quantization | None:
    parameters = table.table(_TENSOR_QUANTIZATION)
    if parameters is None:
        return None
    start, count = parameters.vector(_SCALE)
    dimension = parameters.scalar(_QUANTISED_DIMENSION, "i")
    per_channel = 0 <= dimension < len(shape) and count == shape[dimension]
    reader.scales_left -= count
    if reader.scales_left < 0 or not (count == 1 or (count and per_channel)):
        return None
    scales = struct.unpack_from(f"<{count}f", reader.data, start)
    if not (min(scales) > 0 and math.isfinite(sum(scales))):
        return None
    return Quantization(scales, dimension if per_channel else 0)


def _quantization_vectors(reader: _Reader, tensor: _Table) -> list[Tensor]:
    parameters = tensor.table(_TENSOR_QUANTIZATION)
    if parameters is None:
        return []
    out = []
    for field, what, kind in (
        (_SCALE, "scale", ("float32", 4, True)),
        (_ZERO_POINT, "zero_point", ("int64", 8, False)),
    ):
        start, count = parameters.vector(field)
        if count > 1:
            out.append(Tensor(start, count * kind[1], f"{_name(reader, tensor)} {what}", *kind, (count,)))
    return out
