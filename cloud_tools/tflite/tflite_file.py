"""Owns looking into a TFLite file (operators, constants) and running it; refuses to convert and to interpret labels.

It runs on ai-edge-litert, the runtime of the devices, with one thread: what is measured here is what is deployed.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.tflite.quiet import quiet
from contract.errors import ReleaseError
from contract.manifest import TensorSpec


class Runner:
    """One TFLite model with one input and one output, ready to run."""

    def __init__(self, model: bytes, name: str) -> None:
        """Load ``model``; ReleaseError names it when it does not load."""
        from ai_edge_litert.interpreter import Interpreter

        self.name = name
        try:
            with quiet():
                self._interpreter = Interpreter(model_content=model, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ReleaseError(f"{name} does not load: {_line(error)}") from error
        ends = (self._interpreter.get_input_details(), self._interpreter.get_output_details())
        if any(len(end) != 1 for end in ends):
            raise ReleaseError(f"{name} must have one input and one output")
        self._in, self._out = ends[0][0], ends[1][0]
        self.input, self.output = _spec(self._in), _spec(self._out)

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run one input of the input's shape and dtype; return a copy of the output. ReleaseError when it fails."""
        try:
            self._interpreter.set_tensor(self._in["index"], values)
            self._interpreter.invoke()
            return np.array(self._interpreter.get_tensor(self._out["index"]))
        except (ValueError, RuntimeError) as error:
            raise ReleaseError(f"{self.name} does not run: {_line(error)}") from error


class TfliteFile:
    """The graph of a TFLite file, read and not run."""

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        self._names = operator_names(self._model)

    def operators(self) -> tuple[str, ...]:
        """Return the operators needed to run it, sorted, as TFLite names them (``CONV_2D``)."""
        return tuple(sorted(set(self._names)))

    def constants(self, operator: str) -> list[NDArray[np.float32]]:
        """Return the float32 constants that the one operator of that name takes, in its order of inputs.

        Raises:
            LookupError: it has no such operator, or several.
        """
        graph = self._model.subgraphs[0]
        if self._names.count(operator) != 1:
            raise LookupError(f"{self._names.count(operator)} operators {operator}")
        tensors = [graph.tensors[i] for i in graph.operators[self._names.index(operator)].inputs if i >= 0]
        return [self._values(tensor) for tensor in tensors if self._data(tensor) is not None]

    def layer(self, operator: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (weights, bias) of the one operator of that name, float32; the weights have the outputs first.

        The converter leaves a bias out that is zero everywhere, as that of a small head on a coarse grid may be.

        Raises:
            LookupError: it has no such operator, or several. ValueError: it has other constants.
        """
        weights, *rest = self.constants(operator) or [np.zeros(0, np.float32)]
        if weights.ndim < 2 or len(rest) > 1:
            raise ValueError(f"{operator} has not one matrix of weights and at most one bias")
        return weights, rest[0] if rest else np.zeros(len(weights), np.float32)

    def buffer_of(self, operator: str) -> bytes:
        """Return the bytes of the first constant of the one operator of that name."""
        return self.constants(operator)[0].tobytes()

    def _data(self, tensor: Any) -> Any:
        return self._model.buffers[tensor.buffer].data

    def _values(self, tensor: Any) -> NDArray[np.float32]:
        return np.asarray(self._data(tensor), np.uint8).view("<f4").reshape([int(n) for n in tensor.shape]).copy()


def operator_names(model: Any) -> list[str]:
    """Return the names of the operators of ``model`` (the schema's ``ModelT``), in order, as TFLite has them."""
    from ai_edge_litert import schema_py_generated as schema

    known = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    codes = [known[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def read_model(path: Path) -> bytes:
    """Read a model file; ReleaseError when it is not there."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}") from error


def _spec(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape"])
    return TensorSpec(shape, np.dtype(detail["dtype"]).name, float(scale), int(zero_point))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
