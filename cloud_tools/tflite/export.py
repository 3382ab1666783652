"""Owns turning a Keras model into a TFLite file, and the proof that both say the same. Refuses other converter paths.

``from_keras_model`` is the one path: ``from_concrete_functions`` silently made models that return NaN. Precisions:
    float32  as it is
    float16  weights stored in half, computed in float32
    dynamic  weights stored as int8 with a scale for each output channel, values quantised as they come
    int8     weights and values, scales from calibration pictures; pixels go in as uint8, features come out as int8
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.tflite.engine import tensorflow
from cloud_tools.tflite.quiet import quiet
from cloud_tools.tflite.tflite_file import Runner
from contract.errors import KinwatchError
from contract.preprocess import dequantize, quantize

DYNAMIC = "dynamic"
PRECISIONS = ("float32", "float16", "int8")  # of a backbone


class ExportError(KinwatchError):
    """A converted model does not say what the Keras model says; no bundle is written."""


@dataclass(frozen=True)
class Difference:
    """How far TFLite is from Keras: the largest of any output, and the mean of all as a share of the mean output."""

    worst: float
    share: float


def export_tflite(model: Any, samples: NDArray[np.float32], tolerance: float) -> bytes:
    """Convert a Keras model (one input, batch of 1) as float32 and compare both on ``samples`` (n x input shape).

    Raises:
        ExportError: it cannot be converted, an output differs by more than ``tolerance`` (absolute), or is not a
            number.
    """
    data = convert(model)
    compare(data, model, samples, tolerance)
    return data


def convert(model: Any, precision: str = "float32", pictures: NDArray[np.uint8] | None = None) -> bytes:
    """Convert a Keras model (one input, batch of 1); ``pictures`` (n x input shape) give the scales of int8.

    Raises:
        ExportError: the converter cannot. OSError: the disk is full (it writes to the temporary folder).
    """
    converter = tensorflow().lite.TFLiteConverter.from_keras_model(model)
    if precision != "float32":
        converter.optimizations = [tensorflow().lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tensorflow().float16]
    if precision == "int8":
        _full_integer(converter, pictures)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of statistics that full integer models do not need
            return bytes(converter.convert())
    except OSError:
        raise
    except Exception as error:  # ConverterError, OpError, ...: the converter raises whatever the pass at fault does
        raise ExportError(f"{model.name}: the converter refuses it: {' '.join(str(error).split())[:160]}") from error


def _full_integer(converter: Any, pictures: NDArray[np.uint8] | None) -> None:
    if pictures is None or not len(pictures):
        raise ExportError("int8 needs calibration pictures")

    def representative() -> Iterator[list[NDArray[np.float32]]]:
        for picture in pictures:
            yield [picture[None].astype(np.float32)]

    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tensorflow().lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tensorflow().uint8
    converter.inference_output_type = tensorflow().int8


def compare(
    data: bytes, model: Any, samples: NDArray[np.float32], tolerance: float, most_share: float = 1.0
) -> Difference:
    """Return the difference of the outputs of ``data`` (TFLite) and ``model`` (Keras) on ``samples``.

    Raises:
        ExportError: the largest is over ``tolerance``, the mean one over ``most_share``, or one is not a number.
    """
    runner, answers = Runner(data, str(model.name)), kept_answers(model, samples)
    said = [dequantize(runner.run(quantize(sample[None], runner.input)), runner.output)[0] for sample in samples]
    return compare_outputs(str(model.name), said, answers, tolerance, most_share)


def compare_outputs(
    name: str,
    said: Iterable[NDArray[np.float32]],
    answers: NDArray[np.float32],
    tolerance: float,
    most_share: float = 1.0,
) -> Difference:
    """Return the difference of what a file says and Keras' ``answers`` (both n x output shape), sample by sample.

    Raises:
        ExportError: as ``compare``.
    """
    total, kept_total, worst = 0.0, 0.0, 0.0
    for one, kept in zip(said, answers, strict=True):
        off = np.abs(one - kept)
        worst = max(worst, float(np.max(off, initial=0.0)))
        if not worst <= tolerance:
            raise ExportError(f"{name}: TFLite and Keras differ by {worst:.2g}, over {tolerance:.2g}")
        total, kept_total = total + float(off.sum()), kept_total + float(np.abs(kept).sum())
    found = Difference(worst, total / kept_total if kept_total else 0.0)
    if found.share > most_share:
        raise ExportError(f"{name}: TFLite and Keras differ by {found.share:.2g} of the mean, over {most_share}")
    return found


def kept_answers(model: Any, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the Keras model answers, n x output shape."""
    return kept_outputs(model, samples)[0]


def kept_outputs(model: Any, samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return each output of the Keras model, n x output shape. Traced once: eager calls cost ten times the CPU."""
    traced = tensorflow().function(lambda values: tensorflow().nest.flatten(model(values, training=False)))
    answers = [[np.asarray(value) for value in traced(sample[None])] for sample in samples]
    return [np.concatenate(rows) for rows in zip(*answers, strict=True)] or [np.zeros((0,), np.float32)]
