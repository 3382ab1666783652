"""Owns running a bundle: pictures in, probabilities and familiarity out. Refuses to vote and to choose a runtime.

Training, evaluation, the self-test and the device run a bundle here, and there is no second way. Every shape, dtype
and quantisation must be what the manifest says, and every answer must be probabilities: anything else is a
ReleaseError. Digests are checked by whoever owns the folder. Interpreters are given: no runtime is imported here.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError, ReleaseError, describe_os_error, one_line
from contract.familiarity_score import FamiliarityScore
from contract.manifest import Detector, Manifest, Stage, TensorSpec
from contract.preprocess import Image, dequantize, prepare, quantize, to_tensor

# What a runtime raises when a model is at fault; anything else is the runtime's own (a build for another numpy).
MODEL_FAULTS = (ValueError, RuntimeError)

Probabilities = NDArray[np.float32]  # labels, or n x labels
Scores = NDArray[np.float64]  # n: familiarity


class Interpreter(Protocol):
    """What is needed of a TFLite interpreter whose tensors are allocated."""

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return ``index``, ``shape``, ``dtype`` and ``quantization`` of each input."""

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return the same of each output."""

    def set_tensor(self, tensor_index: int, value: NDArray[Any]) -> None:
        """Copy ``value`` into an input."""

    def invoke(self) -> None:
        """Run."""

    def get_tensor(self, tensor_index: int) -> NDArray[Any]:
        """Return a copy of an output."""


class ModelRunner:
    """One model with one input and one output, or several. Not for two threads at once."""

    def __init__(self, name: str, interpreter: Interpreter, outputs: int = 1) -> None:
        """Take the model in the file ``name``; ReleaseError when it has other ends than one input and ``outputs``."""
        self.name = name
        self._interpreter = interpreter
        ((self._into, self.input),) = self._ends(interpreter.get_input_details(), "input", 1)
        ends = self._ends(interpreter.get_output_details(), "output", outputs)
        self._out_of = [number for number, _ in ends]
        self.outputs = tuple(spec for _, spec in ends)

    @property
    def output(self) -> TensorSpec:
        """The first output; the only one of most models."""
        return self.outputs[0]

    def _ends(self, details: list[dict[str, Any]], which: str, count: int) -> list[tuple[int, TensorSpec]]:
        """Return the tensor number of each of the ``count`` inputs or outputs, and what it is."""
        if len(details) != count:
            raise ReleaseError(
                f"{self.name}: {len(details)} {which}s, {'one is' if count == 1 else f'{count} are'} needed"
            )
        return [(int(found["index"]), _spec(found)) for found in details]

    def check(self, wanted: Stage | Detector) -> None:
        """Refuse to be what is ``wanted`` when its ends are described otherwise; ReleaseError says which and how."""
        said_outputs = wanted.outputs if isinstance(wanted, Detector) else (wanted.output,)
        outputs = [("output", *pair) for pair in zip(self.outputs, said_outputs, strict=True)]
        for which, found, said in (("input", self.input, wanted.input), *outputs):
            if (found.shape, found.dtype) != (said.shape, said.dtype):
                raise ReleaseError(
                    f"{self.name}: its {which} is {found.shape} of {found.dtype}, "
                    f"the manifest says {said.shape} of {said.dtype}"
                )
            if found.dtype != "float32" and not _same_quantisation(found, said):
                raise ReleaseError(
                    f"{self.name}: its {which} is quantised by ({found.scale:g}, {found.zero_point}), "
                    f"the manifest says ({said.scale:g}, {said.zero_point})"
                )

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the model's first output for one input of its shape and dtype, a copy.

        Raises:
            ReleaseError: it does not run.
        """
        return self.run_all(values)[0]

    def run_all(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Return every output, in the file's order; as ``run``."""
        try:
            self._interpreter.set_tensor(self._into, np.ascontiguousarray(values))
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(number) for number in self._out_of]
        except MODEL_FAULTS as error:
            raise ReleaseError(f"{self.name}: does not run: {one_line(error)}") from error


