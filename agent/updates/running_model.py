"""Owns which model runs now: loading at the start, the hot swap between frames, and leaving a model that fails.

Refuses to judge a model (``proving`` does) and to write slots. Without any model the agent goes on watching.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from agent.runtimes.interpreters import NoRuntimeError
from agent.updates.lifecycle import (
    Damaged,
    Ended,
    Failed,
    Outcome,
    ProbationPassed,
    Started,
    Transition,
    TrialPassed,
)
from agent.updates.record import Phase, Slot, Trial
from agent.updates.slots import Slots
from agent.updates.starts import MOST as MOST_BAD_STARTS
from agent.updates.starts import StartCount
from agent.vision.pipeline import Model
from contract.errors import ReleaseError, StorageError
from contract.events import log_event

logger = logging.getLogger("agent.running")


class RunningModel:
    """The model in use, kept in step with the slots. ``offer`` is for the update's thread, the rest for the main one.

    ``use`` puts a model, or none, into the pipeline; ``load`` makes one from a slot's folder or raises
    ``ReleaseError``; ``told`` hears of every transition of the record; ``starts`` counts starts that ended badly.
    """

    def __init__(
        self,
        slots: Slots,
        *,
        use: Callable[[Model | None], None],
        load: Callable[[Path], Model],
        told: Callable[[Transition], None],
        starts: StartCount,
    ) -> None:
        self._slots = slots
        self._use = use
        self._load = load
        self._told = told
        self._starts = starts
        self._guard = threading.Lock()
        self._offered: tuple[Slot, Model] | None = None
        self._kept: dict[Slot, Model] = {}  # the committed model stays loaded during a trial: going back is instant
        self._postponed = False
        self.slot: Slot | None = None

    @property
    def trial(self) -> Trial | None:
        """The trial under way, when it is its model that runs."""
        trial = self._slots.record.trial
        return trial if trial and trial.slot is self.slot else None

    @property
    def model(self) -> Model | None:
        """The model in use."""
        return self._kept.get(self.slot) if self.slot else None

    def start(self) -> None:
        """Spend an attempt if a trial is under way, then load the model to run; what fails is left, as ``failed``."""
        try:
            transition = self._slots.apply(Started())
        except StorageError as error:
            # An attempt that cannot be counted must not be made: this run uses what is committed.
            log_event(logger, "trial.postponed", logging.ERROR, reason=error)
            self._postponed = True
            return self._switch_to(self._slots.record.active)
        if transition.outcome is Outcome.ROLLED_BACK:
            self._told(transition)
        self._switch_to(self._after_bad_starts())

    def healthy(self) -> None:
        """The run has lasted: earlier bad starts count no more."""
        self._starts.end()

    def ended(self) -> None:
        """The run ends in order: it is no bad start, and the attempt that a trial spent on it is given back."""
        self._starts.end()
        if self._slots.record.trial and not self._postponed:
            self._slots.settle(Ended())

    def _after_bad_starts(self) -> Slot | None:
        """Count this start of a committed release; return the slot to run, another one when too many ended badly."""
        record = self._slots.record
        held = record.held(record.active) if record.active else None
        if record.trial or held is None:
            return record.running  # a trial counts its own attempts
        bad = self._starts.begin(held.digest)
        if bad < MOST_BAD_STARTS:
            return record.running
        reason = f"the agent ended {bad} times in a row soon after it started release {held.version}"
        log_event(logger, "model.crash_loop", logging.ERROR, version=held.version, starts=bad)
        transition = self._slots.settle(Failed(reason))
        self._told(transition)
        return None if transition.outcome is Outcome.NO_MODEL else transition.record.running

    def offer(self, slot: Slot) -> None:
        """Load the model of a trial that has begun, and leave it for ``take``; a model that fails is rolled back."""
        try:
            model = self._load(self._slots.folder(slot))
        except ReleaseError as error:
            self._after_failure(slot, error)
            return
        with self._guard:
            self._offered = (slot, model)

    def take(self) -> None:
        """Swap to an offered model; called between two frames."""
        with self._guard:
            offered, self._offered = self._offered, None
        if offered:
            slot, model = offered
            self._kept[slot] = model
            self._set(slot)
            log_event(logger, "model.swapped", slot=slot)

    def failed(self, error: ReleaseError) -> None:
        """Leave the running model, which failed with ``error``, for the slot that the record now names, or none."""
        if self.slot is None:
            raise error  # no model runs, so none can have failed: a fault of ours
        self._kept.pop(self.slot, None)
        self._switch_to(self._after_failure(self.slot, error))

    def proved(self) -> None:
        """The running phase of the trial is passed: go on to the next, or commit."""
        trial = self.trial
        if trial is None:
            return
        first = trial.phase is Phase.TRIAL
        self._told(self._slots.settle(TrialPassed() if first else ProbationPassed()))
        if not first:
            self._kept = {slot: model for slot, model in self._kept.items() if slot is trial.slot}

    def _switch_to(self, slot: Slot | None) -> None:
        """Load and use the model of ``slot``; on failure the next one that the record names, at last none."""
        while slot is not None and slot not in self._kept:
            try:
                self._kept[slot] = self._load(self._slots.folder(slot))
            except ReleaseError as error:
                slot = self._after_failure(slot, error)
        self._set(slot)

    def _after_failure(self, slot: Slot, error: ReleaseError) -> Slot | None:
        """Record that the model of ``slot`` failed and return the slot to run next, or None.

        Files that changed on the disk, or a missing runtime, are not the release's fault, and a trial about to be
        swapped in is not to blame for the committed model.
        """
        log_event(logger, "model.failed", logging.ERROR, slot=slot, reason=error)
        if slot is not self._slots.record.running or isinstance(error, NoRuntimeError):
            return None
        problem = self._slots.problem(slot)
        if problem:
            log_event(logger, "slot.problem", logging.ERROR, problem=problem)
        transition = self._slots.settle(Damaged(slot) if problem else Failed(str(error)))
        self._told(transition)
        return None if transition.outcome is Outcome.NO_MODEL else transition.record.running

    def _set(self, slot: Slot | None) -> None:
        if slot is None:
            log_event(logger, "model.none", logging.WARNING, text="watching without naming")
        self.slot = slot
        self._use(self.model)
