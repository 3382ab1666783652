"""Owns running a bundle's chain of TFLite models on a crop. Refuses to find crops, to vote, and to trust digests.

Whoever owns the slot verifies digests (``updates.slots``); here every shape, dtype and quantisation must be what the
manifest says, and every answer must be probabilities: anything else is a ReleaseError. One thread: with two, one busy
core beside them costs 400 ms instead of 5.

A stage marked for the Edge TPU runs there through Google's delegate when asked to. No Edge TPU was at hand: that path
is untested on hardware.
"""

import ctypes
import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError, ReleaseError
from contract.events import log_event
from contract.likeness import Likeness
from contract.manifest import Manifest, Stage, TensorSpec, load_bundle
from contract.preprocess import Image, dequantize, prepare, quantize, to_tensor

logger = logging.getLogger("agent.classifier")
RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")  # the new name first: up to 20 times as fast
EDGE_TPU_LIBRARY = "libedgetpu.so.1"
# What a runtime raises when a model is at fault; anything else is the runtime's own (a build for another numpy).
_MODEL_FAULTS = (ValueError, RuntimeError)

Probabilities = NDArray[np.float32]


class NoRuntimeError(ReleaseError):
    """No runtime works on this device: no release runs, and none is to blame."""


class Classifier:
    """A loaded bundle. Not for two threads at once."""

    def __init__(self, manifest: Manifest, models: list["StageModel"]) -> None:
        self.manifest = manifest
        self._models = models
        self._likeness = _likeness(manifest)

    def classify(self, image: Image) -> Probabilities:
        """Return the probability of each of ``manifest.labels`` for one crop.

        Args:
            image: height x width x 3, uint8, BGR; cut with ``contract.preprocess.crop``.

        Returns:
            float32, (labels,), sums to 1.

        Raises:
            ReleaseError: the model does not run, or gave no probabilities.
        """
        return self.judge(image)[0]

    def judge(self, image: Image) -> tuple[Probabilities, float | None]:
        """Return what ``classify`` gives, and how familiar the crop is; None when the release has no such score."""
        probabilities, features = self._run(prepare(image, self.manifest.preprocess))
        if self._likeness is None:
            return probabilities, None
        score = float(self._likeness.score(features[np.newaxis], probabilities[np.newaxis])[0])
        if not np.isfinite(score):
            raise ReleaseError("the model's features are not finite")
        return probabilities, score

    def run_inputs(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the answers to prepared pictures, for the self-test.

        Args:
            rgb: n x height x width x 3, uint8, RGB, of the size that ``manifest.preprocess`` says.

        Returns:
            float32, (n, labels).

        Raises:
            ReleaseError: the pictures are of another form, or as ``classify``.
        """
        wanted = (*self.manifest.preprocess.size, 3)
        if rgb.ndim != 4 or rgb.shape[1:] != wanted or rgb.dtype != np.uint8 or not len(rgb):
            raise ReleaseError(f"pictures are {rgb.shape} of {rgb.dtype}, the model takes n x {wanted} of uint8")
        return np.stack([self._run(picture)[0] for picture in rgb])

    def _run(self, rgb: NDArray[np.uint8]) -> tuple[Probabilities, NDArray[np.float32]]:
        """Return the probabilities and the features: what goes into the last stage."""
        spec = self.manifest.stages[0].input
        tensor = to_tensor(rgb, self.manifest.preprocess, spec)[np.newaxis]
        for model in self._models:
            taken = _converted(tensor, spec, model.stage.input)
            tensor, spec = model.run(taken), model.stage.output
        features = dequantize(taken, self._models[-1].stage.input)[0]
        return _checked(dequantize(tensor, spec)[0], spec), features


def _likeness(manifest: Manifest) -> Likeness | None:
    if manifest.familiarity is None:
        return None
    try:
        return Likeness(manifest.familiarity, len(manifest.labels), manifest.stages[-1].input.shape[-1])
    except InputError as error:
        raise ReleaseError(str(error)) from error


class StageModel:
    """One TFLite model of the chain, loaded, with its ends checked against the manifest."""

    def __init__(self, stage: Stage, interpreter: Any) -> None:
        self.stage = stage
        self._interpreter = interpreter
        self._input = self._end(interpreter.get_input_details(), stage.input, "input")
        self._output = self._end(interpreter.get_output_details(), stage.output, "output")

    def _end(self, details: list[dict[str, Any]], spec: TensorSpec, which: str) -> int:
        """Return the tensor number of the model's only input or output, if it is as the manifest says."""
        if len(details) != 1:
            raise ReleaseError(f"{self.stage.file}: {len(details)} {which}s, one is needed")
        found = details[0]
        shape, dtype = tuple(int(size) for size in found["shape"]), np.dtype(found["dtype"]).name
        if (shape, dtype) != (spec.shape, spec.dtype):
            raise ReleaseError(
                f"{self.stage.file}: its {which} is {shape} of {dtype}, "
                f"the manifest says {spec.shape} of {spec.dtype}"
            )
        scale, zero_point = found["quantization"]
        if dtype != "float32" and (not np.isclose(scale, spec.scale, rtol=1e-5) or zero_point != spec.zero_point):
            raise ReleaseError(
                f"{self.stage.file}: its {which} is quantised by ({scale:g}, {zero_point}), "
                f"the manifest says ({spec.scale:g}, {spec.zero_point})"
            )
        return int(found["index"])

    def run(self, tensor: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the model's output, a copy."""
        try:
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(tensor))
            self._interpreter.invoke()
            result: NDArray[np.generic] = self._interpreter.get_tensor(self._output)
        except _MODEL_FAULTS as error:
            raise ReleaseError(f"{self.stage.file}: does not run: {_one_line(error)}") from error
        return result


def load_classifier(folder: Path, *, edge_tpu: bool = False) -> Classifier:
    """Load the bundle in ``folder``; its digests are not checked here.

    Args:
        edge_tpu: run the stages that the manifest marks so on an Edge TPU.

    Raises:
        ReleaseError: no bundle, a missing file, or a model that does not load or is not the manifest's.
        NoRuntimeError: no runtime works here.
    """
    try:
        manifest = load_bundle(folder, verify=False)
    except InputError as error:
        raise ReleaseError(str(error)) from error
    return Classifier(
        manifest, [_load_stage(folder, stage, edge_tpu and stage.edge_tpu) for stage in manifest.stages]
    )


def _load_stage(folder: Path, stage: Stage, edge_tpu: bool) -> StageModel:
    try:
        content = (folder / stage.file).read_bytes()
    except OSError as error:
        raise ReleaseError(f"missing file of the bundle: {folder / stage.file}: {error.strerror}") from error
    return StageModel(stage, _interpreter(stage.file, content, edge_tpu))


def _interpreter(name: str, content: bytes, edge_tpu: bool) -> Any:
    """Build an interpreter with the first runtime that works: to import is no proof.

    tflite-runtime 2.14 imports beside numpy 2 and fails only when an interpreter is built.
    """
    problems = []
    for module_name in RUNTIMES:
        try:
            runtime = importlib.import_module(module_name)
            return _build(runtime, content, edge_tpu)
        except _MODEL_FAULTS as error:
            raise ReleaseError(f"{name}: not a model that loads here: {_one_line(error)}") from error
        except (ImportError, AttributeError, SystemError) as error:
            problems.append(f"{module_name.partition('.')[0]}: {_one_line(error)}")
    log_event(logger, "runtime.missing", logging.ERROR, problems="; ".join(problems))
    raise NoRuntimeError(f"no TFLite runtime works here ({'; '.join(problems)}): install ai-edge-litert")


def _build(runtime: Any, content: bytes, edge_tpu: bool) -> Any:
    delegates = [_edge_tpu(runtime)] if edge_tpu else None
    try:
        interpreter = runtime.Interpreter(model_content=content, num_threads=1, experimental_delegates=delegates)
    except TypeError as error:  # what some builds raise for a model without a single subgraph
        raise ValueError(str(error)) from error
    interpreter.allocate_tensors()
    return interpreter


def _edge_tpu(runtime: Any) -> Any:
    """Return Google's delegate, as their own pycoral loads it; the package of that name on PyPI is another."""
    try:
        ctypes.CDLL(EDGE_TPU_LIBRARY)  # first: where it is missing, load_delegate leaves half an object behind
        return runtime.load_delegate(EDGE_TPU_LIBRARY)
    except (OSError, ValueError) as error:
        raise ReleaseError(f"no Edge TPU: {_one_line(error)}") from error


def _converted(tensor: NDArray[np.generic], given: TensorSpec, wanted: TensorSpec) -> NDArray[np.generic]:
    """Return the output of one stage in the dtype and quantisation of the next one's input."""
    if given == wanted:
        return tensor
    return quantize(dequantize(tensor, given), wanted)


def _checked(values: Probabilities, spec: TensorSpec) -> Probabilities:
    """Return ``values`` if they are probabilities; quantised ones may be off by half a step each."""
    slack = 0.01 + len(values) * (spec.scale / 2 if spec.dtype != "float32" else 0.0)
    if not np.isfinite(values).all():
        raise ReleaseError("the model's answer is not finite")
    if values.min() < -slack or abs(float(values.sum()) - 1) > slack:
        raise ReleaseError(f"the model's answer is no distribution: sum {float(values.sum()):.3f}")
    return values


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