class BundleRunner:
    """A loaded bundle. Not for two threads at once."""

    def __init__(self, manifest: Manifest, models: Sequence[ModelRunner]) -> None:
        """Take the models of the manifest's stages, in order; ReleaseError when one is not as its stage says."""
        for stage, model in zip(manifest.stages, models, strict=True):
            model.check(stage)
        self.manifest = manifest
        self._models = models
        self._score = _familiarity_score(manifest)

    def judge(self, image: Image) -> tuple[Probabilities, float | None]:
        """Return the probability of each label for one crop, and how familiar it is.

        Args:
            image: height x width x 3, uint8, BGR; cut with ``contract.preprocess.crop``.

        Returns:
            float32, (labels,), sums to 1; and the familiarity, None when the release has no such score.

        Raises:
            ReleaseError: the model does not run, or gave no probabilities.
        """
        probabilities, features = self._run(prepare(image, self.manifest.preprocess))
        if self._score is None:
            return probabilities, None
        familiarity = float(self._score.score(features[np.newaxis], probabilities[np.newaxis])[0])
        if not np.isfinite(familiarity):
            raise ReleaseError("the model's features are not finite")
        return probabilities, familiarity

    def judge_all(
        self, images: Iterable[Image], progress: Callable[[], None] = lambda: None
    ) -> tuple[Probabilities, Scores | None]:
        """Return probabilities (n x labels) and familiarity (n) of crops; ``progress`` is called after each.

        Raises:
            ReleaseError: as ``judge``.
        """
        rows, scores = [], []
        for image in images:
            probabilities, familiarity = self.judge(image)
            rows.append(probabilities)
            scores.append(familiarity)
            progress()
        probabilities = np.stack(rows) if rows else np.zeros((0, len(self.manifest.labels)), np.float32)
        return probabilities, None if self._score is None else np.array(scores, np.float64)

    def run(self, rgb: NDArray[np.uint8]) -> Probabilities:
        """Return the probabilities for prepared pictures.

        Args:
            rgb: n x height x width x 3, uint8, RGB, of the size that ``manifest.preprocess`` says; n at least 1.

        Returns:
            float32, (n, labels).

        Raises:
            ReleaseError: the pictures are of another form, or as ``judge``.
        """
        wanted = (*self.manifest.preprocess.size, 3)
        if rgb.ndim != 4 or rgb.shape[1:] != wanted or rgb.dtype != np.uint8 or not len(rgb):
            raise ReleaseError(f"pictures are {rgb.shape} of {rgb.dtype}, the model takes n x {wanted} of uint8")
        return np.stack([self._run(picture)[0] for picture in rgb])

    def _run(self, rgb: NDArray[np.uint8]) -> tuple[Probabilities, NDArray[np.float32]]:
        """Return the probabilities and the features (what goes into the last stage) of one prepared picture."""
        stages = self.manifest.stages
        spec = stages[0].input
        values = to_tensor(rgb, self.manifest.preprocess, spec)[np.newaxis]
        for stage, model in zip(stages, self._models, strict=True):
            taken = _converted(values, spec, stage.input)
            values, spec = model.run(taken), stage.output
        features = dequantize(taken, stages[-1].input)[0]
        return checked_probabilities(dequantize(values, spec)[0], spec), features


def load_bundle_runner(
    folder: Path, manifest: Manifest, interpreter: Callable[[Stage, bytes], Interpreter]
) -> BundleRunner:
    """Load the models of the bundle in ``folder``; ``interpreter`` makes one of a stage and its file's content.

    Raises:
        ReleaseError: a file is missing, or a model that does not load or is not the manifest's.
    """
    models = [
        ModelRunner(stage.file, interpreter(stage, read_part(folder / stage.file))) for stage in manifest.stages
    ]
    return BundleRunner(manifest, models)


def checked_probabilities(values: Probabilities, spec: TensorSpec) -> Probabilities:
    """Return ``values`` if they are probabilities, ReleaseError if not; quantised ones may be off by half a step."""
    slack = 0.01 + len(values) * (spec.scale / 2 if spec.dtype != "float32" else 0.0)
    if not np.isfinite(values).all():
        raise ReleaseError("the model's answer is not finite")
    if values.min() < -slack or abs(float(values.sum()) - 1) > slack:
        raise ReleaseError(f"the model's answer is no distribution: sum {float(values.sum()):.3f}")
    return values


def read_part(path: Path) -> bytes:
    """Return the content of a file of a bundle; ReleaseError when it is not there."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"missing file of the bundle: {describe_os_error(error)}") from error


def _spec(found: dict[str, Any]) -> TensorSpec:
    scale, zero_point = found["quantization"]
    shape = tuple(int(size) for size in found["shape"])
    return TensorSpec(shape, np.dtype(found["dtype"]).name, float(scale), int(zero_point))


def _same_quantisation(found: TensorSpec, said: TensorSpec) -> bool:
    return found.zero_point == said.zero_point and bool(np.isclose(found.scale, said.scale, rtol=1e-5))


def _converted(values: NDArray[Any], given: TensorSpec, wanted: TensorSpec) -> NDArray[Any]:
    """Return the output of one stage in the dtype and quantisation of the next one's input."""
    return values if given == wanted else quantize(dequantize(values, given), wanted)


def _familiarity_score(manifest: Manifest) -> FamiliarityScore | None:
    if manifest.familiarity is None:
        return None
    try:
        return FamiliarityScore(manifest.familiarity, len(manifest.labels), manifest.stages[-1].input.shape[-1])
    except InputError as error:
        raise ReleaseError(str(error)) from error
