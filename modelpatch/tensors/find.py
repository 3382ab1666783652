"""Owns finding the tensors of a model file, whatever its format: TFLite, TensorBundle (SavedModel) or safetensors.

Refuses to guess: a file of another format, or a damaged one, has no known tensors and is treated as plain bytes.
Nothing here is trusted by apply; it only makes patches smaller.
"""

import struct
from dataclasses import replace

from modelpatch.tensors.safetensors import safetensors_tensors
from modelpatch.tensors.tensor import Quantization, Tensor
from modelpatch.tensors.tensorbundle import BundleIndex, bundle_tensors
from modelpatch.tensors.tflite import tflite_tensors

__all__ = ["BundleIndex", "Quantization", "Tensor", "find_tensors"]

_MAX_DIMENSIONS = 32  # as in the oldest numpy that arrays are reshaped with
# What the readers of the formats raise on a damaged file; ArithmeticError for a size that is infinite, in JSON 1e999.
_DAMAGED = (
    struct.error,
    IndexError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


def find_tensors(data: bytes, index: BundleIndex | None = None) -> list[Tensor]:
    """Return the tensors of `data` by ascending offset, none overlapping; an empty list for an unknown format.

    Args:
        data: the whole file.
        index: for a shard of a TensorBundle, which describes itself nowhere, the bundle's index.
    """
    try:
        if index is not None:
            found = bundle_tensors(index)
        elif data[4:8] == b"TFL3":
            found = tflite_tensors(data)
        elif data[8:9] == b"{":
            found = safetensors_tensors(data)
        else:
            found = []
    except _DAMAGED:
        return []  # damaged, or of a newer schema: plain bytes then
    return _without_overlaps(found, len(data))


def _without_overlaps(found: list[Tensor], size: int) -> list[Tensor]:
    out: list[Tensor] = []
    end = 0
    for tensor in sorted(found, key=lambda t: (t.offset, t.length)):
        if tensor.length > 0 and tensor.offset >= end and tensor.end <= size:
            out.append(_with_sane_shape(tensor))
            end = tensor.end
    return out


def _with_sane_shape(tensor: Tensor) -> Tensor:
    """Return `tensor`, as a vector without scales where no tensor that has bytes can have its shape."""
    if len(tensor.shape) <= _MAX_DIMENSIONS and min(tensor.shape, default=1) >= 1:
        return tensor
    return replace(tensor, shape=(tensor.length // tensor.width,), quantization=None)
