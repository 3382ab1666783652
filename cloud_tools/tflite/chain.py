"""Owns running a bundle from pictures to probabilities, as a device does; refuses to decide who it is."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_tools.tflite.tflite_file import Runner, read_model
from contract.errors import ReleaseError
from contract.likeness import Likeness
from contract.manifest import Manifest, Stage
from contract.preprocess import Image, dequantize, prepare, quantize, to_tensor

Probabilities = NDArray[np.float32]  # n x labels
Scores = NDArray[np.float64]  # n: familiarity


class Chain:
    """The stages of a bundle in ``folder``, loaded."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Load every stage; ReleaseError when one does not load or is not what the manifest says."""
        self.manifest = manifest
        self._runners = [_checked(Runner(read_model(folder / s.file), s.file), s) for s in manifest.stages]
        self._likeness: Likeness | None = None
        if manifest.familiarity is not None:
            channels = manifest.stages[-1].input.shape[-1]
            self._likeness = Likeness(manifest.familiarity, len(manifest.labels), channels)

    def run(self, rgb: NDArray[np.uint8]) -> Probabilities:
        """Return probabilities (n x labels) for prepared pictures (n x height x width x 3, RGB uint8)."""
        return np.stack([self._one(picture)[0] for picture in rgb])

    def classify(self, images: Iterable[Image], progress: Callable[[], None] = lambda: None) -> Probabilities:
        """Return probabilities (n x labels) for crops (BGR uint8, any size)."""
        return self.judge(images, progress)[0]

    def judge(
        self, images: Iterable[Image], progress: Callable[[], None] = lambda: None
    ) -> tuple[Probabilities, Scores | None]:
        """Return probabilities and familiarity for crops; no familiarity when the release has none."""
        rows, scores = [], []
        for image in images:
            values, features = self._one(prepare(image, self.manifest.preprocess))
            rows.append(values)
            if self._likeness is not None:
                scores.append(float(self._likeness.score(features[None], values[None])[0]))
            progress()
        probabilities = np.stack(rows) if rows else np.zeros((0, len(self.manifest.labels)), np.float32)
        return probabilities, np.array(scores, np.float64) if self._likeness is not None else None

    def _one(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities and the features: what goes into the last stage."""
        first = self._runners[0]
        values = to_tensor(rgb[None], self.manifest.preprocess, first.input)
        for i, runner in enumerate(self._runners):
            if i:
                values = quantize(dequantize(values, self._runners[i - 1].output), runner.input)
            last, values = values, runner.run(values)
        features = dequantize(last, self._runners[-1].input)[0]
        return np.asarray(dequantize(values, self._runners[-1].output)[0]), np.asarray(features)


def _checked(runner: Runner, stage: Stage) -> Runner:
    for end, found, said in (("input", runner.input, stage.input), ("output", runner.output, stage.output)):
        if (found.shape, found.dtype) != (said.shape, said.dtype):
            raise ReleaseError(
                f"{stage.file}: {end} is {found.dtype} {found.shape}, the manifest says {said.dtype} {said.shape}"
            )
    return runner
