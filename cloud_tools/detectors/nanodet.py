"""Owns the graph of NanoDet-g, rebuilt for any input size. Refuses to fetch its weights and to decode its answer.

The package's graph is of PyTorch's order of axes and one size (416 x 416); here is the same network in TensorFlow's
order, as Keras layers: a backbone of four cross-stage blocks, lateral connections up and down again between three
strides, and a head of two convolutions for each. Of its 80 classes the first, a person, is kept. Score and box are
two convolutions, so that each has scales of its own as integers. Pixels go in as they are: 0..255, RGB.

Kept from the original, and easy to lose: strides of two pad above and left; pooling pads with nothing (minus
infinity, not zero); the mean is subtracted before the first padding; bilinear halving with half-pixel centres is a
2 x 2 mean.
"""

from typing import Any

import numpy as np

from cloud_tools.detectors.graph_model import Convolution
from cloud_tools.tflite.engine import fresh_session, keras
from contract.errors import InputError

RECIPE = "1"  # changes when the graph changes, so that an older cached file is not taken for it
STRIDES, REG_MAX, CLASSES = (8, 16, 32), 10, 80
SIDES = 4 * (REG_MAX + 1)
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, RGB
SLOPE = 0.1  # of what is below zero
BLOCKS = (1, 2, 2, 3)  # pairs of convolutions in each stage of the backbone
CONVOLUTIONS = 34


def build_nanodet(convolutions: list[Convolution], size: tuple[int, int], *, integer: bool = False) -> Any:
    """Return the Keras model: ``pixels`` (1 x h x w x 3) to ``scores`` (1 x n x 1) and ``sides`` (1 x n x 44).

    Args:
        convolutions: of the package's file, in their order.
        size: height and width, multiples of 32.
        integer: as it is exported with integer values: PRELU, which an Edge TPU knows, in the place of LEAKY_RELU.

    Raises:
        InputError: weights of another network.
    """
    if len(convolutions) != CONVOLUTIONS or any(side % STRIDES[-1] for side in size):
        raise InputError(f"weights: {len(convolutions)} convolutions, NanoDet-g has {CONVOLUTIONS}")
    fresh_session(0)
    pixels = keras().Input((*size, 3), batch_size=1, name="pixels")
    try:
        outputs = _Builder(_for_rgb(convolutions), integer).outputs(pixels)
    except ValueError as error:  # of Keras: a kernel of another shape
        raise InputError("weights: not those of NanoDet-g") from error
    return keras().Model(pixels, outputs, name="detector")


def _for_rgb(convolutions: list[Convolution]) -> list[Convolution]:
    """Return the same, the first one for RGB and with the deviation in it: the file's takes BGR."""
    first = convolutions[0]
    kernel = first.kernel[:, :, ::-1] / np.array(DEVIATION, np.float32)[:, np.newaxis]
    return [Convolution(kernel, first.bias), *convolutions[1:]]


