"""Owns what is known of a tensor in a model file: where its bytes are, its name, element type, shape and scales.

Refuses to know file formats: the module of each one finds its tensors, and `find.py` picks the module.
"""

import math
from dataclasses import dataclass

UNKNOWN_TYPE = ("bytes", 1, False)  # as in the tables of the file formats: name, bytes of an element, float


@dataclass(frozen=True, slots=True)
class Quantization:
    """Real value = scale * (stored value - zero point); one scale, or one per index of `dimension` of the shape."""

    scales: tuple[float, ...]
    dimension: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor's bytes are in its file (offset and length in bytes) and what they are.

    `quantization` is known for integer tensors of quantised models alone.
    """

    offset: int
    length: int
    name: str
    dtype: str
    width: int
    is_float: bool
    shape: tuple[int, ...]
    quantization: Quantization | None = None

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + self.length

    @property
    def is_dense(self) -> bool:
        """Whether the shape is of these bytes: not of packed ones, nor of a damaged file."""
        return min(self.shape, default=1) >= 1 and math.prod(self.shape) * self.width == self.length
