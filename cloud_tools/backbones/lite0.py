"""Owns EfficientNet-Lite0: its graph in Keras, and its weights from the names of the PyTorch port. Refuses to train.

Source: Tan and Le, "EfficientNet", 2019, in the Lite form of TensorFlow's ``efficientnet/lite``: no squeeze and
excitation, ReLU6, stem and last layer of fixed width. Pixels are (x - 127) / 128 (``networks``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.tflite.engine import keras
from contract.errors import InputError

# Of each stage: blocks, kernel, first stride, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, LAST, CLASSES = 32, 1280, 1000
EPSILON = 1e-3
FIRST = "lite0_"  # of the layers' names: one that starts with "_", as the port's do, breaks the export


def build_lite0(size: tuple[int, int], *, with_classes: bool = False) -> Any:
    """Return the network without weights: n x h x w x 3 float32 to n x h/32 x w/32 x 1280 (or 1000 logits)."""
    layers = keras().layers
    pixels = keras().Input((*size, 3), name="scaled")
    x = _conv(pixels, STEM, 3, 2, "_conv_stem", "_bn0")
    number, channels = 0, STEM
    for blocks, kernel, stride, expansion, wanted in STAGES:
        for i in range(blocks):
            x = _block(
                x, f"_blocks.{number}.", kernel, stride if i == 0 else 1, channels * expansion, channels, wanted
            )
            number, channels = number + 1, wanted
    x = _conv(x, LAST, 1, 1, "_conv_head", "_bn1")
    if with_classes:
        mean = layers.GlobalAveragePooling2D(name="mean")(x)
        x = layers.Dense(CLASSES, name=_layer("_fc"))(mean)
    return keras().Model(pixels, x, name="efficientnet-lite0")


def load_lite0(model: Any, found: dict[str, NDArray[Any]]) -> None:
    """Set every weight of ``build_lite0``'s model from the tensors of the PyTorch port.

    Raises:
        InputError: one is missing or has another shape.
    """
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_weights(layer, found))


def _block(x: Any, name: str, kernel: int, stride: int, wide: int, given: int, wanted: int) -> Any:
    layers = keras().layers
    y = x if wide == given else _conv(x, wide, 1, 1, f"{name}_expand_conv", f"{name}_bn0")
    y = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=_layer(f"{name}_depthwise_conv"))(y)
    y = layers.ReLU(6.0, name=_layer(f"{name}relu"))(_norm(y, f"{name}_bn1"))
    y = layers.Conv2D(wanted, 1, use_bias=False, name=_layer(f"{name}_project_conv"))(y)
    y = _norm(y, f"{name}_bn2")
    return layers.Add(name=_layer(f"{name}add"))([y, x]) if stride == 1 and given == wanted else y


def _conv(x: Any, filters: int, kernel: int, stride: int, name: str, norm: str) -> Any:
    layers = keras().layers
    x = layers.Conv2D(filters, kernel, stride, "same", use_bias=False, name=_layer(name))(x)
    return layers.ReLU(6.0, name=f"{_layer(name)}_relu")(_norm(x, norm))


def _norm(x: Any, name: str) -> Any:
    return keras().layers.BatchNormalization(epsilon=EPSILON, momentum=0.99, name=_layer(name))(x)


def _layer(name: str) -> str:
    return FIRST + name


def _weights(layer: Any, found: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Return the weights of one layer: PyTorch has outputs first, Keras height and width."""
    layers, name = keras().layers, layer.name.removeprefix(FIRST)
    if isinstance(layer, layers.BatchNormalization):
        taken = [_take(found, f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
    elif isinstance(layer, layers.DepthwiseConv2D):
        taken = [_take(found, f"{name}.weight", (2, 3, 0, 1))]
    elif isinstance(layer, layers.Conv2D):
        taken = [_take(found, f"{name}.weight", (2, 3, 1, 0))]
    else:
        taken = [_take(found, f"{name}.weight", (1, 0)), _take(found, f"{name}.bias")]
    for value, weight in zip(taken, layer.weights, strict=True):
        if value.shape != tuple(weight.shape):
            raise InputError(
                f"weights: {name} has shape {value.shape}, EfficientNet-Lite0's is {tuple(weight.shape)}"
            )
    return taken


def _take(found: dict[str, NDArray[Any]], key: str, order: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    if key not in found:
        raise InputError(f"weights: no {key}: not an EfficientNet-Lite0 of the PyTorch port")
    value = np.asarray(found[key], np.float32)
    if order is not None and value.ndim != len(order):
        raise InputError(f"weights: {key} has {value.ndim} axes, not {len(order)}")
    return value if order is None else np.ascontiguousarray(value.transpose(order))
