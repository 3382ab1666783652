"""Owns how a box in a frame becomes a model's input, in training and on the device alike; there is no second way.

Refuses to find boxes and to run models. Needs numpy and OpenCV, which the relay has not.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError
from contract.manifest import Preprocess, TensorSpec

Image = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # x, y, width, height in pixels of the frame


def crop(frame: Image, box: Box, context: float = 0.1) -> Image:
    """Cut ``box`` with ``context`` of its size added on each side, clipped to the frame; never padded.

    Args:
        frame: height x width x 3, uint8, BGR as OpenCV reads it.
        box: x, y, width, height in pixels; may reach over the frame's edge.

    Returns:
        A copy, BGR uint8; a crop outlives the frame it was cut from.

    Raises:
        InputError: the box lies outside of the frame or is empty.
    """
    x, y, width, height = box
    left, top = max(0, int(x - context * width)), max(0, int(y - context * height))
    right = min(frame.shape[1], int(x + width + context * width))
    bottom = min(frame.shape[0], int(y + height + context * height))
    if width <= 0 or height <= 0 or right <= left or bottom <= top:
        raise InputError(f"box {box} has no pixel inside a frame of {frame.shape[1]}x{frame.shape[0]}")
    return np.ascontiguousarray(frame[top:bottom, left:right])


def prepare(image: Image, how: Preprocess) -> NDArray[np.uint8]:
    """Stretch a BGR crop of any size to ``how.size`` and return RGB uint8, height x width x 3.

    A crop is stretched, never padded: padding costs accuracy (docs/terminology.md, "crop"). Area averaging is used
    where both sides shrink, because bilinear sampling skips pixels of a large crop.
    """
    height, width = how.size
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=method)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), np.uint8)


def to_tensor(rgb: NDArray[np.uint8], how: Preprocess, spec: TensorSpec) -> NDArray[np.generic]:
    """Return prepared pixels (height x width x 3, or n x height x width x 3) as values of the first stage's dtype.

    float32: ``value * scale + offset``. int8 and uint8: that value quantised with the stage's scale and zero point
    (round half to even, clipped), as TFLite's QUANTIZE does.
    """
    values = rgb.astype(np.float32) * np.float32(how.scale) + np.float32(how.offset)
    return quantize(values, spec)


def quantize(values: NDArray[np.float32], spec: TensorSpec) -> NDArray[np.generic]:
    """Return float values in the dtype of ``spec``."""
    if spec.dtype == "float32":
        return values
    limits = np.iinfo(spec.dtype)
    levels = np.rint(values / np.float32(spec.scale)) + spec.zero_point
    return np.asarray(np.clip(levels, limits.min, limits.max), spec.dtype)


def dequantize(values: NDArray[np.generic], spec: TensorSpec) -> NDArray[np.float32]:
    """Return values of the dtype of ``spec`` as float32."""
    if spec.dtype == "float32":
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)
