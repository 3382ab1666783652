"""Owns whether pictures show something, and something of now; pure: it is told of pictures and their times.

A sensor's noise changes every picture, so one that stays the same to the bit comes from a camera, a converter or a
decoder that hangs. A picture without any difference in it is a lens cap, a dead sensor, or memory never written.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from contract.preprocess import Image

STEP = 8  # every eighth row and column is looked at: 30,000 pixels of a Full HD picture
EVERY_S = 0.25
# A picture that has not changed for so long is none of now: strong compression repeats one for a second.
FRESH_S = 2.0
LEAST_SPREAD = 2.0  # standard deviation in grey levels; a dark room with a sensor's noise has more


class PictureState(StrEnum):
    """What the last pictures were."""

    LIVE = "live"
    FROZEN = "frozen"
    BLACK = "black"


class PictureCheck:
    """Looks at one picture after another; ``after_s``: how long one must be the same, or black, to be called so."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._seen: NDArray[np.uint8] | None = None
        self._black = False
        self._changed_s: float | None = None  # None: never seen to change
        self._good_s: float | None = None
        self._looked_s = 0.0

    def look(self, image: Image, time_s: float) -> None:
        """Take the next picture."""
        if self._good_s is None:
            self._good_s = self._looked_s = time_s - EVERY_S
        gap_s = time_s - self._looked_s
        if gap_s < EVERY_S:
            return
        if gap_s > FRESH_S:
            self._good_s += gap_s  # no picture is another matter than a bad one
        self._looked_s = time_s
        seen = _thinned(image)
        self._black = float(seen.std(axis=(0, 1)).max()) < LEAST_SPREAD  # a colour alone shows nothing either
        if self._seen is not None and not np.array_equal(seen, self._seen):
            self._changed_s = time_s
            self._good_s = self._good_s if self._black else time_s
        self._seen = seen

    def live(self, time_s: float) -> bool:
        """Return whether the last picture shows something, and was seen to change a moment ago."""
        return not self._black and self._changed_s is not None and time_s - self._changed_s <= FRESH_S

    @property
    def state(self) -> PictureState:
        """What the pictures were for long enough to be told."""
        if self._good_s is None or self._looked_s - self._good_s < self._after_s:
            return PictureState.LIVE
        return PictureState.BLACK if self._black else PictureState.FROZEN


def _thinned(image: Image) -> NDArray[np.uint8]:
    step = max(1, min(STEP, *(side // STEP for side in image.shape[:2])))
    return image[step // 2 :: step, step // 2 :: step].copy()
