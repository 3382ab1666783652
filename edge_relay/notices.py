"""Owns the relay's connection to the MQTT broker: hints from the cloud in, announcements to devices out.

Refuses to believe a hint (it only wakes a refresh of signed metadata) and to stop the relay when the broker is gone:
it connects again for ever, with one log line when an outage begins and one when it ends.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable

import aiomqtt

from contract.broker import KEEPALIVE_S, BrokerAddress
from contract.errors import InputError
from contract.events import log_event
from contract.messages import ReleaseNotice
from contract.release import ReleaseTarget
from contract.topics import edge_release_topic, release_topic, split_release_topic

logger = logging.getLogger("edge_relay.notices")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
ANSWER_S = 10.0  # the longest wait for any answer of the broker
Hint = Callable[[str, str, int], None]


class Notices:
    """Release notices between cloud, relay ``name`` and devices; ``on_hint(model, channel, version)`` must not block.

    The last announcement of each channel is sent again at every connection: a broker may have lost what it retained.
    """

    def __init__(
        self, endpoint: BrokerAddress, name: str, subscriptions: Iterable[tuple[str, str]], on_hint: Hint
    ) -> None:
        self._endpoint = endpoint
        self._name = name
        self._subscriptions = tuple(subscriptions)
        self._on_hint = on_hint
        self._announced: dict[str, tuple[ReleaseNotice, ReleaseTarget]] = {}
        self._changed = asyncio.Event()
        self.connected = False
        self._outage = False

    def announce(self, channel: str, target: ReleaseTarget) -> None:
        """Tell devices of a release that is cached here; now, or once there is a broker.

        What was signed about a release may change (rollout, withdrawal): then devices are told again.
        """
        topic = edge_release_topic(self._name, target.model, channel)
        news = (ReleaseNotice(target.version, target.jitter_s), target)
        if self._announced.get(topic) != news:
            self._announced[topic] = news
            self._changed.set()
            log_event(logger, "release.announced", model=target.model, channel=channel, version=target.version)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            reason = await self._session()
            pause_s = FIRST_PAUSE_S if self.connected else min(pause_s * 2, LONGEST_PAUSE_S)
            self._lost(reason)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))

    async def _session(self) -> str:
        """Work with the broker until the connection ends; return the reason in one line."""
        reason = "connection closed"
        try:
            async with self._client() as client:
                await client.subscribe([(release_topic(*names), 1) for names in self._subscriptions])
                self._gained()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._receive(client))
                    group.create_task(self._send(client))
        except* (aiomqtt.MqttError, OSError, ValueError) as failures:  # ValueError: paho, on a malformed packet
            reason = str(failures.exceptions[0]) or "connection lost"
        return reason

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._endpoint.host,
            self._endpoint.port,
            username=self._endpoint.user,
            password=self._endpoint.password,
            tls_params=aiomqtt.TLSParameters() if self._endpoint.tls else None,
            timeout=ANSWER_S,
            keepalive=KEEPALIVE_S,
            max_queued_incoming_messages=1000,
        )

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if not message.payload:
                continue  # how MQTT clears what a topic retained
            try:
                self._hear(str(message.topic), message.payload)
            except InputError as error:
                log_event(logger, "notice.refused", logging.WARNING, topic=message.topic, error=error)
            except Exception:  # a fault of ours: a message that is retained would bring it again at each connection
                logger.exception("notice.fault topic=%s", message.topic)

    def _hear(self, topic: str, payload: object) -> None:
        """Take one message; InputError when it is no notice."""
        model, channel = split_release_topic(topic)
        notice = ReleaseNotice.parse(_bytes(payload))
        log_event(logger, "notice.received", model=model, channel=channel, version=notice.version)
        self._on_hint(model, channel, notice.version)

    async def _send(self, client: aiomqtt.Client) -> None:
        sent: dict[str, tuple[ReleaseNotice, ReleaseTarget]] = {}
        while True:
            self._changed.clear()
            for topic, news in list(self._announced.items()):
                if sent.get(topic) != news:
                    await client.publish(topic, news[0].encode(), qos=1, retain=True)
                    sent[topic] = news
            await self._changed.wait()

    def _gained(self) -> None:
        self.connected, self._outage = True, False
        log_event(logger, "broker.connected", host=self._endpoint.host, port=self._endpoint.port)

    def _lost(self, reason: str) -> None:
        self.connected = False
        if not self._outage:
            self._outage = True
            host, port = self._endpoint.host, self._endpoint.port
            log_event(logger, "broker.lost", logging.WARNING, host=host, port=port, error=reason)


def _bytes(payload: object) -> bytes:
    if not isinstance(payload, bytes | bytearray):
        raise InputError("release notice: no bytes")
    return bytes(payload)
