"""Owns when a release on trial has worked enough; pure: it is told of frames and says pass or not yet.

Refuses to run a model and to look at a clock: a frame's own time counts, so that a stalled camera proves nothing.
"""

from dataclasses import dataclass

from agent.updates.record import Phase

EXERCISE_S = 0.5  # a model nobody walks past is run on the frame's centre this often; the promise is once a second
MOST_GAP_S = 2.0  # a longer gap between frames is a stall and counts for nothing


@dataclass(frozen=True)
class TrialSettings:
    """How a release proves itself; see ``Proving``."""

    attempts: int = 3  # starts, the hot swap included
    crops: int = 20
    seconds: float = 60.0
    probation_s: float = 600.0
    selftest_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse settings under which nothing could pass, or nothing fail."""
        if self.attempts < 1 or self.crops < 1:
            raise ValueError("attempts and crops must be at least 1")
        if self.seconds < 0 or self.probation_s < 0 or self.selftest_s < 1:
            raise ValueError("seconds and probation_s must not be below 0, selftest_s not below 1")


class Proving:
    """Counts for one phase of one trial.

    A trial passes after ``crops`` classified crops of people, or after ``seconds`` of advancing frames in which the
    model was run at least once a second. Probation passes after ``probation_s`` of advancing frames.
    """

    def __init__(self, settings: TrialSettings, phase: Phase) -> None:
        self._settings = settings
        self._phase = phase
        self._crops = 0
        self._advanced_s = 0.0
        self._last_s: float | None = None
        self._last_run_s: float | None = None

    def wants_exercise(self, time_s: float) -> bool:
        """Return whether the model should be run on this frame although nobody walks by."""
        if self._phase is not Phase.TRIAL:
            return False
        return self._last_run_s is None or time_s - self._last_run_s >= EXERCISE_S

    def frame(self, time_s: float, crops: int, *, exercised: bool) -> bool:
        """Count one frame that went well; tell whether the phase is passed.

        Args:
            time_s: the frame's time, monotonic.
            crops: how many crops of it were classified.
            exercised: whether the model was run on its centre.
        """
        gap_s = 0.0 if self._last_s is None else time_s - self._last_s
        self._last_s = time_s
        if 0 <= gap_s <= MOST_GAP_S:
            self._advanced_s += gap_s
        if crops or exercised:
            self._last_run_s = time_s
        self._crops += crops
        if self._phase is Phase.PROBATION:
            return self._advanced_s >= self._settings.probation_s
        enough_time = self._last_run_s is not None and self._advanced_s >= self._settings.seconds
        return self._crops >= self._settings.crops or enough_time
