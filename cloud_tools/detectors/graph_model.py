"""Owns reading the weights of a TensorFlow.js graph model without its libraries. Refuses to run it.

A graph model is JSON (nodes of a TensorFlow graph, and a list of the weights: name, shape, dtype) and one file of the
weights' values, one after another. Only convolutions and their biases are taken; what is computed with them is told
by ``nanodet``, and a test holds both against the original graph.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.checks import Fields, parse_object
from contract.errors import InputError

_STORED = {"float32": "<f4", "float16": "<f2", "int32": "<i4"}
_CONVOLUTION = re.compile(r".*/convolution(?:_(\d+))?")


@dataclass(frozen=True)
class Convolution:
    """Kernel (height x width x channels in x channels out) and bias."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


def read_convolutions(topology: bytes, values: bytes) -> list[Convolution]:
    """Return the convolutions of a graph model in the order of their numbers.

    Raises:
        InputError: no graph model, one whose values have another length, or a convolution without a bias.
    """
    top = Fields(parse_object(topology, "graph model"), "graph model")
    weights = _weights(top, values)
    nodes = [Fields(node, "graph model: node") for node in top.object("modelTopology").items("node", 10_000)]
    biases = {_inputs(node)[0]: _inputs(node)[1] for node in nodes if node.text("op") == "Add"}
    found: dict[int, Convolution] = {}
    for node in nodes:
        match = _CONVOLUTION.fullmatch(node.text("name"))
        if match and node.text("op") == "Conv2D":
            kernel, bias = weights.get(_inputs(node)[1]), weights.get(biases.get(node.text("name"), ""))
            if kernel is None or bias is None:
                raise InputError(f"graph model: {node.text('name')} has no kernel and bias")
            found[int(match[1] or 0)] = Convolution(kernel, bias)
    return [found[number] for number in sorted(found)]


def _inputs(node: Fields) -> list[str]:
    return [str(name).partition(":")[0] for name in node.items("input", 100)]


def _weights(top: Fields, values: bytes) -> dict[str, NDArray[Any]]:
    """Return every weight by name; those stored as halves come as float32."""
    found: dict[str, NDArray[Any]] = {}
    at = 0
    for group in top.items("weightsManifest", 100):
        for item in Fields(group, "graph model: weights").items("weights", 10_000):
            name, array = _weight(Fields(item, "graph model: weight"), values, at)
            found[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
            at += array.nbytes
    if at != len(values):
        raise InputError(f"graph model: {len(values)} bytes of weights, its list says {at}")
    return found


def _weight(fields: Fields, values: bytes, at: int) -> tuple[str, NDArray[Any]]:
    shape = fields.items("shape", 8)
    if not all(type(size) is int and 0 <= size <= 1 << 20 for size in shape):
        raise InputError("graph model: a shape must be whole numbers")
    stored = fields.object("quantization") if "quantization" in fields.value else fields
    dtype = stored.text("dtype")
    if dtype not in _STORED or "scale" in stored.value:
        raise InputError(f"graph model: weights stored as {dtype} are not known here")
    count = math.prod(shape)
    if at + count * np.dtype(_STORED[dtype]).itemsize > len(values):
        raise InputError("graph model: fewer bytes of weights than its list says")
    return fields.text("name"), np.frombuffer(values, _STORED[dtype], count, at).reshape(shape)
