"""Owns what can be told of a person in a box without a model: whether all of them is there, their colours, detail.

Refuses to say who it is. A detector is as sure of an arm that reaches into the picture as of a person; what gives an
arm away is where it is cut off, and its shape.
"""

import cv2
import numpy as np

from agent.vision.boxes import Region
from agent.vision.tracking import Colours
from contract.preprocess import Image

EDGE = 0.006  # of a side of the frame: a box that ends nearer to the edge is cut off by it
MOST_WIDE = 1.2  # widths for each height: who sits is nearly square, an arm or a car is wider
CUT_MOST_WIDE = 0.8  # likewise where the frame cuts off the legs: head and shoulders are left, or only hands
LEAST_WIDE = 0.15
PARTS = ((0.15, 0.5), (0.5, 0.9))  # shares of a box's height: coat, and trousers
SAMPLE = (16, 24)  # width, height in pixels to which a part is shrunk
LUMA_BINS, COLOUR_BINS = 16, 8
DETAIL = (64, 128)  # width, height in pixels at which detail is compared, whatever the size of a crop


def is_whole(box: Region, frame: tuple[int, ...]) -> bool:
    """Return whether ``box`` shows a body in ``frame`` (height, width, ...) that is not cut off above or sideways.

    Legs may be cut off: a camera on a desk never sees any.
    """
    height, width = frame[:2]
    left, top, right, bottom = box[0], box[1], width - box[0] - box[2], height - box[1] - box[3]
    if left < EDGE * width or right < EDGE * width or top < EDGE * height:
        return False
    most = CUT_MOST_WIDE if bottom < EDGE * height else MOST_WIDE
    return LEAST_WIDE <= box[2] / box[3] <= most


def colours_of(image: Image, box: Region) -> Colours:
    """Return the colours of the coat and the trousers in ``box``: a histogram in Lab, its square root of unit length.

    Two of them are compared by their scalar product (the Bhattacharyya coefficient).
    """
    parts = [_histogram(image, box, *part) for part in PARTS]
    together = np.sqrt(np.concatenate(parts) / len(parts))
    return tuple(together.tolist())


def _histogram(image: Image, box: Region, top: float, bottom: float) -> np.ndarray:
    x, y, width, height = box
    # The middle of the box: at its sides is the room.
    left, right = _span(x + 0.2 * width, x + 0.8 * width, image.shape[1])
    first, last = _span(y + top * height, y + bottom * height, image.shape[0])
    part = image[first:last, left:right]
    lab = cv2.cvtColor(cv2.resize(part, SAMPLE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2LAB).reshape(-1, 3)
    luma = np.bincount(lab[:, 0] // (256 // LUMA_BINS), minlength=LUMA_BINS)
    # Clothes lie within 32 levels of grey in both colour axes; what is beyond counts as the last bin.
    cells = (np.clip(lab[:, 1:].astype(np.int32) - 96, 0, 63)) // (64 // COLOUR_BINS)
    colour = np.bincount(cells[:, 0] * COLOUR_BINS + cells[:, 1], minlength=COLOUR_BINS * COLOUR_BINS)
    return np.concatenate([luma, colour]) / (2 * len(lab))


def _span(begin: float, end: float, most: int) -> tuple[int, int]:
    """Return where a cut begins and ends, at least one pixel within ``most``."""
    first = min(max(0, int(begin)), most - 1)
    return first, max(first + 1, min(most, int(end)))


def detail(crop: Image, share: float) -> float:
    """Return how much can be seen on a crop: sharp and large is most. ``share``: its height, of the frame's."""
    grey = cv2.cvtColor(cv2.resize(crop, DETAIL, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    return float(np.sqrt(cv2.Laplacian(grey, cv2.CV_16S).var())) * share
