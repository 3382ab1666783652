"""Owns when there is something to look at: a frame difference on a small grey picture. Refuses to say what or where.

An empty room must cost almost nothing, so that this is all that every frame goes through. It looks at ten frames a
second at most, whatever the camera gives, and counts in seconds: a slow camera and a fast one open the same gate.
Lengths are of a grey picture 384 wide and are scaled to the one at hand. The figures are measured: docs/vision.md.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError
from contract.preprocess import Image

Plane = NDArray[np.uint8]
KERNEL = np.ones((3, 3), np.uint8)
GRID = (8, 6)  # columns and rows of the coarse grid that tells a scene change from motion
UNIT_WIDTH = 384  # pixels: what the settings' lengths are of
SLACK_S = 0.02  # cameras jitter


@dataclass(frozen=True)
class GateSettings:
    """When a change counts. Areas are pixels of a grey picture that is 384 wide."""

    plane_width: int = 384  # motion is found on a grey picture about this wide, in pixels
    look_s: float = 0.1  # the least time between two looks; frames between them cost nothing
    lag_s: float = 0.2  # between the two pictures of a difference; less misses slow walkers
    threshold: int = 14  # grey levels; camera noise stays below
    dilate: int = 2  # passes of a 3x3 dilation, which joins the two edges of a limb
    confirm: float = 0.6  # share of the looks ...
    window_s: float = 0.45  # ... within this time that must see a change: one flicker opens nothing
    open_s: float = 2.0  # the gate stays open this long after the last confirmed change
    scene_share: float = 0.6  # share of grid cells that change at once in a scene change
    least_area: int = 60  # of one change

    def __post_init__(self) -> None:
        """Refuse settings that can find nothing."""
        if self.plane_width < 32 or min(self.look_s, self.lag_s, self.window_s, self.open_s) <= 0:
            raise ValueError("plane_width must be at least 32, look_s, lag_s, window_s and open_s above 0")
        if not 0 < self.threshold < 255 or not 0 < self.scene_share <= 1 or not 0 < self.confirm <= 1:
            raise ValueError("threshold must be from 1 to 254, scene_share and confirm above 0, at most 1")


@dataclass(frozen=True, eq=False)
class Look:
    """What one look saw. ``change``: 255 where the picture changed, on ``plane``; ``scene``: nearly everywhere."""

    time_s: float
    plane: Plane
    shrink: int
    change: Plane | None
    scene: bool
    open: bool

    @property
    def unit(self) -> float:
        """Pixels of ``plane`` for each pixel of a picture that is 384 wide."""
        return float(max(self.plane.shape)) / UNIT_WIDTH


class Gate:
    """Looks at frame after frame; ``open`` after a change that lasted."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self.settings = settings or GateSettings()
        self.reset()

    def reset(self) -> None:
        """Forget everything: after a pause, or when the picture is another camera's."""
        self._shape: tuple[int, ...] = (0, 0)
        self._planes: deque[tuple[float, Plane]] = deque()
        self._moved: deque[tuple[float, bool]] = deque()
        self._open_until_s = -math.inf

    def look(self, image: Image, time_s: float) -> Look | None:
        """Return what changed; None when the last look was just now.

        Args:
            image: height x width x 3, uint8, BGR.
            time_s: of its capture; grows.

        Raises:
            InputError: no such image.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"a frame must be height x width x 3 of uint8, not {image.shape} of {image.dtype}")
        if image.shape != self._shape:
            self.reset()
            self._shape = image.shape
        elif self._planes and time_s - self._planes[-1][0] < self.settings.look_s - SLACK_S:
            return None
        shrink = max(1, round(max(image.shape) / self.settings.plane_width))
        plane = luma_plane(image, shrink)
        before = self._before(time_s)
        self._planes.append((time_s, plane))
        change = None if before is None else self._difference(before, plane)
        scene = change is not None and _share_of_grid(change) >= self.settings.scene_share
        self._update(change, scene, time_s, max(plane.shape) / UNIT_WIDTH)
        return Look(time_s, plane, shrink, change, scene, time_s <= self._open_until_s)

    def _before(self, time_s: float) -> Plane | None:
        """Return the newest picture that is ``lag_s`` old, and forget older ones."""
        limit_s = time_s - self.settings.lag_s + SLACK_S
        while len(self._planes) > 1 and self._planes[1][0] <= limit_s:
            self._planes.popleft()
        return self._planes[0][1] if self._planes and self._planes[0][0] <= limit_s else None

    def _difference(self, before: Plane, after: Plane) -> Plane:
        """Return 255 where two planes differ by more than the threshold, 0 elsewhere."""
        difference = cv2.absdiff(before, after)
        _, mask = cv2.threshold(difference, self.settings.threshold, 255, cv2.THRESH_BINARY)
        if cv2.countNonZero(mask):  # nothing to dilate in most frames of an empty room
            mask = cv2.dilate(mask, KERNEL, iterations=self.settings.dilate)
        return cast("Plane", mask)

    def _update(self, change: Plane | None, scene: bool, time_s: float, unit: float) -> None:
        least = self.settings.least_area * unit * unit
        moved = change is not None and not scene and any(cv2.contourArea(one) >= least for one in outlines(change))
        self._moved.append((time_s, moved))
        limit_s = time_s - self.settings.window_s
        while len(self._moved) > 2 and self._moved[0][0] < limit_s:
            self._moved.popleft()
        changes = sum(moved for _, moved in self._moved)
        if changes > 1 and changes >= self.settings.confirm * len(self._moved):
            self._open_until_s = time_s + self.settings.open_s


def luma_plane(image: Image, shrink: int) -> Plane:
    """Return the luma of ``image`` (BGR), smaller by a whole factor.

    Grey first and a whole factor: shrinking colour by area at other factors alone costs 1.2 ms a frame.
    """
    grey = cast("Plane", cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    if shrink == 1:
        return grey
    size = (image.shape[1] // shrink, image.shape[0] // shrink)
    height, width = size[1] * shrink, size[0] * shrink
    return cast("Plane", cv2.resize(grey[:height, :width], size, interpolation=cv2.INTER_AREA))


def outlines(mask: Plane) -> list[NDArray[np.int32]]:
    """Return the outlines of what is set in ``mask``: a sixth of the cost of labelling its pixels."""
    if not cv2.countNonZero(mask):
        return []
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cast("list[NDArray[np.int32]]", list(found))


def _share_of_grid(change: Plane) -> float:
    """Return the share of grid cells in which more than a fifth of the pixels changed."""
    return float(np.mean(cv2.resize(change, GRID, interpolation=cv2.INTER_AREA) > 50))
