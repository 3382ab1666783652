"""Owns looking into a TFLite file (operators, constants) and loading it; refuses to convert and to interpret labels.

Models run on ai-edge-litert, the runtime of the devices, with one thread: what is measured here is what is deployed.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cloud_tools.tflite.quiet import quiet
from contract.bundle_runner import MODEL_FAULTS, BundleRunner, Interpreter, ModelRunner, load_bundle_runner
from contract.errors import ReleaseError, one_line
from contract.manifest import Manifest


class Runner(ModelRunner):
    """One TFLite model with one input and one output, or several, loaded from its bytes."""

    def __init__(self, model: bytes, name: str, outputs: int = 1) -> None:
        """Load ``model``; ReleaseError names it when it does not load, or has other than ``outputs`` outputs."""
        super().__init__(name, _interpreter(name, model), outputs)


def load_runner(folder: Path, manifest: Manifest) -> BundleRunner:
    """Load the bundle in ``folder``; ReleaseError when it does not load or is not what ``manifest`` says."""
    return load_bundle_runner(folder, manifest, lambda stage, content: _interpreter(stage.file, content))


def _interpreter(name: str, model: bytes) -> Interpreter:
    from ai_edge_litert import interpreter as runtime

    try:
        with quiet():
            interpreter = runtime.Interpreter(model_content=model, num_threads=1)
            interpreter.allocate_tensors()
    except MODEL_FAULTS as error:
        raise ReleaseError(f"{name}: not a model that loads here: {one_line(error)}") from error
    return cast("Interpreter", interpreter)


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
