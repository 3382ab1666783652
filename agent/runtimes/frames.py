"""Owns the bytes between the agent and the accelerator's child. Refuses to touch a pipe, and to trust a length.

    agent -> child   RUN     model, the bytes of its input
    child -> agent   READY   once: JSON, the ends of each model
                     ANSWER  model, the bytes of its outputs one after another
                     ERROR   one line of text; the child is of no more use

A frame is a header (magic, kind, model, length) and a body. Lengths of RUN and ANSWER are known to both sides from
READY; any other one is a FrameError. What a delegate corrupted in the child's memory may come in any frame.
"""

import enum
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.checks import Fields, parse_object
from contract.errors import InputError

MAGIC = b"KA"
HEADER = struct.Struct("<2sBBI")
MOST_MODELS = 16
MOST_ENDS = 16  # inputs, or outputs, of one model
MOST_BYTES = 1 << 26  # of a tensor or a frame; the detector's largest is 1 MB
MOST_WORDS_BYTES = 1 << 16  # of READY and ERROR
_DTYPES = ("float32", "int8", "uint8")


class FrameError(Exception):
    """The other side sent what is no frame, or another one than was due."""


class Kind(enum.IntEnum):
    """What a frame is."""

    READY = 1
    RUN = 2
    ANSWER = 3
    ERROR = 4


@dataclass(frozen=True)
class Head:
    """The header of a frame."""

    kind: Kind
    model: int
    length: int


@dataclass(frozen=True)
class End:
    """An input or an output of a model."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def details(self, index: int) -> dict[str, Any]:
        """Return what an interpreter says of its tensor ``index``."""
        quantization = (self.scale, self.zero_point)
        return {"index": index, "shape": self.shape, "dtype": np.dtype(self.dtype), "quantization": quantization}


@dataclass(frozen=True)
class Ends:
    """What goes into a model, and what comes out."""

    input: End
    outputs: tuple[End, ...]

    @property
    def answer_size(self) -> int:
        """Bytes of all outputs."""
        return sum(end.size for end in self.outputs)


def head(kind: Kind, model: int, length: int) -> bytes:
    """Return the header of a frame."""
    return HEADER.pack(MAGIC, kind, model, length)


def parse_head(data: bytes | bytearray | memoryview) -> Head:
    """Read a header.

    Raises:
        FrameError: none, or one of a frame that is too long.
    """
    if len(data) != HEADER.size:
        raise FrameError("a header that is cut off")
    magic, kind, model, length = HEADER.unpack(data)
    if magic != MAGIC or kind not in Kind.__members__.values() or model >= MOST_MODELS:
        raise FrameError("no header of a frame")
    most = MOST_WORDS_BYTES if kind in (Kind.READY, Kind.ERROR) else MOST_BYTES
    if length > most:
        raise FrameError(f"a frame of {length} bytes, at most {most} are allowed")
    return Head(Kind(kind), model, length)


def ready(models: Sequence[Ends]) -> bytes:
    """Return the body of READY."""
    described = [{"input": vars(ends.input), "outputs": [vars(end) for end in ends.outputs]} for ends in models]
    return json.dumps({"models": described}).encode()


def parse_ready(body: bytes) -> list[Ends]:
    """Read the body of READY.

    Raises:
        FrameError: it does not describe models.
    """
    try:
        models = Fields(parse_object(body, "ready"), "ready").items("models", MOST_MODELS)
        return [_ends(Fields(item, f"model {i}")) for i, item in enumerate(models)]
    except InputError as error:
        raise FrameError(str(error)) from error


def split(body: bytes | bytearray, ends: Ends) -> list[NDArray[Any]]:
    """Return the outputs in the body of ANSWER, which has the length of ``ends``; views of ``body``."""
    values, at = [], 0
    for end in ends.outputs:
        count = math.prod(end.shape)
        values.append(np.frombuffer(body, end.dtype, count, at).reshape(end.shape))
        at += end.size
    return values


def _ends(fields: Fields) -> Ends:
    outputs = fields.items("outputs", MOST_ENDS)
    ends = Ends(
        _end(fields.object("input")),
        tuple(_end(Fields(item, f"{fields.where}: output {i}")) for i, item in enumerate(outputs)),
    )
    if ends.answer_size > MOST_BYTES:
        raise InputError(f"{fields.where}: outputs of {ends.answer_size} bytes")
    return ends


def _end(fields: Fields) -> End:
    shape, dtype = fields.items("shape", 8), fields.text("dtype")
    if not all(type(side) is int and 0 < side <= MOST_BYTES for side in shape):
        raise InputError(f"{fields.where}: shape must be whole numbers over 0")
    if dtype not in _DTYPES:
        raise InputError(f"{fields.where}: dtype must be one of {', '.join(_DTYPES)}")
    end = End(tuple(shape), dtype, fields.number("scale"), fields.integer("zero_point", -128, 255))
    if end.size > MOST_BYTES:
        raise InputError(f"{fields.where}: {end.size} bytes")
    return end
