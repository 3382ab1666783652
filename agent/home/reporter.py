"""Owns the agent's MQTT connection: what it says (status, update, metrics, motion, sightings) and what it is told.

Refuses to hold up the camera: every call returns at once, and a broker that is down, at the start or later, costs one
log line an outage. What is retained is kept as its latest value and said again after a reconnect; sightings wait in a
bounded queue, and the oldest go first.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from contract import topics
from contract.broker import BrokerAddress
from contract.errors import InputError
from contract.events import log_event
from contract.topics import ReleaseNotice

logger = logging.getLogger("agent.reporter")
MOST_WAITING = 200
KEEPALIVE_S = 30
LONGEST_RECONNECT_S = 30
STOP_LIMIT_S = 2.0


class Reporter:
    """Talks to the broker from a thread of its own; all methods may be called from any thread.

    ``notice_topic`` is where the relay tells of releases; ``on_notice`` gets each.
    """

    def __init__(
        self,
        broker: BrokerAddress,
        device: str,
        notice_topic: str,
        *,
        on_notice: Callable[[ReleaseNotice], None] = lambda notice: None,
    ) -> None:
        self._broker = broker
        self._device = device
        self._notice_topic = notice_topic
        self._on_notice = on_notice
        self._guard = threading.RLock()
        self._retained: dict[str, bytes] = {}
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MOST_WAITING)
        self._connected = False
        self._outage_told = False
        self.dropped = 0
        self._client = self._make_client()

    def _make_client(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"kinwatch-{self._device}")
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.tls:
            client.tls_set()
        client.will_set(topics.status_topic(self._device), b"offline", qos=1, retain=True)
        client.reconnect_delay_set(1, LONGEST_RECONNECT_S)
        client.max_queued_messages_set(MOST_WAITING)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def start(self) -> None:
        """Begin to connect, and go on trying; never waits for the broker."""
        self._client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Say that the agent is offline, where a broker is there to hear it, and end."""
        with self._guard:
            connected = self._connected
        if connected:
            last = self._client.publish(topics.status_topic(self._device), b"offline", qos=1, retain=True)
            limit = time.monotonic() + STOP_LIMIT_S
            while not last.is_published() and self._connected and time.monotonic() < limit:
                time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()

    def update(self, fields: dict[str, Any]) -> None:
        """Say where the update stands (retained)."""
        self._retain(topics.update_topic(self._device), topics.encode(**fields))

    def metrics(self, fields: dict[str, Any]) -> None:
        """Say the counters (retained)."""
        self._retain(topics.metrics_topic(self._device), topics.encode(**fields))

    def sighting(self, fields: dict[str, Any]) -> None:
        """Say who was seen; stays at home."""
        self._send(topics.home_topic(self._device, "sightings"), topics.encode(**fields))

    def motion(self, moving: bool) -> None:
        """Say that motion began or ended; stays at home. Not kept for later: by then it is no news."""
        topic, payload = topics.home_topic(self._device, "motion"), topics.encode(motion=moving)
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
            self._publish(topics.status_topic(self._device), b"online", retain=True)
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

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            notice = ReleaseNotice.parse(bytes(message.payload))
        except InputError as error:
            log_event(logger, "notice.wrong", logging.WARNING, topic=message.topic, reason=error)
            return
        self._on_notice(notice)
