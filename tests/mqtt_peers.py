"""Owns who is at the other end of MQTT in tests: a listener at a broker, and a broker that acknowledges nothing."""

import json
import socket
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers import Broker

LIMIT_S = 40.0


class Listener:
    """Somebody at the broker who hears everything."""

    def __init__(self, broker: Broker) -> None:
        self.heard: dict[str, list[tuple[Any, bool]]] = {}
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *rest: client.subscribe("kinwatch/#", qos=1)
        self.client.on_message = self._heard
        listening = threading.Event()
        self.client.on_subscribe = lambda *rest: listening.set()
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert listening.wait(LIMIT_S)

    def _heard(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            value = json.loads(message.payload)
        except ValueError:
            value = bytes(message.payload)  # what a test sent on purpose
        self.heard.setdefault(message.topic, []).append((value, message.retain))

    def wait_for(self, topic: str, wanted: Any) -> Any:
        """Wait for a message on ``topic`` for which ``wanted`` holds; return it."""
        limit = time.monotonic() + LIMIT_S
        while True:
            for value, _ in list(self.heard.get(topic, [])):
                if wanted(value):
                    return value
            assert time.monotonic() < limit, (topic, self.heard)
            time.sleep(0.01)

    def close(self) -> None:
        """End, and let go of the client: in a cycle with it, the collector may find its sockets open first."""
        self.client.disconnect()
        self.client.loop_stop()
        self.client.on_message = self.client.on_connect = self.client.on_subscribe = None
        del self.client


class DeafBroker:
    """Speaks just enough MQTT; it acknowledges no publication, so that paho repeats them after an outage."""

    def __init__(self) -> None:
        self.door = socket.create_server(("127.0.0.1", 0))
        self.door.settimeout(LIMIT_S)
        self.port = int(self.door.getsockname()[1])

    def accept(self) -> None:
        """Take a connection, and its subscription."""
        self.peer, _ = self.door.accept()
        self.peer.settimeout(LIMIT_S)
        self.expect(1)
        self.peer.sendall(b"\x20\x02\x00\x00")
        number = self.expect(8)[:2]
        self.peer.sendall(b"\x90\x03" + number + b"\x01")

    def expect(self, kind: int) -> bytes:
        """Read packets up to one of ``kind``; return its body."""
        while True:
            head, length, shift = self.peer.recv(1)[0], 0, 0
            while True:
                byte = self.peer.recv(1)[0]
                length, shift = length | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
            body = b""
            while len(body) < length:
                body += self.peer.recv(length - len(body))
            if head >> 4 == kind:
                return body

    def published(self, topic: str) -> bytes:
        """Return the next payload for ``topic`` (QoS 1)."""
        while True:
            body = self.expect(3)
            end = 2 + int.from_bytes(body[:2], "big")
            if body[2:end].decode() == topic:
                return body[end + 2 :]
