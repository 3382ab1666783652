"""Owns where something moves: boxes of a background model, for releases that bring no person detector.

Refuses to say what it is. A frame difference (``gate``) is cheap and forgets a light switch within frames, but sees
only the edges of a person; a KNN background model sees whole people, but fires for seconds after the light has
changed. So boxes come from the background model, and only while the gate is open and where the difference saw change.
When most of the picture changes at once (a switch, the camera was turned), the model is thrown away and built again.
"""

import logging
from collections import deque
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.vision.gate import KERNEL, Look, Plane, outlines
from contract.events import log_event
from contract.preprocess import Box

logger = logging.getLogger("agent.motion")


@dataclass(frozen=True)
class MotionSettings:
    """How moving things become boxes. Lengths are pixels of a grey picture that is 384 wide."""

    idle_s: float = 1.0  # with the gate shut, the background model is kept current this often
    live_s: float = 1.0  # a box needs change within this time ...
    live_share: float = 0.015  # ... in this share of its pixels, or it is a stain of the background model
    settle_s: float = 0.8  # without boxes after a scene change, while exposure settles
    blind_s: float = 10.0  # after so long without a look, say so
    least_area: int = 60
    least_height: int = 20
    least_width: int = 5
    join_gap: int = 4  # pieces of one person, nearer than this, are one box

    def __post_init__(self) -> None:
        """Refuse settings that can find nothing."""
        if min(self.idle_s, self.live_s, self.settle_s, self.blind_s) <= 0:
            raise ValueError("idle_s, live_s, settle_s and blind_s must be above 0")


class MotionDetector:
    """Finds boxes around what moves; every look of the gate must be given, in order."""

    def __init__(self, settings: MotionSettings | None = None) -> None:
        self.settings = settings or MotionSettings()
        self.blind_frames = 0
        self._start((0, 0))

    def _start(self, shape: tuple[int, ...]) -> None:
        """Forget everything: the start, or a camera that changed its resolution."""
        self._shape = shape
        self._changes: deque[tuple[float, Plane]] = deque()
        self._scene_s: float | None = None  # when the scene changed last, while that settles
        self._blind_since_s: float | None = None
        self._blind_told = False
        self._updated_s = 0.0
        self._background: cv2.BackgroundSubtractorKNN | None = None

    def find(self, look: Look) -> list[Box]:
        """Return the boxes (x, y, width, height in pixels of the frame) of what moves."""
        if look.plane.shape != self._shape:
            self._start(look.plane.shape)
        if look.change is None:
            return []
        self._changes.append((look.time_s, look.change))
        while self._changes[0][0] < look.time_s - self.settings.live_s:
            self._changes.popleft()
        if self._settling(look):
            return []
        if not look.open:
            if look.time_s - self._updated_s >= self.settings.idle_s:
                self._foreground(look)
            return []
        gap = round(self.settings.join_gap * look.unit)
        boxes = join_near(self._pieces(self._foreground(look), look.unit), gap)
        return [_to_frame(box, look.shrink) for box in boxes if self._large(box, look.unit) and self._live(box)]

    def _settling(self, look: Look) -> bool:
        """Return whether a scene change happened just now; at its end the background model is thrown away."""
        if look.scene:
            self._scene_s = look.time_s
        if self._scene_s is None:
            self._blind_since_s, self._blind_told = None, False
            return False
        self._count_blind(look.time_s)
        if look.time_s - self._scene_s >= self.settings.settle_s:
            self._scene_s, self._background = None, None
            self._changes.clear()
        return True

    def _count_blind(self, time_s: float) -> None:
        """A camera that shakes in the wind is blind for good, in silence but for this event."""
        self.blind_frames += 1
        self._blind_since_s = time_s if self._blind_since_s is None else self._blind_since_s
        if time_s - self._blind_since_s >= self.settings.blind_s and not self._blind_told:
            self._blind_told = True
            seconds = time_s - self._blind_since_s
            log_event(logger, "motion.blind", logging.WARNING, seconds=seconds, text="does the camera shake?")

    def _foreground(self, look: Look) -> Plane:
        self._updated_s = look.time_s
        if self._background is None:
            # Shadow detection off: it costs time and marks dark trousers as shadow.
            self._background = cv2.createBackgroundSubtractorKNN(history=500, dist2Threshold=400, detectShadows=False)
            for _ in range(8):  # without this a new model calls everything foreground for seconds
                self._background.apply(look.plane, learningRate=0.5)
        mask = self._background.apply(look.plane)
        return cast("Plane", cv2.dilate(cv2.medianBlur(mask, 3), KERNEL))

    def _pieces(self, mask: Plane, unit: float) -> list[Box]:
        least = self.settings.least_area * unit * unit
        return [_around_outline(one) for one in outlines(mask) if cv2.contourArea(one) >= least]

    def _large(self, box: Box, unit: float) -> bool:
        return box[2] >= self.settings.least_width * unit and box[3] >= self.settings.least_height * unit

    def _live(self, box: Box) -> bool:
        """Return whether enough pixels of ``box`` changed lately."""
        x, y, width, height = box
        union = np.bitwise_or.reduce([change[y : y + height, x : x + width] for _, change in self._changes])
        return cv2.countNonZero(union) >= self.settings.live_share * width * height


def _around_outline(outline: NDArray[np.int32]) -> Box:
    x, y, width, height = cv2.boundingRect(outline)
    return int(x), int(y), int(width), int(height)


def _to_frame(box: Box, shrink: int) -> Box:
    x, y, width, height = (value * shrink for value in box)
    return x, y, width, height


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
