"""Owns the last layers of a TFLite file as a Keras model: reads graph and weights, writes weights back in place.

Refuses operators that backbones do not end with, and to train. Everything but the written weights stays as it is byte
for byte, scales of an int8 file included, whatever converter is installed: that is what makes the update small.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.progress import Ticks
from cloud_tools.setting_errors import Setting, SettingError
from cloud_tools.tflite.engine import keras
from cloud_tools.tflite.quiet import quiet
from cloud_tools.tflite.tflite_file import operator_names

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D")
INT8_MOST = 127  # of weights: TFLite's are symmetric
INT32_MOST = 2**31 - 1
TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 9: "i1"}  # of TensorType: FLOAT32, FLOAT16, INT32, INT8

Arrays = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Constant:
    """A constant of the file: where its bytes are, and how they become float32.

    ``scale`` is that of an integer constant, of a shape that broadcasts to ``shape``; None for floats.
    """

    start: int
    dtype: str
    shape: tuple[int, ...]
    scale: NDArray[np.float64] | None = None

    def read(self, data: bytes) -> NDArray[np.float32]:
        """Return the values in the file ``data``."""
        values = np.frombuffer(data, self.dtype, int(np.prod(self.shape)), self.start).reshape(self.shape)
        return np.asarray(values if self.scale is None else values * self.scale, np.float32)

    def encode(self, values: NDArray[np.float32]) -> bytes:
        """Return the bytes of ``values``; integers are rounded to the scale that is there, and clipped."""
        if self.scale is None:
            return values.astype(self.dtype).tobytes()
        most = INT8_MOST if self.dtype == "i1" else INT32_MOST
        return np.clip(np.rint(values / self.scale), -most, most).astype(self.dtype).tobytes()


@dataclass(frozen=True)
class Layer:
    """A weighted operator of the tail; Keras has its weights in another order (``to_keras``)."""

    name: str
    weights: Constant
    bias: Constant | None

    def to_keras(self, data: bytes) -> Arrays:
        """Return kernel and bias of the file ``data`` as Keras' layer takes them."""
        order = (1, 2, 3, 0)  # TFLite: outputs, height, width, inputs; depthwise: 1, height, width, channels
        kernel = np.ascontiguousarray(self.weights.read(data).transpose(order))
        return [kernel] if self.bias is None else [kernel, self.bias.read(data)]

    def write(self, out: bytearray, arrays: Arrays) -> None:
        """Put Keras' ``arrays`` (kernel, bias) in their places in the file ``out``."""
        for constant, values in self._pairs(arrays):
            data = constant.encode(values)
            out[constant.start : constant.start + len(data)] = data

    def _pairs(self, arrays: Arrays) -> list[tuple[Constant, NDArray[np.float32]]]:
        pairs = [(self.weights, np.ascontiguousarray(arrays[0].transpose(3, 0, 1, 2)))]
        return pairs if self.bias is None else [*pairs, (self.bias, arrays[1])]


