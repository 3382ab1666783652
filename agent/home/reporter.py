"""Owns what the agent says over MQTT (status, update, metrics, motion, sightings) and hears there: release notices.

Refuses to hold up the camera: every call returns at once, and a broker that is down, at the start or later, costs one
log line an outage. What is retained is kept as its latest value and said again after a reconnect; sightings wait in a
bounded queue, and the oldest go first.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode

from agent.home.mqtt_thread import OwnedClient
from contract import topics
from contract.broker import KEEPALIVE_S, BrokerAddress, make_client
from contract.errors import InputError
from contract.events import log_event
from contract.messages import DeviceStatus, Metrics, Motion, Presence, ReleaseNotice, Sighting, UpdateStatus

logger = logging.getLogger("agent.reporter")
MOST_WAITING = 200
LONGEST_RECONNECT_S = 30
STOP_LIMIT_S = 2.0
ONLINE, OFFLINE = DeviceStatus(Presence.ONLINE).encode(), DeviceStatus(Presence.OFFLINE).encode()


class Reporter:
    """Talks to the broker from a thread of its own; all methods may be called from any thread.

    ``notice_topic`` is where the relay tells of releases.
    """

    def __init__(self, broker: BrokerAddress, device: str, notice_topic: str) -> None:
        self._broker = broker
        self._device = device
        self._notice_topic = notice_topic
        self._on_notice: Callable[[ReleaseNotice], None] = lambda notice: None
        self._guard = threading.RLock()
        self._retained: dict[str, bytes] = {}
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MOST_WAITING)
        self._connected = False
        self._outage_told = False
        self.dropped = 0
        self._client = self._make_client()

    def _make_client(self) -> mqtt.Client:
        client = make_client(self._broker, f"kinwatch-{self._device}", partial(OwnedClient, self._on_fault))
        client.will_set(topics.status_topic(self._device), OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(1, LONGEST_RECONNECT_S)
        client.max_queued_messages_set(MOST_WAITING)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def start(self, on_notice: Callable[[ReleaseNotice], None]) -> None:
        """Begin to connect, and go on trying; never waits for the broker. ``on_notice`` gets each notice."""
        self._on_notice = on_notice
        self._client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Say that the agent is offline, where a broker is there to hear it, and end."""
        with self._guard:
            connected = self._connected
        if connected:
            last = self._client.publish(topics.status_topic(self._device), OFFLINE, qos=1, retain=True)
            limit = time.monotonic() + STOP_LIMIT_S
            while not last.is_published() and self._connected and time.monotonic() < limit:
                time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()

    def update(self, status: UpdateStatus) -> None:
        """Say where the update stands (retained)."""
        self._retain(topics.update_topic(self._device), status.encode())

    def metrics(self, metrics: Metrics) -> None:
        """Say the counters (retained)."""
        self._retain(topics.metrics_topic(self._device), metrics.encode())

    def sighting(self, sighting: Sighting) -> None:
        """Say who was seen; stays at home."""
        self._send(topics.home_topic(self._device, "sightings"), sighting.encode())

    def motion(self, moving: bool) -> None:
        """Say that motion began or ended; stays at home. Not kept for later: by then it is no news."""
        topic, payload = topics.home_topic(self._device, "motion"), Motion(moving).encode()
        with self._guard:
            if self._connected:
                self._publish(topic, payload)

    def _retain(self, topic: str, payload: bytes) -> None:
        with self._guard:
            self._retained[topic] = payload
            if self._connected:
                self._publish(topic, payload, retain=True)

    def _send(self, topic: str, payload: bytes) -> None:
        with self._guard:
            if self._connected:
                self._publish(topic, payload)
                return
            self.dropped += len(self._waiting) == MOST_WAITING
            self._waiting.append((topic, payload))

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if self._client.publish(topic, payload, qos=1, retain=retain).rc == mqtt.MQTT_ERR_QUEUE_SIZE:
            self.dropped += 1  # connected, but the other side has not read for a long time

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._tell_outage(str(reason))
            return
        client.subscribe(self._notice_topic, qos=1)

    def _on_subscribe(self, client: mqtt.Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        """Say what is kept, but only now: what an outage cut off, older news, paho repeats after ``on_connect``."""
        with self._guard:
            self._connected, self._outage_told = True, False
            self._publish(topics.status_topic(self._device), ONLINE, retain=True)
            for topic, payload in self._retained.items():
                self._publish(topic, payload, retain=True)
            while self._waiting:
                self._publish(*self._waiting.popleft())
        log_event(logger, "broker.connected", host=self._broker.host, port=self._broker.port)

    def _on_connect_fail(self, client: mqtt.Client, data: Any) -> None:
        self._tell_outage("no connection")

    def _on_disconnect(self, client: mqtt.Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        with self._guard:
            self._connected = False
        if reason.is_failure:
            self._tell_outage(str(reason))

    def _tell_outage(self, reason: str) -> None:
        with self._guard:
            told, self._outage_told = self._outage_told, True
        if not told:
            address = {"host": self._broker.host, "port": self._broker.port}
            log_event(logger, "broker.lost", logging.WARNING, **address, reason=reason)

    def _on_fault(self) -> None:
        with self._guard:
            self._connected = False

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            notice = ReleaseNotice.parse(bytes(message.payload))
        except InputError as error:
            log_event(logger, "notice.wrong", logging.WARNING, topic=self._notice_topic, reason=error)
            return
        try:
            self._on_notice(notice)
        except Exception:  # the notice is retained: as a death of the thread, this fault would come back for ever
            logger.exception("notice.fault")
