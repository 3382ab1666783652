"""The real relay program with real brokers: hints in, announcements out, outages survived."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import paho.mqtt.client as mqtt
import pytest

from contract.messages import ReleaseNotice
from contract.topics import edge_release_topic, release_topic
from tests.brokers import Broker
from tests.relay_process import LIMIT_S, RelayProcess
from tests.site_builder import SiteBuilder, frozen, sha256
from tests.site_server import SiteServer, serving

HEADS = [frozen(f"head {number}", 20_000) for number in range(4)]
PATCH = frozen("patch", 2_000)
TOPIC = edge_release_topic("home", "household", "stable")


class Device:
    """Hears what a relay announces."""

    def __init__(self, broker: Broker) -> None:
        self.heard: list[ReleaseNotice] = []
        self._news = threading.Condition()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe(TOPIC, 1)
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def _hear(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        with self._news:
            self.heard.append(ReleaseNotice.parse(message.payload))
            self._news.notify_all()

    def wait_for(self, version: int) -> ReleaseNotice:
        """Wait until ``version`` was announced."""
        with self._news:
            assert self._news.wait_for(lambda: any(notice.version == version for notice in self.heard), LIMIT_S)
            return next(notice for notice in self.heard if notice.version == version)

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def site(tmp_path: Path) -> SiteBuilder:
    built = SiteBuilder(tmp_path / "site")
    built.publish(1, {"head.tflite": HEADS[1]})
    return built


@pytest.fixture
def server(site: SiteBuilder) -> Iterator[SiteServer]:
    with serving(site.folder) as running:
        yield running


@pytest.fixture
def relay(tmp_path: Path, site: SiteBuilder, server: SiteServer, broker: Broker) -> Iterator[RelayProcess]:
    process = RelayProcess(tmp_path / "relay", server.url, site.root, broker.url)
    yield process
    process.kill()


@pytest.fixture
def plain_relay(
    tmp_path: Path, site: SiteBuilder, server: SiteServer, embedded_broker: Broker
) -> Iterator[RelayProcess]:
    """A relay at the embedded broker, where the kind of broker does not matter."""
    process = RelayProcess(tmp_path / "relay", server.url, site.root, embedded_broker.url)
    yield process
    process.kill()


def notify(broker: Broker, payload: bytes) -> None:
    """Publish to the cloud's topic, as the publisher does."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish(release_topic("household", "stable"), payload, qos=1, retain=True).wait_for_publish(LIMIT_S)
    client.disconnect()
    client.loop_stop()


def publish_second(site: SiteBuilder) -> None:
    site.publish(2, {"head.tflite": HEADS[2]}, [("head.tflite", sha256(HEADS[1]), PATCH)], jitter_s=3)


def test_a_notice_leads_to_an_announcement_once_the_patch_is_cached(
    site: SiteBuilder, server: SiteServer, broker: Broker, relay: RelayProcess
) -> None:
    relay.start().wait_for("version=1")
    relay.wait_for("broker.connected")
    server.gate.clear()
    publish_second(site)
    with Device(broker) as device:
        notify(broker, ReleaseNotice(2).encode())
        relay.wait_until(lambda: server.requests[f"content/{sha256(PATCH)}"] == 1, "the patch is asked for")
        device.wait_for(1)
        assert [notice.version for notice in device.heard] == [1]
        server.gate.set()
        assert device.wait_for(2).jitter_s == 3
    assert relay.get(f"content/{sha256(PATCH)}")[1] == PATCH
    with Device(broker) as late:
        late.wait_for(2)


def test_a_broker_that_is_down_at_the_start_and_comes_later_gets_the_announcement(
    broker: Broker, relay: RelayProcess
) -> None:
    broker.stop()
    relay.start().wait_for("release.announced")
    assert relay.get("metadata/timestamp.json")[0] == 200
    assert relay.stats()["broker"] == "not connected"
    broker.start()
    relay.wait_for("broker.connected")
    with Device(broker) as device:
        device.wait_for(1)
    assert len(relay.events("broker.lost")) == 1


def test_a_broker_that_forgot_everything_is_told_again(broker: Broker, relay: RelayProcess) -> None:
    relay.start().wait_for("release.announced")
    with Device(broker) as device:
        device.wait_for(1)
    broker.kill()
    for file in broker.folder.glob("*.db"):
        file.unlink()
    relay.wait_for("broker.lost")
    broker.start()
    with Device(broker) as device:
        device.wait_for(1)
    assert len(relay.events("broker.lost")) == 1, "one line an outage"


def test_a_changed_rollout_of_the_same_release_is_announced_again(
    site: SiteBuilder, embedded_broker: Broker, plain_relay: RelayProcess
) -> None:
    target = site.publish(2, {"head.tflite": HEADS[2]})
    plain_relay.start().wait_for("release.announced")
    with Device(embedded_broker) as device:
        device.wait_for(2)
        site.change(target, rollout_percent=50)
        notify(embedded_broker, ReleaseNotice(2).encode())
        plain_relay.wait_until(lambda: len(device.heard) == 2, "devices are told again")


def test_a_notice_that_is_none_is_one_log_line_and_the_next_one_is_heard(
    embedded_broker: Broker, plain_relay: RelayProcess
) -> None:
    wrong = [b"\xff\xfe", b"{}", b'{"v":1,"version":-1,"jitter_s":0}', b'{"v":9}', b"[" * 10_000]
    plain_relay.start().wait_for("broker.connected")
    plain_relay.wait_for("release.announced")
    for payload in (*wrong, b""):
        notify(embedded_broker, payload)
    notify(embedded_broker, ReleaseNotice(1).encode())
    plain_relay.wait_for("notice.received")
    assert len(plain_relay.events("notice.refused")) == len(wrong), "an empty payload clears a topic, and is no error"
    assert plain_relay.stats()["announced"] == {"household/stable": 1}


def test_a_notice_is_believed_for_nothing(embedded_broker: Broker, plain_relay: RelayProcess) -> None:
    plain_relay.start().wait_for("broker.connected")
    plain_relay.wait_for("release.announced")
    notify(embedded_broker, ReleaseNotice(99).encode())
    plain_relay.wait_for("version=99")
    with Device(embedded_broker) as device:
        device.wait_for(1)
        assert plain_relay.stats()["announced"] == {"household/stable": 1}
        assert [notice.version for notice in device.heard] == [1]
