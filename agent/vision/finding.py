"""Owns the two ways of finding people in a frame, behind one interface. Refuses to follow them.

A release with a detector finds bodies, whatever moves; of one without, everything large that moves is taken for a
person, as it was before there was a detector.
"""

from collections.abc import Sequence
from typing import Protocol

from agent.camera.frame import Frame
from agent.vision.bodies import colours_of, is_whole
from agent.vision.cadence import DetectionSettings, is_due
from agent.vision.gate import Look
from agent.vision.motion import MotionDetector, MotionSettings
from agent.vision.tracking import Observation, TrackSettings
from contract.detection.runner import Detection
from contract.manifest import Detector
from contract.preprocess import Image

# Boxes of motion come at every look, jump when people meet, and stay away for seconds when somebody stands. They tell
# no colours apart, so that only what fits well goes on.
MOVING_TRACKS = TrackSettings(
    least_hits=5,
    memory_s=3.0,
    still_memory_s=3.0,
    tentative_s=0.35,
    least_overlap=0.5,
    reach=0.3,
    reach_per_s=0.0,
    most_reach=0.3,
    most_jump=1.25,
)


class PersonDetector(Protocol):
    """What is needed of ``contract.detection.runner.DetectorRunner``."""

    @property
    def detector(self) -> Detector:
        """What the manifest says of it."""

    def find(self, frame: Image) -> list[Detection]:
        """Return the people in a BGR frame, those of the manifest's ``go_on`` and more; ReleaseError on failure."""


class Finder(Protocol):
    """Finds what tracks are made of."""

    tracking: TrackSettings

    def find(self, frame: Frame, look: Look | None, *, present: bool) -> list[Observation] | None:
        """Return who is in ``frame``, None when it was not looked at.

        Args:
            look: of the gate; None when the frame came too soon after the last look.
            present: a track lives.
        """

    def reset(self) -> None:
        """Forget what was seen: the next frame is of another time or place."""


class MovingThings:
    """What moves."""

    def __init__(self, settings: MotionSettings) -> None:
        self.tracking = MOVING_TRACKS
        self._settings = settings
        self.reset()

    @property
    def blind_frames(self) -> int:
        """In how many frames nothing could be found, because all of the picture changed."""
        return self._motion.blind_frames

    def find(self, frame: Frame, look: Look | None, *, present: bool) -> list[Observation] | None:
        """Return the boxes of what moves, at each look of the gate."""
        del frame, present
        return None if look is None else [Observation(box) for box in self._motion.find(look)]

    def reset(self) -> None:
        """Begin a new background."""
        self._motion = MotionDetector(self._settings)


class DetectedPeople:
    """What the detector of the release in use takes for people."""

    def __init__(self, settings: DetectionSettings, tracking: TrackSettings) -> None:
        self.tracking = tracking
        self._settings = settings
        self._detector: PersonDetector | None = None
        self._looked_s: float | None = None
        self._open = False

    def use(self, detector: PersonDetector) -> None:
        """Find with ``detector`` from now on; a new one at once, so that a fault of it does not wait."""
        if detector is not self._detector:
            self._detector = detector
            self.reset()

    def find(self, frame: Frame, look: Look | None, *, present: bool) -> list[Observation] | None:
        """Return whom the detector finds, as often as the room needs it.

        Raises:
            ReleaseError: the detector failed.
        """
        assert self._detector is not None
        if look is not None:
            self._open = look.open or look.scene  # somebody may have switched on the light
        since_s = None if self._looked_s is None else frame.time_s - self._looked_s
        if not is_due(self._settings, since_s, moving=self._open, present=present):
            return None
        self._looked_s = frame.time_s
        found = self._detector.find(frame.image)
        return self._observations(frame.image, found, self._detector.detector.begin)

    def _observations(self, image: Image, found: Sequence[Detection], begin: float) -> list[Observation]:
        least = self._settings.least_height * image.shape[0]
        return [
            Observation(one.box, one.score >= begin, is_whole(one.box, image.shape), colours_of(image, one.box))
            for one in found
            if one.box[3] >= least
        ]

    def reset(self) -> None:
        """Look at the next frame."""
        self._looked_s, self._open = None, False
