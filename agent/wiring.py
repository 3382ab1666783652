"""Owns how the parts of the agent hang together: who tells whom. Refuses to do any of their work.

Parts tell each other in a circle (a notice starts an update, an update swaps the model, its trial is told of): each
gets its callbacks when it is made, and where the circle closes they are methods of ``Agent``, bound late.

Threads: the main one watches; one updates; paho's talks to the broker; the camera's reads; one looks after an
accelerator; two small ones answer `agent status` and wait for signals. What they share is the slots, the reporter and
the accelerator (locked inside), and one offered model (locked inside ``RunningModel``).
"""

import datetime as dt
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.camera.camera import Camera
from agent.clock import is_set
from agent.config import AgentConfig
from agent.home.metrics import CameraRate, StageTimes
from agent.home.reporter import Reporter
from agent.live import Live
from agent.pause import PauseSwitch
from agent.runtimes.accelerator import Accelerator
from agent.updates.download import Downloads
from agent.updates.installer import Installer
from agent.updates.lifecycle import Transition
from agent.updates.plan import Policy
from agent.updates.progress import Progress
from agent.updates.record import Phase, Slot
from agent.updates.running_model import RunningModel
from agent.updates.schedule import UpdateSchedule
from agent.updates.selftest import run_selftest
from agent.updates.slots import Slots
from agent.updates.starts import HEALTHY_S, StartCount
from agent.vision.accelerated import AcceleratedModel, AcceleratedParts, job_of
from agent.vision.classifier import load_model
from agent.vision.pipeline import Model, Pipeline
from agent.vision.sightings import SightingLog
from agent.vision.zones import masked
from agent.watch import Watch
from contract.errors import InputError, PeerError
from contract.messages import Metrics, Sighting
from contract.release import DEVICE_HEADER
from contract.topics import edge_release_topic
from contract.trust import TrustedSite


def make_installer(
    config: AgentConfig,
    slots: Slots,
    progress: Progress,
    *,
    wait: Callable[[float], bool],
    hot: bool,
    on_trial: Callable[[Slot], None] = lambda slot: None,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Installer:
    """Return the installer of this device; ``wait`` as ``Downloads`` takes it, the rest as ``Installer`` does."""
    headers = {DEVICE_HEADER: config.id}
    return Installer(
        slots=slots,
        site=TrustedSite(config.relay.url, config.relay.root, config.data / "trust", headers=headers),
        downloads=Downloads(config.data / "downloads", config.relay.url, wait=wait, headers=headers),
        policy=Policy(config.model.name, config.id),
        channel=config.model.channel,
        attempts=config.trial.attempts,
        progress=progress,
        hot=hot,
        self_test=partial(run_selftest, time_limit_s=config.trial.selftest_s),
        on_trial=on_trial,
        on_bytes=on_bytes,
    )


def _make_reporter(config: AgentConfig) -> Reporter:
    notices = edge_release_topic(config.relay.name, config.model.name, config.model.channel)
    return Reporter(config.mqtt.address(), config.id, notices)


class Agent:
    """A running agent, made of its parts; ``watch`` runs it."""

    def __init__(self, config: AgentConfig, slots: Slots, ending: threading.Event) -> None:
        """Make the parts; ``ending`` ends the waits of an update."""
        self.config = config
        self.slots = slots
        self.reporter = _make_reporter(config)
        self.log = SightingLog(config.data)
        self.pipeline = Pipeline(config.id, config, self._sighted)
        self.progress = Progress(config.data, self.reporter.update)
        self.accelerator: Accelerator[AcceleratedParts] | None = None
        if config.runtime.has_accelerator:
            self.accelerator = Accelerator(config.runtime)
        self.running = RunningModel(
            slots, use=self._use, load=self._load, told=self._moved, starts=StartCount(config.data)
        )
        installer = make_installer(
            config, slots, self.progress, wait=ending.wait, hot=True, on_trial=self.running.offer
        )
        self.schedule = UpdateSchedule(installer, config.relay.poll_s)
        self._times = StageTimes()
        self._camera_rate = CameraRate()
        self._started_s = time.monotonic()
        self._switch = PauseSwitch(config.data)
        self._paused = False
        self._live = Live(config.data, config.camera.stalled_s, lambda: self._paused, self._accelerator_status)

    def watch(self, camera: Camera) -> None:
        """Watch until the camera ends.

        Raises:
            KinwatchError: the camera failed.
        """
        watch = Watch(
            self.running,
            self.pipeline.step,
            self.config.trial,
            on_motion=self.reporter.motion,
            on_metrics=lambda metrics: self._metrics(metrics, camera),
            on_tick=self._tick,
            on_frame=self._live.frame,
            paused=self.paused,
        )
        self.reporter.start(self.schedule.notice)
        try:
            with self._live, self.accelerator or nullcontext():
                self.running.start()
                self.schedule.start()
                self._run(watch, camera)
        finally:
            self.pipeline.finish()
            self.schedule.end()
            self.reporter.stop()

    def _run(self, watch: Watch, camera: Camera) -> None:
        """Watch, and tell an end in order, a camera that failed included, from a fault that a model may be behind."""
        try:
            watch.run(masked(camera.frames_or_waits(), self.config.masks))
        except (InputError, PeerError):
            self.running.ended()
            raise
        self.running.ended()

    def paused(self) -> bool:
        """Return whether nobody is to be looked at now; who was being followed is decided first.

        A person wants it so, or it is outside of the hours of the schedule, which are those of the clock on the wall.
        """
        now = dt.datetime.now().astimezone().time()
        paused = self._switch.paused() or not self.config.schedule.cover(now)
        if paused and not self._paused:
            self.pipeline.rest()
        self._paused = paused
        return paused

    def _use(self, model: Model | None) -> None:
        if self.accelerator is not None:
            self.accelerator.serve(None)  # until the model in use asks for it
        self.pipeline.use(model, self.running.slot)

    def _load(self, folder: Path) -> Model:
        model = load_model(folder)
        job = job_of(folder, model.manifest) if self.accelerator else None
        if self.accelerator is None or job is None:
            return model
        return AcceleratedModel(model, job, self.accelerator, self._may_accelerate)

    def _may_accelerate(self) -> bool:
        """Return whether the model in use has proved itself on the processor, which it must be able to go back to."""
        trial = self.running.trial
        return trial is None or trial.phase is not Phase.TRIAL

    def _accelerator_status(self) -> dict[str, Any] | None:
        return self.accelerator.status() if self.accelerator else None

    def _sighted(self, sighting: Sighting) -> None:
        if not is_set(time.time()):
            sighting = replace(sighting, clock_set=False)
        self._live.sighted(sighting)
        self.log.write(sighting)
        self.reporter.sighting(sighting)

    def _moved(self, transition: Transition) -> None:
        self.progress.moved(transition)
        self.schedule.wake()

    def _tick(self) -> None:
        self.slots.flush()
        if time.monotonic() - self._started_s > HEALTHY_S:
            self.running.healthy()

    def _metrics(self, metrics: Metrics, camera: Camera) -> None:
        slot = self.running.slot
        held = self.slots.record.held(slot) if slot else None
        metrics = self._times.add(metrics, self.pipeline.counters.fields())
        version = held.version if held else None
        told = self._accelerator_status() or {}
        metrics = replace(metrics, accelerator=told.get("state"), accelerator_faults=told.get("faults"))
        health = self._camera_rate.health(camera)
        self.reporter.metrics(replace(metrics, version=version, slot=slot, dropped=camera.dropped, camera=health))
