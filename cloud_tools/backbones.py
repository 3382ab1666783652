"""Owns the backbone: MobileNetV2 at 160 pixels as a TFLite file, made once and reused. Refuses to train it.

Pixels go in as they are (float32, 0..255, RGB, 1 x 160 x 160 x 3); normalisation is part of the graph, so that no
program can apply another one. Out come features, 1 x 5 x 5 x 1280, float32.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.cache import cache_folder, digest_of
from cloud_tools.engine import fresh_session, keras, tensorflow
from cloud_tools.export import export_tflite
from cloud_tools.selftest_inputs import selftest_inputs
from cloud_tools.weights import WeightsFile, load_into
from contract.errors import InputError
from contract.files import atomic_write, json_bytes

NAME = "mobilenetv2-160"
RECIPE = "1"  # changes when the graph changes, so that an older cached file is not taken for it
SIZE = 160
PRECISIONS = ("float32",)
# Features go from 0 to 6 (ReLU6); measured difference 2e-5. A wrong graph is off by more than 1.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Backbone:
    """A backbone as it is deployed; ``origin`` says how it was made, for the provenance."""

    data: bytes
    origin: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()


def make_backbone(weights: WeightsFile, precision: str = "float32") -> Backbone:
    """Give the backbone for ``weights``: from the cache, or exported, compared with Keras and cached.

    Raises:
        InputError: unknown precision, or weights of another network.
        ExportError: TFLite and Keras disagree.
    """
    check_precision(precision)
    versions = {"tensorflow": str(tensorflow().__version__), "keras": str(keras().__version__)}
    origin = {"name": NAME, "precision": precision, "weights": weights.source, "weights_sha256": weights.sha256}
    key = digest_of(NAME, RECIPE, weights.sha256, precision, *versions.values())
    data = _cached(key)
    if data is None:
        data = _export(weights)
        _cache(key, data, origin | versions)
    return Backbone(data, origin | versions)


def check_precision(precision: str) -> None:
    """Raise InputError when no backbone of that precision can be made."""
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not known (known: {', '.join(PRECISIONS)})")


def _export(weights: WeightsFile) -> bytes:
    fresh_session(0)
    layers = keras().layers
    network = keras().applications.MobileNetV2((SIZE, SIZE, 3), include_top=False, weights=None)
    load_into(network, weights)
    network.trainable = False
    pixels = keras().Input((SIZE, SIZE, 3), batch_size=1, name="pixels")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(pixels)
    model = keras().Model(pixels, network(scaled, training=False), name="backbone")
    return export_tflite(model, _samples(), TOLERANCE)


def _samples() -> NDArray[np.float32]:
    return selftest_inputs().astype(np.float32)


def _cached(key: str) -> bytes | None:
    folder = cache_folder() / "backbones"
    try:
        data = (folder / f"{key[:32]}.tflite").read_bytes()
        said = json.loads((folder / f"{key[:32]}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return data if hashlib.sha256(data).hexdigest() == said.get("sha256") else None


def _cache(key: str, data: bytes, origin: dict[str, Any]) -> None:
    folder = cache_folder() / "backbones"
    folder.mkdir(exist_ok=True)
    atomic_write(folder / f"{key[:32]}.tflite", data)
    # The digest is written last: a file without it is no entry.
    atomic_write(folder / f"{key[:32]}.json", json_bytes(origin | {"sha256": hashlib.sha256(data).hexdigest()}))
