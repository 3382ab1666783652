"""Owns running a bundle's detector: a frame in, people's boxes out. Refuses to follow people and to choose a runtime.

Input and outputs must be what the manifest says, and the answer must be finite: anything else is a ReleaseError.
Digests are checked by whoever owns the folder. Interpreters are given, as to ``contract.bundle_runner``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.bundle_runner import Interpreter, ModelRunner, read_part
from contract.detection.decode import Values, cells, decode, summarise, suppress
from contract.detection.letterbox import letterbox
from contract.errors import ReleaseError
from contract.manifest import Detector, Manifest
from contract.preprocess import Box, Image, dequantize, quantize


@dataclass(frozen=True)
class Detection:
    """A person in a frame: the box in pixels of the frame and inside it, and how sure the detector is (0..1)."""

    box: Box
    score: float


class DetectorRunner:
    """A loaded detector. Not for two threads at once."""

    def __init__(self, detector: Detector, model: ModelRunner) -> None:
        """Take the model of ``detector``; ReleaseError when its ends are not as the manifest says."""
        model.check(detector)
        self.detector = detector
        self._model = model
        self._grid = cells(detector)

    def find(self, frame: Image, least: float | None = None) -> list[Detection]:
        """Return the people in ``frame`` (height x width x 3, uint8, BGR), the surest first.

        Args:
            least: the least score that counts; the manifest's ``go_on`` unless given.

        Raises:
            ReleaseError: the model does not run, or gave no numbers.
        """
        detector = self.detector
        placed = letterbox(frame, _size(detector), detector.fill)
        scores, logits = self.answer(np.asarray(cv2.cvtColor(placed.picture, cv2.COLOR_BGR2RGB), np.uint8))
        corners, sure = decode(scores, logits, self._grid, detector.go_on if least is None else least)
        boxes = placed.in_frame(corners)
        kept = suppress(boxes, detector.overlap)
        found = [Detection(_whole(boxes[i]), float(sure[i])) for i in kept]
        # What lay in the filled part alone has no pixel of the frame.
        return [one for one in found if one.box[2] > 0 and one.box[3] > 0]

    def answer(self, rgb: NDArray[np.uint8]) -> tuple[Values, Values]:
        """Return the scores (n) and logits (n x 4 x values) of a picture of the input's size, RGB.

        Raises:
            ReleaseError: as ``find``.
        """
        detector = self.detector
        given = self._model.run_all(quantize(rgb[np.newaxis].astype(np.float32), detector.input))
        values = [dequantize(value, spec)[0] for value, spec in zip(given, detector.outputs, strict=True)]
        scores, logits = sorted(values, key=lambda value: value.shape[-1])
        if not (np.isfinite(scores).all() and np.isfinite(logits).all()):
            raise ReleaseError("the detector's answer is not finite")
        return scores[:, 0], logits.reshape(len(logits), 4, detector.reg_max + 1)

    def summaries(self, pictures: NDArray[np.uint8]) -> list[tuple[float, ...]]:
        """Return what a self-test compares for each of ``pictures`` (n x height x width x 3, RGB, of any size)."""
        detector = self.detector
        placed = [letterbox(picture, _size(detector), detector.fill).picture for picture in pictures]
        return [summarise(*self.answer(picture), detector) for picture in placed]


def load_detector(
    folder: Path, manifest: Manifest, interpreter: Callable[[Detector, bytes], Interpreter]
) -> DetectorRunner | None:
    """Load the detector of the bundle in ``folder``, None where it has none; ``interpreter`` makes its interpreter.

    Raises:
        ReleaseError: the file is missing, does not load, or is not as the manifest says.
    """
    if manifest.detector is None:
        return None
    entry = manifest.detector
    content = read_part(folder / entry.file)
    return DetectorRunner(entry, ModelRunner(entry.file, interpreter(entry, content), len(entry.outputs)))


def _size(detector: Detector) -> tuple[int, int]:
    return detector.input.shape[1], detector.input.shape[2]


def _whole(corners: Values) -> Box:
    left, top, right, bottom = (round(value) for value in corners.tolist())
    return left, top, right - left, bottom - top
