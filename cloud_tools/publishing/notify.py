"""Owns telling a broker that a channel has a release: one retained MQTT message. Refuses to wait for ever.

The message is a hint that is trusted for nothing; it is sent again whenever the same release is published again.
"""

import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from contract.broker import BrokerAddress
from contract.errors import PeerError
from contract.topics import ReleaseNotice, release_topic

LIMIT_S = 10.0


def send_notice(
    broker: BrokerAddress, model: str, channel: str, notice: ReleaseNotice, limit_s: float = LIMIT_S
) -> None:
    """Leave ``notice`` at the broker (QoS 1, retained) and wait until it has acknowledged.

    Raises:
        PeerError: no connection, a refusal, or no answer within ``limit_s`` seconds.
    """
    sender = _Sender(broker, release_topic(model, channel), notice.payload())
    limit = time.monotonic() + limit_s
    try:
        sender.connect(limit_s)
        while not sender.acknowledged:
            left = limit - time.monotonic()
            if left <= 0:
                raise PeerError(f"broker {broker}: no answer within {limit_s:g} s")
            sender.step(left)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be a host's
        raise PeerError(f"broker {broker}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        sender.client.disconnect()


class _Sender:
    """One connection for one message; driven by ``step``, so that no thread outlives it."""

    def __init__(self, broker: BrokerAddress, topic: str, payload: bytes) -> None:
        self.acknowledged = False
        self._broker, self._topic, self._payload = broker, topic, payload
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            self.client.tls_set()
        self.client.on_connect = self._connected
        self.client.on_publish = self._published

    def connect(self, limit_s: float) -> None:
        self.client.connect_timeout = limit_s
        self.client.connect(self._broker.host, self._broker.port, keepalive=30)

    def step(self, left_s: float) -> None:
        code = self.client.loop(min(left_s, 1.0))
        if code is not mqtt.MQTT_ERR_SUCCESS and not self.acknowledged:
            raise PeerError(f"broker {self._broker}: {mqtt.error_string(code)}")

    def _connected(self, client: mqtt.Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            raise PeerError(f"broker {self._broker}: {reason}")
        client.publish(self._topic, self._payload, qos=1, retain=True)

    def _published(self, client: mqtt.Client, data: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            raise PeerError(f"broker {self._broker}: {reason}")
        self.acknowledged = True
