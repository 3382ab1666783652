"""Owns turning a Keras model into a TFLite file, and the proof that both say the same. Refuses other converter paths.

``from_keras_model`` is the one path: ``from_concrete_functions`` silently made models that return NaN.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.engine import tensorflow
from cloud_tools.quiet import quiet
from cloud_tools.tflite_file import Runner
from contract.errors import KinwatchError


class ExportError(KinwatchError):
    """A converted model does not say what the Keras model says; no bundle is written."""


def export_tflite(model: Any, samples: NDArray[np.float32], tolerance: float) -> bytes:
    """Convert a Keras model (one input, batch of 1) and compare both on ``samples`` (n x input shape).

    Raises:
        ExportError: an output differs by more than ``tolerance`` (absolute), or is not a number.
    """
    with quiet():
        data = bytes(tensorflow().lite.TFLiteConverter.from_keras_model(model).convert())
    compare(data, model, samples, tolerance)
    return data


def compare(data: bytes, model: Any, samples: NDArray[np.float32], tolerance: float) -> float:
    """Give the largest difference of the outputs of ``data`` (TFLite) and ``model`` (Keras) on ``samples``.

    Raises:
        ExportError: it is over ``tolerance``, or not a number.
    """
    runner = Runner(data, str(model.name))
    worst = 0.0
    for sample in samples:
        kept = np.asarray(model(sample[None], training=False))
        worst = max(worst, float(np.max(np.abs(runner.run(sample[None]) - kept), initial=0.0)))
        if not worst <= tolerance:
            raise ExportError(f"{model.name}: TFLite and Keras differ by {worst:.2g}, over {tolerance:.2g}")
    return worst
