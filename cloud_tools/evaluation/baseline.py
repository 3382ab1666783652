"""Owns the baseline beside every accuracy: who it is by colour histogram alone; refuses to be a product.

On one day's video the clothes decide. A network that is not better than this has learned the clothes.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.preprocess import Image

NAME = "HSV histogram of four stripes, nearest neighbour"
STRIPES = 4
BINS = (8, 3, 5)  # hue, saturation, value


def nearest(train: Iterable[Image], labels: NDArray[np.int64], test: Iterable[Image]) -> NDArray[np.int64]:
    """Return the label of the most similar train picture for each test picture (BGR uint8, any size)."""
    known = np.stack([histogram(image) for image in train])
    asked = np.stack([histogram(image) for image in test])
    # Square roots of histograms: their product is the Bhattacharyya coefficient.
    return np.asarray(labels[(asked @ known.T).argmax(axis=1)])


def histogram(image: Image) -> NDArray[np.float32]:
    """Return the square root of the HSV histogram of each stripe, one after another (float32, 480 values)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    side = hsv.shape[1] // 5  # the middle three fifths: less of the street
    stripes = np.array_split(hsv[:, side : hsv.shape[1] - side], STRIPES, axis=0)
    parts = [cv2.calcHist([s], [0, 1, 2], None, list(BINS), [0, 180, 0, 256, 0, 256]).ravel() for s in stripes]
    return np.concatenate([np.sqrt(part / max(float(part.sum()), 1.0)) for part in parts]).astype(np.float32)