class Tail:
    """The last ``layers`` weighted layers of a backbone (TFLite), as a Keras model that trains them.

    ``model`` takes what ``run_before`` gives (n x ..., one array an input) and gives the feature map.
    """

    def __init__(self, data: bytes, layers: int) -> None:
        """Read the layers.

        Raises:
            InputError: the file has fewer weighted layers, or an operator among the last ones that is not known here.
        """
        self.data = data
        self._file = _File(data)
        first = self._first(layers)
        self.layers = [
            self._file.layer(i) for i in range(first, len(self._file.operators)) if self._file.name(i) in WEIGHTED
        ]
        self._inputs, self.model = self._build(first)
        self.model.set_weights(self.weights())

    def weights(self) -> Arrays:
        """Return the weights in the file, in the order of ``model.get_weights()``."""
        return [array for layer in self.layers for array in layer.to_keras(self.data)]

    def write(self, weights: Arrays) -> bytes:
        """Return the file with ``weights`` (as ``model.get_weights()``) in place of its own."""
        out, at = bytearray(self.data), 0
        for layer in self.layers:
            count = 1 if layer.bias is None else 2
            layer.write(out, weights[at : at + count])
            at += count
        return bytes(out)

    def stored(self, weights: Arrays) -> Arrays:
        """Return ``weights`` as they come back from the file: rounded to its type and scales."""
        data = self.write(weights)
        return [array for layer in self.layers for array in layer.to_keras(data)]

    def input_bytes(self) -> int:
        """Return the bytes that ``run_before`` takes for one picture."""
        return 4 * sum(int(np.prod(self._file.shape(number))) for number in self._inputs)

    def run_before(self, tensors: list[NDArray[Any]], ticks: Ticks) -> Arrays:
        """Run the frozen part of the file on input tensors (1 x ... each); return the arrays that ``model`` takes."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # a delegate hides what is between its operators
        with quiet():
            interpreter = Interpreter(
                model_content=self.data,
                num_threads=1,
                experimental_op_resolver_type=plain,
                experimental_preserve_all_tensors=True,
            )
            interpreter.allocate_tensors()
        rows: list[Arrays] = []
        for i, values in enumerate(tensors):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
            interpreter.invoke()
            rows.append([self._file.floats(n, interpreter.get_tensor(n))[0] for n in self._inputs])
            ticks(i + 1, len(tensors))
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def _first(self, layers: int) -> int:
        """Return the operator with which the last ``layers`` weighted ones begin."""
        weighted = [i for i in range(len(self._file.operators)) if self._file.name(i) in WEIGHTED]
        if layers > len(weighted):
            raise SettingError(Setting.FINE_TUNE, f" {layers}: the backbone has {len(weighted)} layers of weights")
        return weighted[-layers]

    def _build(self, first: int) -> tuple[list[int], Any]:
        """Return the numbers of the tensors that go in, and the Keras model from them to the output."""
        known: dict[int, Any] = {}
        inputs: list[int] = []

        def value(number: int) -> Any:
            if number not in known:
                inputs.append(number)
                known[number] = keras().Input(self._file.shape(number)[1:], name=f"tensor_{number}")
            return known[number]

        for i in range(first, len(self._file.operators)):
            if self._file.name(i) != "DEQUANTIZE":  # of float16 weights; a constant is no value of the graph
                known[self._file.output(i)] = _keras_operator(self._file, i, value)
        output = known[self._file.output(len(self._file.operators) - 1)]
        return inputs, keras().Model([known[n] for n in inputs], output, name="tail")


def _keras_operator(file: "_File", i: int, value: Callable[[int], Any]) -> Any:
    """Return the Keras value of operator ``i``; InputError when it is not known here."""
    layers, name, operator = keras().layers, file.name(i), file.operators[i]
    options = operator.builtinOptions
    ends = [int(number) for number in operator.inputs]
    if name == "ADD":
        return _activated(layers.Add(name=f"add_{i}")([value(n) for n in ends]), options)
    if name == "PAD":
        padding = [(int(a), int(b)) for a, b in file.integers(ends[1])[1:3]]
        return layers.ZeroPadding2D(padding, name=f"pad_{i}")(value(ends[0]))
    if name == "MAX_POOL_2D":
        size, steps = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
        pool = layers.MaxPooling2D(size, steps, padding=_padding(options), name=f"pool_{i}")
        return _activated(pool(value(ends[0])), options)
    if name not in WEIGHTED or options.dilationHFactor != 1 or options.dilationWFactor != 1:
        raise SettingError(Setting.FINE_TUNE, f": the backbone has a {name} among these layers; take fewer")
    layer, weights = file.layer(i), file.layer(i).weights.shape
    how = {
        "strides": (options.strideH, options.strideW),
        "padding": _padding(options),
        "use_bias": layer.bias is not None,
        "name": f"layer_{i}",
    }
    if name == "CONV_2D":
        return _activated(layers.Conv2D(weights[0], weights[1:3], **how)(value(ends[0])), options)
    return _activated(layers.DepthwiseConv2D(weights[1:3], **how)(value(ends[0])), options)


def _padding(options: Any) -> str:
    return ("same", "valid")[options.padding]


def _activated(values: Any, options: Any) -> Any:
    most = {0: None, 1: np.inf, 3: 6.0}.get(options.fusedActivationFunction)  # NONE, RELU, RELU6
    if options.fusedActivationFunction == 0:
        return values
    if most is None:
        reason = ": a layer of the backbone ends with an activation that is not ReLU or ReLU6"
        raise SettingError(Setting.FINE_TUNE, reason)
    return keras().layers.ReLU(None if most == np.inf else most)(values)


class _File:
    """Reads the graph of a TFLite file, with the places of its constants."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._flat = schema.Model.GetRootAs(data, 0)
        model = schema.ModelT.InitFromObj(self._flat)
        self._graph, self._names = model.subgraphs[0], operator_names(model)
        self.operators = self._graph.operators
        # Weights of float16 are constants that an operator of their own puts into float32.
        self._halves = {self.output(i): int(self.operators[i].inputs[0]) for i in self._numbers("DEQUANTIZE")}

    def name(self, i: int) -> str:
        """Return the name of operator ``i``."""
        return self._names[i]

    def output(self, i: int) -> int:
        """Return the number of the tensor that operator ``i`` makes."""
        return int(self.operators[i].outputs[0])

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(int(size) for size in self._graph.tensors[number].shape)

    def layer(self, i: int) -> Layer:
        """Return the weights of operator ``i``."""
        _, weights, *bias = (int(number) for number in self.operators[i].inputs)
        return Layer(self.name(i), self._constant(weights), self._constant(bias[0]) if bias else None)

    def integers(self, number: int) -> NDArray[np.int32]:
        """Return the values of an integer constant."""
        constant = self._constant(number)
        return np.asarray(constant.read(self._bytes()), np.int32)

    def floats(self, number: int, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``values`` of tensor ``number`` as floats: those of an int8 file are put back by its scale."""
        found = self._graph.tensors[number].quantization
        if values.dtype == np.float32 or found is None or found.scale is None:
            return np.asarray(values, np.float32)
        return np.asarray((values.astype(np.float32) - found.zeroPoint[0]) * found.scale[0], np.float32)

    def _numbers(self, name: str) -> list[int]:
        return [i for i in range(len(self.operators)) if self.name(i) == name]

    def _bytes(self) -> bytes:
        return bytes(self._flat._tab.Bytes)

    def _constant(self, number: int) -> Constant:
        tensor = self._graph.tensors[self._halves.get(number, number)]
        table = self._flat.Buffers(tensor.buffer)._tab
        place = table.Offset(4)  # of the field `data`
        if not place or tensor.type not in TYPES:
            reason = ": a layer of the backbone has weights of a kind that is not known here"
            raise SettingError(Setting.FINE_TUNE, reason)
        shape = self.shape(number)
        return Constant(int(table.Vector(place)), TYPES[tensor.type], shape, _scale(tensor, shape))


def _scale(tensor: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    found = tensor.quantization
    if found is None or found.scale is None or not len(found.scale):
        return None
    sides = [1] * len(shape)
    sides[found.quantizedDimension if len(found.scale) > 1 else 0] = len(found.scale)
    return np.asarray(found.scale, np.float64).reshape(sides)
