"""Owns the paper's two networks: MobileNetV2 and VGG-19 at 160 pixels under its head of a convolution and a Dense.

Refuses other graphs. Pixels go in as they are (float32, 0..255, RGB). VGG-19 has no public weights here: they are
seeded random ones, scaled layer by layer so that features depend on the picture (Mishkin and Matas, 2015), as trained
ones do. Sizes of files and patches depend on which weights change, not on what the frozen ones are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.backbones.weights import WeightsFile, load_into
from cloud_tools.tflite.engine import keras, tensorflow
from contract.errors import KinwatchError

SIZE = 160
PEOPLE = 6
CHANNELS = {"mobilenetv2": 1280, "vgg19": 512}
DROPOUT = 0.3
# As the paper counts them: all parameters, those of the head, and the frozen ones.
PARAMETERS = {"mobilenetv2": (2_626_854, 368_870, 2_257_984), "vgg19": (20_172_070, 147_686, 20_024_384)}


@dataclass(frozen=True)
class PaperNetwork:
    """A whole model (pixels to probabilities), its ``base``, and a ``trainer`` on feature maps.

    The trainer shares the layers of the head, so that training one trains the other.
    """

    name: str
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

    @property
    def parameters(self) -> tuple[int, int, int]:
        """All parameters, those of the head, and those of the base."""
        return self.model.count_params(), self.trainer.count_params(), self.base.count_params()


def build(name: str, people: int = PEOPLE, batch: int | None = None) -> PaperNetwork:
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
    return PaperNetwork(name, model, base, trainer)


def check_parameters(network: PaperNetwork) -> None:
    """Refuse a network that has not the paper's number of parameters, in all and in its parts."""
    if network.parameters != PARAMETERS[network.name]:
        raise KinwatchError(
            f"{network.name} has {network.parameters} parameters (all, head, frozen), "
            f"the paper's has {PARAMETERS[network.name]}"
        )


def load_base(network: PaperNetwork, weights: WeightsFile | None, pictures: NDArray[np.uint8]) -> None:
    """Return the base its weights; None: the random ones it has, scaled on ``pictures`` (a few, RGB)."""
    if weights is not None:
        load_into(network.base, weights)
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
