"""Owns a tiny detector for tests: its entry in a manifest, and an interpreter that answers what it is told to."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.bundle_runner import ModelRunner
from contract.detection.runner import DetectorRunner
from contract.manifest import Detector, TensorSpec

HEIGHT, WIDTH, REG_MAX = 32, 64, 3
CELLS = 8 + 2  # of 16 pixels, and of 32
FAR = 50.0  # a logit beside which the others are nothing


def small_detector(**changes: Any) -> Detector:
    """Return the entry of a detector of 64 x 32 pixels with two strides; ``changes`` are fields."""
    fields: dict[str, Any] = {
        "file": "detector.tflite",
        "sha256": "0" * 63 + "d",
        "size": 40,
        "input": TensorSpec((1, HEIGHT, WIDTH, 3), "float32"),
        "outputs": (
            TensorSpec((1, CELLS, 4 * (REG_MAX + 1)), "float32"),
            TensorSpec((1, CELLS, 1), "float32"),
        ),
        "strides": (16, 32),
        "reg_max": REG_MAX,
        "expected": ((0.5, 0.25, 0.125, 0.0),),
        "tolerance": 0.02,
    }
    return Detector(**fields | changes)


def sides(left: int, top: int, right: int, bottom: int) -> NDArray[np.float32]:
    """Return the logits of a cell whose box's sides are so many strides away, 4 x 4."""
    return (np.eye(REG_MAX + 1, dtype=np.float32) * FAR)[[left, top, right, bottom]]


class FakeInterpreter:
    """Answers each picture with ``outputs``; ``given`` is what it got last."""

    def __init__(self, *outputs: NDArray[Any], shape: tuple[int, ...] = (1, HEIGHT, WIDTH, 3)) -> None:
        self.outputs = outputs
        self.given = np.zeros(shape, np.float32)

    def get_input_details(self) -> list[dict[str, Any]]:
        return [_detail(0, self.given)]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [_detail(number, value) for number, value in enumerate(self.outputs)]

    def set_tensor(self, tensor_index: int, value: NDArray[Any]) -> None:
        self.given = value

    def invoke(self) -> None:
        pass

    def get_tensor(self, tensor_index: int) -> NDArray[Any]:
        return self.outputs[tensor_index]


def told_runner(
    found: dict[int, tuple[float, NDArray[np.float32]]], **changes: Any
) -> tuple[DetectorRunner, FakeInterpreter]:
    """Return a runner that finds ``found`` (by cell: score and logits) in every frame, and its interpreter."""
    scores = np.zeros((1, CELLS, 1), np.float32)
    logits = np.zeros((1, CELLS, 4 * (REG_MAX + 1)), np.float32)
    for cell, (score, distances) in found.items():
        scores[0, cell], logits[0, cell] = score, distances.ravel()
    interpreter = FakeInterpreter(logits, scores)
    return DetectorRunner(small_detector(**changes), ModelRunner("detector.tflite", interpreter, 2)), interpreter


def _detail(index: int, value: NDArray[Any]) -> dict[str, Any]:
    return {"index": index, "shape": value.shape, "dtype": value.dtype.type, "quantization": (0.0, 0)}
