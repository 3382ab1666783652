"""Owns the detector's file: exported once for each size and precision, compared, reused by digest. Refuses to train.

Precisions: float16 (7.5 MB, the default), dynamic (3.8 MB), int8 (3.9 MB, the one with a path to an Edge TPU). The
scales of int8 come from public frames, never a household's: the file is the same for everybody.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.cache import cache_export, cached_export, digest_of
from cloud_tools.datasets.labels import load_labels
from cloud_tools.detectors.graph_model import read_convolutions
from cloud_tools.detectors.nanodet import RECIPE, REG_MAX, STRIDES, build_nanodet
from cloud_tools.detectors.weight_source import ORIGIN, NanodetFiles
from cloud_tools.inputs import LABELS, sample_video
from cloud_tools.tflite.engine import keras, tensorflow
from cloud_tools.tflite.export import DYNAMIC, compare_outputs, convert, kept_outputs
from cloud_tools.tflite.quantisation import Calibration, evenly, frames_of
from cloud_tools.tflite.selftest_inputs import selftest_inputs
from cloud_tools.tflite.tflite_file import Runner, TfliteFile
from contract.detection.letterbox import letterbox
from contract.detection.runner import DetectorRunner
from contract.manifest import Detector
from contract.preprocess import dequantize, quantize

FILE = "detector.tflite"
SIZES = {"nanodet-384": (224, 384), "nanodet-320": (192, 320)}  # height, width
FILL = 114  # grey around a frame: what it was trained with
# The largest difference of a score (0..1) and of a logit from Keras, and the mean one as a share of the mean.
# Measured on the pictures compared: float16 .0003, .009 and .0005; dynamic .04, .6 and .06; int8 .17, 1.7 and .11.
TOLERANCE = {"float16": (0.005, 0.1), DYNAMIC: (0.15, 2.5), "int8": (0.5, 6.0)}
MOST_SHARE = {"float16": 0.005, DYNAMIC: 0.2, "int8": 0.3}
# Of the self-test's numbers, which are maxima and means. Float kernels of different boards differ by about 1e-5,
# kernels for integers round each in their own way.
SELFTEST_TOLERANCE, INTEGER_TOLERANCE = 0.02, 0.1
CACHED = "detectors"
CALIBRATED, COMPARED = 48, 8  # frames


@dataclass(frozen=True)
class DetectorFile:
    """A detector as it is deployed; ``origin`` says how it was made, for the provenance.

    ``described``: how a base's manifest describes it, its thresholds among that.
    """

    data: bytes
    origin: dict[str, Any]
    described: Detector | None = None

    def runner(self) -> DetectorRunner:
        """Return it ready to find people.

        Raises:
            ReleaseError: it does not load, or is no such detector.
        """
        model = Runner(self.data, FILE, outputs=2)
        return DetectorRunner(self.described or self._describe(model), model)

    def entry(self, pictures: NDArray[np.uint8]) -> Detector:
        """Return the manifest's entry, its self-test on ``pictures`` (n x height x width x 3, RGB).

        Raises:
            ReleaseError: it does not load, is no such detector, or does not run.
        """
        runner = self.runner()
        return replace(runner.detector, expected=tuple(runner.summaries(pictures)))

    def _describe(self, model: Runner) -> Detector:
        return Detector(
            file=FILE,
            sha256=hashlib.sha256(self.data).hexdigest(),
            size=len(self.data),
            input=model.input,
            outputs=model.outputs,
            strides=STRIDES,
            reg_max=REG_MAX,
            fill=FILL,
            expected=(),
            tolerance=SELFTEST_TOLERANCE if self.origin.get("precision") == "float16" else INTEGER_TOLERANCE,
            operators=TfliteFile(self.data).operators(),
        )


def make_detector(name: str, precision: str, files: NanodetFiles) -> DetectorFile:
    """Return the detector ``name`` of ``SIZES`` with the weights in ``files``: from the cache, or exported.

    Raises:
        InputError: weights of another network, or (int8) no sample video. PeerError: it cannot be fetched.
        ExportError: TFLite and Keras disagree, or the converter refuses the network.
        OSError: the disk is full while converting; a full cache alone does not matter.
    """
    origin: dict[str, Any] = {
        "name": name,
        "recipe": RECIPE,
        "precision": precision,
        "weights": ORIGIN,
        "weights_sha256": files.sha256,
        "tensorflow": str(tensorflow().__version__),
        "keras": str(keras().__version__),
    }
    frames = _calibration(SIZES[name]) if precision == "int8" else None
    if frames is not None:
        origin["calibration"] = {"digest": frames.digest, "pictures": len(frames.pictures), "source": frames.source}
    key = digest_of(*(str(value) for value in origin.values()))
    kept = cached_export(CACHED, key)
    if kept is None:
        data, difference = _export(name, precision, files, frames)
        kept = data, origin | {"difference": difference}
        with suppress(OSError):  # a full or read-only cache costs time alone
            cache_export(CACHED, key, *kept)
    return DetectorFile(*kept)


def _calibration(size: tuple[int, int]) -> Calibration:
    """Return frames of the sample video, by day and by dusk, and the self-test's pictures: all values there are."""
    frames = load_labels(LABELS).frames
    wanted = set(evenly(frames, CALIBRATED))
    pictures = [_pixels(frame[..., ::-1], size) for _, frame in frames_of(sample_video(), wanted)]
    dusk = [(picture * 0.4).astype(np.uint8) for picture in pictures[::4]]
    return Calibration("sample frames", np.stack([*pictures, *dusk, *_public(size)]))


def _public(size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.stack([_pixels(picture, size) for picture in selftest_inputs()])


def _pixels(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return letterbox(np.ascontiguousarray(rgb), size, FILL).picture


def _export(
    name: str, precision: str, files: NanodetFiles, frames: Calibration | None
) -> tuple[bytes, dict[str, float]]:
    """Return the TFLite file, and how far its scores and sides are from Keras'."""
    size = SIZES[name]
    convolutions = read_convolutions(files.topology, files.values)
    model = build_nanodet(convolutions, size, integer=precision == "int8")
    data = convert(model, precision, None if frames is None else frames.pictures)
    samples = (_public(size) if frames is None else frames.pictures[:COMPARED]).astype(np.float32)
    return data, _compare(data, model, samples, precision)


def _compare(data: bytes, model: Any, samples: NDArray[np.float32], precision: str) -> dict[str, float]:
    runner = Runner(data, FILE, outputs=2)
    said = [runner.run_all(quantize(sample[None], runner.input)) for sample in samples]
    measured: dict[str, float] = {}
    for kept, tolerance in zip(kept_outputs(model, samples), TOLERANCE[precision], strict=True):
        # The converter orders outputs by its own rule: the shape tells which is which.
        at = [spec.shape[-1] for spec in runner.outputs].index(kept.shape[-1])
        values = [dequantize(answer[at], runner.outputs[at])[0] for answer in said]
        which = "scores" if kept.shape[-1] == 1 else "sides"
        off = compare_outputs(f"{FILE}: {which}", values, kept, tolerance, MOST_SHARE[precision])
        measured |= {f"{which}_worst": float(f"{off.worst:.2g}"), f"{which}_share": float(f"{off.share:.2g}")}
    return measured


def parse_name(choice: str) -> tuple[str, str] | None:
    """Return (name, precision) of a ``choice`` such as ``nanodet-384`` or ``nanodet-320-int8``; None: no such one."""
    name, precision = choice, "float16"
    for known in TOLERANCE:
        if choice.endswith(f"-{known}"):
            name, precision = choice.removesuffix(f"-{known}"), known
    return (name, precision) if name in SIZES else None
