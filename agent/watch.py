"""Owns the main loop: frame after frame through the pipeline, the hot swap between two of them, proving a trial.

Refuses to wait for anything but the camera. The watchdog is fed by what comes from the camera alone, frames or its
word that it is being begun anew: a loop that gets neither is stuck, whatever else of the program still runs.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.camera.frame import Frame
from agent.home.metrics import temperature_c
from agent.updates.proving import Proving, TrialSettings
from agent.updates.record import Phase
from agent.updates.running_model import RunningModel
from agent.vision.pipeline import FrameResult
from contract.errors import ReleaseError
from contract.events import log_event
from contract.messages import Metrics
from contract.sd_notify import notify, watchdog_interval_s

logger = logging.getLogger("agent.watch")
METRICS_S = 10.0


@dataclass
class _SinceReport:
    """What is counted between two reports of metrics."""

    frames: int = 0
    crops: int = 0
    busy_s: float = 0.0
    since_s: float = field(default_factory=time.monotonic)


class Watch:
    """Runs frames through ``step`` (``Pipeline.step``) until they end or ``ending`` says so."""

    def __init__(
        self,
        running: RunningModel,
        step: Callable[[Frame], FrameResult],
        settings: TrialSettings,
        *,
        on_motion: Callable[[bool], None],
        on_metrics: Callable[[Metrics], None],
        on_tick: Callable[[], None] = lambda: None,
        on_frame: Callable[[], None] = lambda: None,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._running = running
        self._step = step
        self._settings = settings
        self._on_motion = on_motion
        self._on_metrics = on_metrics
        self._on_tick = on_tick
        self._on_frame = on_frame
        self._paused = paused
        self._moving = False
        self._proving: tuple[tuple[str, Phase], Proving] | None = None
        self._since_report = _SinceReport()
        self._interval_s = watchdog_interval_s()
        self._fed_s: float | None = None
        self._crops = self._frames = 0

    def run(self, frames: Iterable[Frame | None], ending: Callable[[], bool] = lambda: False) -> None:
        """Watch until the frames end; None says that the camera gives none, and that time passes.

        Raises:
            KinwatchError: the camera failed.
        """
        for frame in frames:
            if frame is None:
                self._wait()
            else:
                self.frame(frame)
            if ending():
                return

    def _wait(self) -> None:
        """Do what must go on without frames; a camera that is begun anew is no hang of the agent."""
        self._tell_motion(False)
        self._feed()
        self._report()

    def frame(self, frame: Frame) -> None:
        """Take one frame through everything; the swap to an offered model comes before it, never within.

        While paused nobody is looked at and no trial goes on, but frames are counted and feed the watchdog.
        """
        self._running.take()
        self._on_frame()
        begin = time.monotonic()
        if self._paused():
            self._tell_motion(False)
        else:
            self._look(frame)
        self._since_report.busy_s += time.monotonic() - begin
        self._since_report.frames += 1
        self._frames += 1
        self._feed()
        self._report()

    def _look(self, frame: Frame) -> None:
        try:
            result = self._step(frame)
            if frame.live:  # a picture that is frozen or black proves nothing
                self._prove(frame, result.crops_classified)
        except ReleaseError as error:
            self._running.failed(error)
        else:
            self._since_report.crops += result.crops_classified
            self._crops += result.crops_classified
            self._tell_motion(result.motion)

    def _prove(self, frame: Frame, crops: int) -> None:
        """Count a good frame for the trial under way, running its model on the centre when nobody walks by."""
        trial, model = self._running.trial, self._running.model
        if trial is None or model is None:
            self._proving = None
            return
        key = (trial.digest, trial.phase)
        if self._proving is None or self._proving[0] != key:
            self._proving = (key, Proving(self._settings, trial.phase))
        proving = self._proving[1]
        exercise = not crops and proving.wants_exercise(frame.time_s)
        if exercise:
            model.judge(centre(frame.image))
        if proving.frame(frame.time_s, crops, exercised=exercise):
            self._running.proved()

    def _tell_motion(self, moving: bool) -> None:
        if moving != self._moving:
            self._moving = moving
            self._on_motion(moving)

    def _feed(self) -> None:
        """Tell the service manager that the loop runs, the first time and then as often as it wants to hear."""
        now = time.monotonic()
        if self._fed_s is None:
            notify("READY=1", "WATCHDOG=1")
            log_event(logger, "watch.ready")
        elif self._interval_s is None or now - self._fed_s < self._interval_s:
            return
        else:
            notify("WATCHDOG=1")
        self._fed_s = now

    def _report(self) -> None:
        elapsed_s = time.monotonic() - self._since_report.since_s
        if elapsed_s < METRICS_S:
            return
        counted, self._since_report = self._since_report, _SinceReport()
        self._on_tick()
        self._on_metrics(
            Metrics(
                fps=round(counted.frames / elapsed_s, 2),
                frame_ms=round(counted.busy_s / max(1, counted.frames) * 1000, 2),
                frames=self._frames,
                crops=self._crops,
                temperature_c=temperature_c(),
            )
        )


def centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle of ``image``, half as wide and half as high: a copy."""
    height, width = image.shape[:2]
    return np.ascontiguousarray(image[height // 4 : height - height // 4, width // 4 : width - width // 4])
