"""Owns where something moves in a frame: gated frame difference in front of a background model. Refuses to say what.

Two detectors, each for what it is good at. A frame difference is cheap and forgets a light switch within frames, but
sees only the edges of a person; a KNN background model sees whole people, but fires for seconds after the light has
changed. So the difference is a gate: boxes come from the background model, and only while the gate is open and where
the difference saw change. When most of the picture changes at once (a switch, the camera was turned), the background
model is thrown away and built again. The figures are measured: docs/vision.md.
"""

import logging
from collections import deque
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError
from contract.events import log_event
from contract.preprocess import Box, Image

logger = logging.getLogger("agent.motion")

Plane = NDArray[np.uint8]
KERNEL = np.ones((3, 3), np.uint8)
GRID = (8, 6)  # columns and rows of the coarse grid that tells a scene change from motion


@dataclass(frozen=True)
class MotionSettings:
    """How motion is found. Lengths are pixels of the luma plane, which is about ``plane_width`` wide."""

    plane_width: int = 384
    lag: int = 2  # frames between the two planes of a difference; 1 misses slow walkers
    threshold: int = 14  # grey levels; camera noise stays below
    dilate: int = 2  # passes of a 3x3 dilation, which joins the two edges of a limb
    confirm: int = 3  # frames with change ...
    window: int = 5  # ... among this many, to open the gate: one flicker opens nothing
    open_frames: int = 30  # the gate stays open this long after the last confirmed change
    idle_every: int = 10  # with the gate shut, every n-th frame keeps the background model current
    live_frames: int = 10  # a box needs change within this many frames ...
    live_share: float = 0.015  # ... in this share of its pixels, or it is a stain of the background model
    scene_share: float = 0.6  # share of grid cells that change at once in a scene change
    settle_frames: int = 8  # frames without boxes after a scene change, while exposure settles
    blind_frames: int = 100  # after so many such frames in a row, say so
    least_area: int = 60
    least_height: int = 20
    least_width: int = 5
    join_gap: int = 4  # pieces of one person, nearer than this, are one box

    def __post_init__(self) -> None:
        """Refuse settings that can find nothing."""
        if min(self.plane_width, self.lag, self.idle_every, self.live_frames, self.window, self.settle_frames) < 1:
            raise ValueError("plane_width, lag, window, idle_every, live_frames and settle_frames must be at least 1")
        if not 1 <= self.confirm <= self.window:
            raise ValueError("confirm must be from 1 to window")
        if not 0 < self.threshold < 255 or not 0 < self.scene_share <= 1:
            raise ValueError("threshold must be from 1 to 254 and scene_share above 0, at most 1")