class _Builder:
    """Takes the convolutions by their numbers and makes layers that are named by them."""

    def __init__(self, convolutions: list[Convolution], integer: bool) -> None:
        self._convolutions = convolutions
        self._integer = integer
        self._layers = keras().layers
        self._next = 0  # of the backbone, whose convolutions are in the order of the graph

    def outputs(self, pixels: Any) -> list[Any]:
        """Return scores and sides of all strides."""
        heads = [self._head(level, at) for level, at in zip(self._levels(pixels), (28, 30, 32), strict=True)]
        joined = zip(("scores", "sides"), zip(*heads, strict=True), strict=True)
        return [self._layers.Concatenate(axis=1, name=name)(list(parts)) for name, parts in joined]

    def _levels(self, pixels: Any) -> list[Any]:
        """Return a feature map for each stride, each knowing of the others."""
        low, middle, high = self._backbone(pixels)
        low, middle, high = (self._conv(x, at) for x, at in ((low, 25), (middle, 26), (high, 27)))
        add = self._layers.Add
        middle_up = add(name="up_16")([middle, self._doubled(high, 16)])
        low_up = add(name="up_8")([low, self._doubled(middle_up, 8)])
        middle_down = add(name="down_16")([middle_up, self._halved(low_up, 16)])
        return [low_up, middle_down, add(name="down_32")([high, self._halved(middle_down, 32)])]

    def _backbone(self, pixels: Any) -> list[Any]:
        centred = self._layers.Rescaling(1.0, offset=[-value for value in MEAN], name="centre")(pixels)
        x = self._active(self._pooled(self._conv(centred, self._number(), stride=2)), 0)
        found = []
        for stage, pairs in enumerate(BLOCKS):
            x = self._stage(x, pairs, stride=1 if stage == 0 else 2)
            found.append(x)
        return found[1:]

    def _stage(self, x: Any, pairs: int, stride: int) -> Any:
        start = x = self._active_conv(x, stride)
        for _ in range(pairs):
            first = self._active_conv(x)
            x = self._layers.Concatenate(name=f"join_{self._next}")([self._active_conv(first), first])
        return self._layers.Concatenate(name=f"stage_{self._next}")([self._active_conv(x), start])

    def _active_conv(self, x: Any, stride: int = 1) -> Any:
        number = self._number()
        return self._active(self._conv(x, number, stride=stride), number)

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _head(self, level: Any, at: int) -> tuple[Any, Any]:
        x = self._active(self._conv(level, at), at)
        both = self._convolutions[at + 1]
        person = Convolution(both.kernel[..., :1], both.bias[:1])
        box = Convolution(both.kernel[..., CLASSES:], both.bias[CLASSES:])
        score = self._layers.Activation("sigmoid", name=f"score_{at}")(self._layer(x, person, f"person_{at}"))
        flat = self._layers.Reshape
        sides = self._layer(x, box, f"box_{at}")
        return flat((-1, 1), name=f"scores_{at}")(score), flat((-1, SIDES), name=f"sides_{at}")(sides)

    def _conv(self, x: Any, number: int, stride: int = 1) -> Any:
        return self._layer(x, self._convolutions[number], f"conv_{number}", stride)

    def _layer(self, x: Any, weights: Convolution, name: str, stride: int = 1) -> Any:
        if stride == 2:
            x = self._layers.ZeroPadding2D(((1, 0), (1, 0)), name=f"{name}_pad")(x)
        height, _, _, filters = weights.kernel.shape
        padding = "valid" if stride == 2 else "same"
        layer = self._layers.Conv2D(filters, height, stride, padding, name=name)
        made = layer(x)
        layer.set_weights([weights.kernel, weights.bias])
        return made

    def _active(self, x: Any, number: int) -> Any:
        if not self._integer:
            return self._layers.LeakyReLU(negative_slope=SLOPE, name=f"active_{number}")(x)
        constant = keras().initializers.Constant(SLOPE)
        return self._layers.PReLU(constant, shared_axes=[1, 2], name=f"active_{number}")(x)

    def _pooled(self, x: Any) -> Any:
        """Return maxima of 3 x 3, two apart, the first around the corner. Before the activation, which is monotone.

        Keras pads as much before as after only where the size is odd: one row and column more, and what they make is
        cut off again.
        """
        more = self._layers.ZeroPadding2D(((0, 1), (0, 1)), name="pool_pad")(x)
        pooled = self._layers.MaxPooling2D(3, 2, "same", name="pool")(more)
        return self._layers.Cropping2D(((0, 1), (0, 1)), name="pool_cut")(pooled)

    def _doubled(self, x: Any, stride: int) -> Any:
        return self._layers.UpSampling2D(2, interpolation="bilinear", name=f"double_{stride}")(x)

    def _halved(self, x: Any, stride: int) -> Any:
        return self._layers.AveragePooling2D(2, name=f"halve_{stride}")(x)
