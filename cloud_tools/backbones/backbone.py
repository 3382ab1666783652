"""Owns the backbone: a frozen network as a TFLite file, made once and reused by digest. Refuses to train it.

Pixels go in as they are (1 x h x w x 3, RGB, 0..255; float32, or uint8 of an int8 backbone); normalisation is part of
the graph, so that no program can apply another one. Out comes the last feature map, 1 x h' x w' x channels.

A file is made once for each of: network, weights, precision, calibration, versions of TensorFlow and Keras. An int8
backbone's scales are chosen then and never again: a release with a base takes the base's file.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloud_tools.backbones.networks import Network, build_backbone
from cloud_tools.backbones.weights import WeightsFile
from cloud_tools.cache import cache_export, cached_export, digest_of
from cloud_tools.tflite.engine import keras, tensorflow
from cloud_tools.tflite.export import PRECISIONS, compare, convert, kept_answers
from cloud_tools.tflite.quantisation import Calibration
from cloud_tools.tflite.selftest_inputs import selftest_inputs
from cloud_tools.tflite.tflite_file import Runner
from contract.errors import InputError
from contract.manifest import Preprocess

# The largest difference from Keras, as a share of the largest feature (6 after ReLU6), and the mean one, as a share
# of the mean feature. Measured on the sample: float32 2e-5 and 6e-6, float16 .08 and .012, int8 1 and .61. Rounded
# weights move single features far; a wrong graph moves the mean by more than all of it.
TOLERANCE = {"float32": 2e-4, "float16": 0.25, "int8": 2.0}
MOST_SHARE = {"float32": 1e-4, "float16": 0.05, "int8": 0.9}
CACHED = "backbones"
COMPARED = 16  # calibration pictures that an int8 backbone is compared on


@dataclass(frozen=True)
class Backbone:
    """A backbone as it is deployed; ``origin`` says how it was made, for the provenance."""

    data: bytes
    origin: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def fine_tuned(self) -> bool:
        """Whether crops of a household are in its weights."""
        return "fine_tuned" in self.origin

    @property
    def preprocess(self) -> Preprocess:
        """How a crop becomes its input; ReleaseError when the file does not load."""
        shape = Runner(self.data, "backbone.tflite").input.shape
        return Preprocess((shape[1], shape[2]))

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of its feature map: height, width, channels. ReleaseError when the file does not load."""
        return Runner(self.data, "backbone.tflite").output.shape[1:]


def make_backbone(
    network: Network, weights: WeightsFile, precision: str = "float32", calibration: Calibration | None = None
) -> Backbone:
    """Return the backbone of ``network`` with ``weights``: from the cache, or exported, compared and cached.

    int8 needs ``calibration``; the other precisions do not look at it.

    Raises:
        InputError: unknown precision, or weights of another network.
        ExportError: TFLite and Keras disagree, or the converter refuses the network.
        OSError: the disk is full while converting; a full cache alone does not matter.
    """
    check_precision(precision)
    used = calibration if precision == "int8" else None
    if precision == "int8" and used is None:
        raise InputError("an int8 backbone needs pictures to take its scales from")
    origin = _origin(network, weights, precision, used)
    key = digest_of(
        *(str(origin[name]) for name in ("name", "recipe", "weights_sha256", "precision")), *_rest(origin)
    )
    kept = cached_export(CACHED, key)
    if kept is None:
        data, measured = _export(network, weights, precision, used)
        kept = data, origin | measured
        with suppress(OSError):  # a full or read-only cache costs time alone
            cache_export(CACHED, key, *kept)
    # Where the weights came from is told as it was this time: the same file may have two names.
    return Backbone(kept[0], kept[1] | {"weights": weights.source})


def check_precision(precision: str) -> None:
    """Raise InputError when no backbone of that precision can be made."""
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not known (known: {', '.join(PRECISIONS)})")


def _origin(network: Network, weights: WeightsFile, precision: str, used: Calibration | None) -> dict[str, Any]:
    origin: dict[str, Any] = {
        "name": network.name,
        "recipe": network.recipe,
        "precision": precision,
        "weights": weights.source,
        "weights_sha256": weights.sha256,
        "tensorflow": str(tensorflow().__version__),
        "keras": str(keras().__version__),
    }
    if used is not None:
        origin["calibration"] = {"digest": used.digest, "pictures": len(used.pictures), "source": used.source}
    return origin


def _rest(origin: dict[str, Any]) -> tuple[str, ...]:
    frozen = (origin["calibration"]["digest"],) if "calibration" in origin else ()
    return (origin["tensorflow"], origin["keras"], *frozen)


def _export(
    network: Network, weights: WeightsFile, precision: str, used: Calibration | None
) -> tuple[bytes, dict[str, Any]]:
    """Return the TFLite file and what was measured on it."""
    model = build_backbone(network, weights)
    data = convert(model, precision, None if used is None else used.pictures)
    samples = (used.pictures[:COMPARED] if used else selftest_inputs(network.size)).astype(np.float32)
    peak = float(np.max(np.abs(kept_answers(model, samples)), initial=0.0))
    off = compare(data, model, samples, TOLERANCE[precision] * peak, MOST_SHARE[precision])
    return data, {"difference": {"worst": float(f"{off.worst:.2g}"), "share": float(f"{off.share:.2g}")}}
