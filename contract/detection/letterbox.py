"""Owns how a frame becomes a detector's input and how boxes come back. Refuses to stretch: people keep their shape.

A frame is shrunk (or grown) by one factor into the top left of the input; what is left over is filled with one grey.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.preprocess import Image


@dataclass(frozen=True)
class Placed:
    """A frame in a detector's input. ``across`` and ``down``: pixels of the input for one of the frame."""

    picture: NDArray[np.uint8]  # height x width x 3, the colours in the frame's order
    frame_size: tuple[int, int]  # height, width
    across: float
    down: float

    def in_frame(self, corners: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return corners (n x left, top, right, bottom) in pixels of the frame, cut off at its edges."""
        height, width = self.frame_size
        scale = np.array([self.across, self.down, self.across, self.down], np.float32)
        edges = np.array([width, height, width, height], np.float32)
        return np.asarray(np.clip(corners / scale, 0, edges), np.float32)


def letterbox(frame: Image, size: tuple[int, int], fill: int) -> Placed:
    """Place ``frame`` (height x width x 3, uint8) in a picture of ``size`` (height, width).

    Area averaging is used where it shrinks: bilinear sampling skips pixels, and with them people who are far away.
    """
    height, width = size
    factor = min(width / frame.shape[1], height / frame.shape[0])
    inner = (max(1, round(frame.shape[1] * factor)), max(1, round(frame.shape[0] * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    picture = np.full((height, width, 3), fill, np.uint8)
    picture[: inner[1], : inner[0]] = cv2.resize(frame, inner, interpolation=method)
    return Placed(picture, frame.shape[:2], inner[0] / frame.shape[1], inner[1] / frame.shape[0])
