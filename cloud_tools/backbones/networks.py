"""Owns which networks can be a backbone: their graphs, the pixels they take, how their weights are loaded.

Refuses to fetch weights and to export. Each takes pixels as they are (float32, 0..255, RGB) and normalises them
inside the graph, so that no program can apply another rule. Out comes the last feature map, 1 x h x w x channels.
    mobilenetv2         Sandler et al. 2018, width 1.0, 160 pixels: 5 x 5 x 1280 (default)
    efficientnet-lite0  Tan and Le 2019, Lite form, 160 pixels: 5 x 5 x 1280
    vgg19               Simonyan and Zisserman 2014, 160 pixels: 5 x 5 x 512
``scratch`` is no backbone: it is the paper's other branch, a whole network from random weights (``build_scratch``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloud_tools.backbones.lite0 import build_lite0, load_lite0
from cloud_tools.backbones.weights import WeightsFile, load_into
from cloud_tools.tflite.engine import fresh_session, keras

SIZE = (160, 160)  # height, width in pixels
SCRATCH = "scratch"
CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB, of ImageNet; what VGG's authors subtract
SCRATCH_DROPOUT, SCRATCH_FILTERS = 0.3, 32
NORM_MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True)
class Network:
    """A graph that can be a backbone. ``scale`` and ``offset`` (one, or one a channel) make pixels what it takes."""

    name: str
    recipe: str  # changes when the graph changes, so that an older cached file is not taken for it
    size: tuple[int, int]
    scale: float
    offset: float | tuple[float, float, float]
    build: Callable[[], Any]
    load: Callable[[Any, WeightsFile], None]


def build_backbone(chosen: Network, weights: WeightsFile) -> Any:
    """Return the Keras model that is exported: pixels (1 x h x w x 3) to features, frozen.

    Raises:
        InputError: weights of another network.
    """
    fresh_session(weights.seed)
    graph = chosen.build()
    if not weights.random:
        chosen.load(graph, weights)
    graph.trainable = False
    pixels = keras().Input((*chosen.size, 3), batch_size=1, name="pixels")
    features = graph(_scaled(pixels, chosen), training=False)
    return keras().Model(pixels, features, name="backbone")


def build_scratch(labels: int, seed: int) -> Any:
    """Return the paper's other branch: MobileNetV2 and its conv32 head with random weights, all of it trainable.

    Input ``pixels`` (n x 160 x 160 x 3, float32, 0..255, RGB), output probabilities (n x labels). Exported whole, it
    is the one stage of its bundle.
    """
    fresh_session(seed)
    layers, chosen = keras().layers, NETWORKS["mobilenetv2"]
    pixels = keras().Input((*SIZE, 3), name="pixels")
    body = chosen.build()
    for layer in body.layers:
        # Keras' .999 is for thousands of steps: after a household's hundreds the means would be the first ones.
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = NORM_MOMENTUM
    x = body(_scaled(pixels, chosen))
    x = layers.Conv2D(SCRATCH_FILTERS, 3, activation="relu", name="look")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(layers.Dropout(SCRATCH_DROPOUT, name="dropout")(x))
    return keras().Model(pixels, layers.Dense(labels, activation="softmax", name="decide")(x), name=SCRATCH)


def deployable(model: Any) -> Any:
    """Return a whole trained network (``build_scratch``) as it is exported: one picture at a time, nothing trains."""
    pixels = keras().Input(model.input_shape[1:], batch_size=1, name="pixels")
    return keras().Model(pixels, model(pixels, training=False), name="whole")


def _scaled(pixels: Any, chosen: Network) -> Any:
    offset = list(chosen.offset) if isinstance(chosen.offset, tuple) else chosen.offset
    if (chosen.scale, offset) == (1.0, 0.0):
        return pixels
    return keras().layers.Rescaling(chosen.scale, offset=offset, name="normalise")(pixels)


def _build_mobilenetv2() -> Any:
    return keras().applications.MobileNetV2((*SIZE, 3), include_top=False, weights=None)


def _build_vgg19() -> Any:
    return keras().applications.VGG19(input_shape=(*SIZE, 3), include_top=False, weights=None)


def _load_vgg19(model: Any, weights: WeightsFile) -> None:
    """Load weights that take BGR, as VGG's do, and turn the first kernel over, so that the network takes RGB."""
    load_into(model, weights)
    first = model.get_layer("block1_conv1")
    kernel, bias = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], bias])


def _load_lite0(model: Any, weights: WeightsFile) -> None:
    load_lite0(model, weights.tensors())


NETWORKS = {
    "mobilenetv2": Network(
        name="mobilenetv2-160",
        recipe="1",
        size=SIZE,
        scale=1 / 127.5,
        offset=-1.0,
        build=_build_mobilenetv2,
        load=load_into,
    ),
    "efficientnet-lite0": Network(
        name="efficientnet-lite0-160",
        recipe="1",
        size=SIZE,
        scale=1 / 128,
        offset=-127 / 128,
        build=lambda: build_lite0(SIZE),
        load=_load_lite0,
    ),
    "vgg19": Network(
        name="vgg19-160",
        recipe="1",
        size=SIZE,
        scale=1.0,
        offset=(-CAFFE_MEAN[0], -CAFFE_MEAN[1], -CAFFE_MEAN[2]),
        build=_build_vgg19,
        load=_load_vgg19,
    ),
}
