"""Owns the parts of a picture that have a name, and those that nobody may see. Refuses pixels: all are fractions.

A privacy mask is made black before anything else sees the frame, so that neither a model nor a page can show it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from agent.camera.frame import Frame
from agent.vision.boxes import Region
from contract.checks import safe_name
from contract.preprocess import Image

Polygon = tuple[tuple[float, ...], ...]  # (x, y), fractions of the frame's width and height


@dataclass(frozen=True)
class Zone:
    """A part of the picture with a name; who stands in it is told to be there."""

    name: str
    polygon: Polygon

    def __post_init__(self) -> None:
        """Refuse what cannot be in a message, and what is no polygon."""
        safe_name(self.name, "name")
        check_polygon(self.polygon)

    def holds(self, x: float, y: float) -> bool:
        """Return whether the point (fractions of the frame) is in the zone."""
        return cv2.pointPolygonTest(np.asarray(self.polygon, np.float32), (x, y), False) >= 0


@dataclass(frozen=True)
class Mask:
    """A part of the picture that is made black."""

    polygon: Polygon

    def __post_init__(self) -> None:
        """Refuse what is no polygon."""
        check_polygon(self.polygon)


def check_polygon(polygon: Polygon) -> None:
    """Refuse fewer than three corners, and corners outside of the frame; ValueError says so."""
    if len(polygon) < 3 or not all(len(corner) == 2 for corner in polygon):
        raise ValueError("polygon must have at least three corners, [x, y] each")
    if not all(0 <= value <= 1 for corner in polygon for value in corner):
        raise ValueError("polygon has a corner outside of the frame: x and y are fractions from 0 to 1")


def zone_of(zones: Sequence[Zone], box: Region, frame: tuple[int, ...]) -> str | None:
    """Return the name of the first zone in which the feet of ``box`` stand; ``frame`` is (height, width, ...)."""
    # Within the frame, also where the box ends at its edge.
    x, y = min(1.0, (box[0] + box[2] / 2) / frame[1]), min(1.0, (box[1] + box[3]) / frame[0])
    return next((zone.name for zone in zones if zone.holds(x, y)), None)


def masked(frames: Iterable[Frame | None], masks: Sequence[Mask]) -> Iterator[Frame | None]:
    """Return the frames with every mask made black; None, which says that time passes, stays."""
    for frame in frames:
        yield _masked(frame, masks) if frame and masks else frame


def _masked(frame: Frame, masks: Sequence[Mask]) -> Frame:
    large = None if frame.large is None else blackened(frame.large, masks)
    return replace(frame, image=blackened(frame.image, masks), large=large)


def blackened(image: Image, masks: Sequence[Mask]) -> Image:
    """Return ``image`` with every mask made black; the camera's own copy goes with it, where it may be written."""
    if not image.flags.writeable:
        image = image.copy()
    size = np.array([image.shape[1], image.shape[0]], np.float64)
    for mask in masks:
        corners = np.round(np.asarray(mask.polygon, np.float64) * size).astype(np.int32)
        cv2.fillPoly(image, [corners], (0, 0, 0))
    return image
