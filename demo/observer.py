"""Owns what the house says over MQTT, kept with the time of arrival; refuses to act on it."""

import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt

from contract.broker import BrokerAddress, make_client
from contract.errors import InputError
from contract.messages import parse_message
from contract.topics import Kind, split_device_topic, topic_kind


@dataclass(frozen=True)
class Message:
    """One message: when it came (monotonic seconds), from which device, and what it said."""

    at: float
    device: str
    body: dict[str, Any]


class Observer:
    """Listens to every topic of the house; reconnects by itself when the broker was away."""

    def __init__(self, port: int) -> None:
        self.messages: dict[str, list[Message]] = defaultdict(list)  # by what is said: update, sightings ...
        self.wrong: list[str] = []  # what was said and is no message of the protocol
        self._news = threading.Condition()
        self._client = make_client(BrokerAddress("127.0.0.1", port), f"observer-{port}")
        self._client.on_connect = lambda client, *_: client.subscribe("kinwatch/#", 1)
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 2)
        self._client.connect("127.0.0.1", port, keepalive=10)
        self._client.loop_start()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def wait_news(self, limit_s: float) -> None:
        """Wait until any message comes, at most ``limit_s`` seconds."""
        with self._news:
            self._news.wait(limit_s)

    def of(self, kind: str, device: str, since: float = 0.0) -> list[Message]:
        """Return the messages of ``kind`` from ``device`` that came after ``since``."""
        return [item for item in list(self.messages[kind]) if item.device == device and item.at >= since]

    def last(self, kind: str, device: str) -> dict[str, Any]:
        """Return the last message of ``kind`` from ``device``, or an empty one."""
        found = self.of(kind, device)
        return found[-1].body if found else {}

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        with self._news:
            try:
                parse_message(message.topic, bytes(message.payload))
            except InputError as error:
                self.wrong.append(f"{message.topic}: {error}")
                return
            if topic_kind(message.topic) is Kind.RELEASES:
                return
            device, kind = split_device_topic(message.topic)
            self.messages[kind].append(Message(time.monotonic(), device, json.loads(message.payload)))
            self._news.notify_all()
