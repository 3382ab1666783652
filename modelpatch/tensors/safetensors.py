"""Owns reading the header of a safetensors file: eight bytes of length, JSON, then the tensors.

Refuses headers above 100 MB, the limit of the format itself. Raises ValueError, KeyError, TypeError,
AttributeError or struct.error on a damaged one. Source: the format section of the safetensors README.
"""

import json
import struct

from modelpatch.tensors.tensor import UNKNOWN_TYPE, Tensor

_TYPES = {
    "F64": ("float64", 8, True),
    "F32": ("float32", 4, True),
    "F16": ("float16", 2, True),
    "BF16": ("bfloat16", 2, True),
    "F8_E4M3": ("float8_e4m3", 1, True),
    "F8_E5M2": ("float8_e5m2", 1, True),
    "I64": ("int64", 8, False),
    "I32": ("int32", 4, False),
    "I16": ("int16", 2, False),
    "I8": ("int8", 1, False),
    "U64": ("uint64", 8, False),
    "U32": ("uint32", 4, False),
    "U16": ("uint16", 2, False),
    "U8": ("uint8", 1, False),
    "BOOL": ("bool", 1, False),
}
_MAX_HEADER = 100_000_000


def safetensors_tensors(data: bytes) -> list[Tensor]:
    """Return the tensors that the header of `data` names, in any order, unchecked against the file's length."""
    size = int(struct.unpack_from("<Q", data)[0])
    if size > min(_MAX_HEADER, len(data) - 8):
        return []
    out = []
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            out.append(_tensor(name, entry, 8 + size))
    return out


def _tensor(name: str, entry: dict[str, object], origin: int) -> Tensor:
    offsets, shape = entry["data_offsets"], entry["shape"]
    if not isinstance(offsets, list) or not isinstance(shape, list):
        raise TypeError("data_offsets and shape are lists")
    begin, end = (int(value) for value in offsets)
    if begin < 0:
        raise ValueError("a tensor stands before the data")
    kind = _TYPES.get(str(entry["dtype"]), UNKNOWN_TYPE)
    if (end - begin) % kind[1]:
        kind = UNKNOWN_TYPE
    return Tensor(origin + begin, end - begin, name, *kind, tuple(int(value) for value in shape))
