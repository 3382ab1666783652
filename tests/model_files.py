"""Model files of a few kilobytes, written by hand: safetensors, and a TensorBundle of one shard."""

import json
import struct
from pathlib import Path

import numpy as np

from modelpatch.format import varint

_BUNDLE_TYPES = {"float32": 1, "int32": 3, "int64": 9}
_MAGIC = 0xDB4775248B80FB57


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """Return a safetensors file of float32 tensors."""
    header, at = {}, 0
    for name, values in tensors.items():
        end = at + values.nbytes
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values())


def write_bundle(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write `variables.index` and its one shard to `folder`, as TensorFlow would."""
    folder.mkdir(parents=True)
    shard, entries = b"", [(b"", b"\x08\x01")]  # the header: one shard
    for name, values in sorted(tensors.items()):
        shape = b"".join(b"\x12" + _sized(b"\x08" + varint.encode(size)) for size in values.shape)
        entry = b"\x08" + varint.encode(_BUNDLE_TYPES[str(values.dtype)]) + b"\x12" + _sized(shape)
        entry += b"\x20" + varint.encode(len(shard)) + b"\x28" + varint.encode(values.nbytes)
        entries.append((name.encode(), entry))
        shard += values.tobytes()
    (folder / "variables.data-00000-of-00001").write_bytes(shard)
    (folder / "variables.index").write_bytes(_table(entries))


def _sized(data: bytes) -> bytes:
    return varint.encode(len(data)) + data


def _table(entries: list[tuple[bytes, bytes]]) -> bytes:
    data = _block(entries)
    index = _block([(b"\xff", varint.encode(0) + varint.encode(len(data) - 5))])
    footer = varint.encode(0) + varint.encode(0) + varint.encode(len(data)) + varint.encode(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + struct.pack("<Q", _MAGIC)


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    out = b"".join(b"\0" + varint.encode(len(k)) + varint.encode(len(v)) + k + v for k, v in entries)
    return out + struct.pack("<II", 0, 1) + bytes(5)  # one restart; no compression, no checksum