class MotionDetector:
    """Finds boxes around what moves, frame by frame; every frame must be given, in order."""

    def __init__(self, settings: MotionSettings | None = None) -> None:
        self.settings = settings or MotionSettings()
        self.blind_frames = 0
        self._start((0, 0))

    def _start(self, shape: tuple[int, ...]) -> None:
        """Forget everything: the start, or a camera that changed its resolution."""
        settings = self.settings
        self._shape = shape
        self._planes: deque[Plane] = deque(maxlen=settings.lag + 1)
        self._changes: deque[Plane] = deque(maxlen=settings.live_frames)
        self._moved: deque[bool] = deque(maxlen=settings.window)
        self._open_left = 0
        self._settle_left = 0
        self._blind_run = 0
        self._frames = 0
        self._background: cv2.BackgroundSubtractorKNN | None = None

    def find(self, image: Image) -> list[Box]:
        """Return the boxes (x, y, width, height in pixels of the frame) of what moves in ``image``.

        Args:
            image: height x width x 3, uint8, BGR.

        Raises:
            InputError: no such image.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"a frame must be height x width x 3 of uint8, not {image.shape} of {image.dtype}")
        if image.shape != self._shape:
            self._start(image.shape)
        shrink = max(1, round(image.shape[1] / self.settings.plane_width))
        return [self._to_frame(box, shrink) for box in self._find(luma_plane(image, shrink))]

    def _find(self, plane: Plane) -> list[Box]:
        self._frames += 1
        self._planes.append(plane)
        if len(self._planes) <= self.settings.lag:
            return []
        change = self._difference(self._planes[0], plane)
        self._changes.append(change)
        if self._settling(change):
            return []
        self._update_gate(change)
        if not self._open_left:
            if self._frames % self.settings.idle_every == 0:
                self._foreground(plane)
            return []
        boxes = join_near(self._pieces(self._foreground(plane)), self.settings.join_gap)
        return [box for box in boxes if self._big_enough(box) and self._live(box)]

    def _difference(self, before: Plane, after: Plane) -> Plane:
        """Return 255 where two planes differ by more than the threshold, 0 elsewhere."""
        difference = cv2.absdiff(before, after)
        _, mask = cv2.threshold(difference, self.settings.threshold, 255, cv2.THRESH_BINARY)
        if cv2.countNonZero(mask):  # nothing to dilate in most frames of an empty room
            mask = cv2.dilate(mask, KERNEL, iterations=self.settings.dilate)
        return cast("Plane", mask)

    def _settling(self, change: Plane) -> bool:
        """Return whether a scene change happened just now; at its end the background model is thrown away."""
        if _share_of_grid(change) >= self.settings.scene_share:
            self._settle_left = self.settings.settle_frames + 1
        if not self._settle_left:
            self._blind_run = 0
            return False
        self._settle_left -= 1
        self._count_blind()
        self._moved.append(False)
        self._open_left = 0
        if not self._settle_left:
            self._background = None
            self._changes.clear()
        return True

    def _count_blind(self) -> None:
        """A camera that shakes in the wind is blind for good, in silence but for this event."""
        self.blind_frames += 1
        self._blind_run += 1
        if self._blind_run == self.settings.blind_frames:
            log_event(logger, "motion.blind", logging.WARNING, frames=self._blind_run, text="does the camera shake?")

    def _update_gate(self, change: Plane) -> None:
        self._moved.append(any(self._boxed(outline)[1] for outline in _outlines(change)))
        if sum(self._moved) >= self.settings.confirm:
            self._open_left = self.settings.open_frames
        elif self._open_left:
            self._open_left -= 1

    def _foreground(self, plane: Plane) -> Plane:
        if self._background is None:
            # Shadow detection off: it costs time and marks dark trousers as shadow.
            self._background = cv2.createBackgroundSubtractorKNN(history=500, dist2Threshold=400, detectShadows=False)
            for _ in range(8):  # without this a new model calls everything foreground for seconds
                self._background.apply(plane, learningRate=0.5)
        mask = self._background.apply(plane)
        return cast("Plane", cv2.dilate(cv2.medianBlur(mask, 3), KERNEL))

    def _pieces(self, mask: Plane) -> list[Box]:
        boxed = (self._boxed(outline) for outline in _outlines(mask))
        return [box for box, large in boxed if large]

    def _boxed(self, outline: NDArray[np.int32]) -> tuple[Box, bool]:
        """Return the box around an outline, and whether it encloses ``least_area`` pixels."""
        x, y, width, height = cv2.boundingRect(outline)
        large = width * height >= self.settings.least_area and cv2.contourArea(outline) >= self.settings.least_area
        return (int(x), int(y), int(width), int(height)), large

    def _big_enough(self, box: Box) -> bool:
        return box[2] >= self.settings.least_width and box[3] >= self.settings.least_height

    def _live(self, box: Box) -> bool:
        """Return whether enough pixels of ``box`` changed lately."""
        x, y, width, height = box
        union = np.bitwise_or.reduce([change[y : y + height, x : x + width] for change in self._changes])
        return cv2.countNonZero(union) >= self.settings.live_share * width * height

    def _to_frame(self, box: Box, shrink: int) -> Box:
        x, y, width, height = (value * shrink for value in box)
        return x, y, width, height


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


def _share_of_grid(change: Plane) -> float:
    """Return the share of grid cells in which more than a fifth of the pixels changed."""
    return float(np.mean(cv2.resize(change, GRID, interpolation=cv2.INTER_AREA) > 50))


def join_near(boxes: list[Box], gap: int) -> list[Box]:
    """Join boxes that are pieces of one thing, until no two are: the order of ``boxes`` does not matter.

    A person falls apart from top to bottom (a belt, a coat of the colour of the street) far more often than from
    left to right, and people walk side by side: so pieces one above the other join over ``gap`` pixels, pieces
    side by side only where they overlap.
    """
    joined: list[Box] = []
    for box in boxes:
        near = next((other for other in joined if _belong(box, other, gap)), None)
        while near is not None:
            joined.remove(near)
            box = _around(box, near)
            near = next((other for other in joined if _belong(box, other, gap)), None)
        joined.append(box)
    return sorted(joined)


def _belong(first: Box, second: Box, gap: int) -> bool:
    shared = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    apart = max(first[1], second[1]) - min(first[1] + first[3], second[1] + second[3])
    return 2 * shared >= min(first[2], second[2]) and apart < gap


def _around(first: Box, second: Box) -> Box:
    left, top = min(first[0], second[0]), min(first[1], second[1])
    right = max(first[0] + first[2], second[0] + second[2])
    bottom = max(first[1] + first[3], second[1] + second[3])
    return left, top, right - left, bottom - top


def _outlines(mask: Plane) -> list[NDArray[np.int32]]:
    """Return the outlines of what is set in ``mask``: a sixth of the cost of labelling its pixels."""
    if not cv2.countNonZero(mask):
        return []
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cast("list[NDArray[np.int32]]", list(found))
