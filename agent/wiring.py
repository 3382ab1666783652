"""Owns how the parts of a running agent hang together: who tells whom. Refuses to do any of their work.

Threads: the main one watches; one updates; paho's talks to the broker; the camera's reads. What they share is the
slots (locked inside), the reporter (locked inside) and one offered model (locked inside ``RunningModel``).
"""

import time
from typing import Any

from agent.camera.camera import Camera
from agent.config import AgentConfig
from agent.home.metrics import StageTimes
from agent.home.reporter import Reporter
from agent.updates.installer import Updater
from agent.updates.lifecycle import Transition
from agent.updates.running_model import RunningModel
from agent.updates.schedule import UpdateThread
from agent.updates.slots import Slots
from agent.updates.starts import HEALTHY_S, StartCount
from agent.vision.classifier import load_classifier
from agent.vision.pipeline import Pipeline, PipelineSettings
from agent.vision.sightings import Sighting, SightingLog
from agent.watch import Watch
from contract.errors import InputError, PeerError
from contract.topics import edge_release_topic


class Agent:
    """A running agent, made of its parts; ``watch`` runs it."""

    def __init__(self, config: AgentConfig, slots: Slots, updater: Updater) -> None:
        self.config = config
        self.slots = slots
        self.updater = updater
        notices = edge_release_topic(config.relay.name, config.model.name, config.model.channel)
        self.reporter = Reporter(config.mqtt.address(), config.id, notices)
        self.log = SightingLog(config.data)
        settings = PipelineSettings(config.id, config.motion, config.tracking, config.consensus)
        self.pipeline = Pipeline(settings, self._sighted)
        self.running = RunningModel(
            slots, use=self.pipeline.use, load=load_classifier, told=self._moved, starts=StartCount(config.data)
        )
        self.updating = UpdateThread(updater, config.relay.poll_s)
        self._times = StageTimes()
        self._started_s = time.monotonic()
        updater.activate = self.running.offer
        updater.progress.tell = self.reporter.update
        self.reporter.on_notice = self.updating.notice

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
            on_metrics=lambda fields: self._metrics(fields, camera),
            on_tick=self._tick,
        )
        self.reporter.start()
        try:
            self.running.start()
            self.updating.start()
            self._run(watch, camera)
        finally:
            self.pipeline.finish()
            self.updating.end()
            self.reporter.stop()

    def _run(self, watch: Watch, camera: Camera) -> None:
        """Watch, and tell an end in order, a camera that failed included, from a fault that a model may be behind."""
        try:
            watch.run(camera)
        except (InputError, PeerError):
            self.running.ended()
            raise
        self.running.ended()

    def _sighted(self, sighting: Sighting) -> None:
        self.log.write(sighting)
        self.reporter.sighting(sighting.payload())

    def _moved(self, transition: Transition) -> None:
        self.updater.progress.moved(transition)
        self.updating.wake()

    def _tick(self) -> None:
        self.slots.flush()
        if time.monotonic() - self._started_s > HEALTHY_S:
            self.running.healthy()

    def _metrics(self, fields: dict[str, Any], camera: Camera) -> None:
        slot = self.running.slot
        held = self.slots.record.held(slot) if slot else None
        more = {"version": held.version if held else None, "slot": slot, "dropped": camera.dropped}
        self.reporter.metrics({**fields, **self._times.take(self.pipeline.counters.fields()), **more})
