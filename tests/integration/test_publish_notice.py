"""The notice that publishing leaves at a real broker, and what happens when there is none."""

import queue
import socket
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cloud_tools.publishing.notify import send_notice
from contract.broker import parse_broker
from contract.errors import PeerError
from contract.messages import ReleaseNotice
from contract.topics import release_topic
from tests.brokers import Broker, free_port
from tests.sites import Site, cloud_tools

TOPIC = release_topic("household", "stable")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).create()


def subscribe(client: mqtt.Client, *_: object) -> None:
    client.subscribe(TOPIC, qos=1)


def late_subscriber(broker: Broker) -> mqtt.MQTTMessage:
    """Subscribe after the fact, and return the first message, which only a broker that retained it can send."""
    received: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = subscribe
    client.on_message = lambda client, data, message: received.put(message)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        return received.get(timeout=10)
    finally:
        client.disconnect()
        client.loop_stop()


def test_the_notice_waits_for_a_relay_that_comes_later(site: Site, broker: Broker) -> None:
    done = cloud_tools("publish", site.bundle(1), "--site", site.site, "--jitter", 30, "--broker", broker.url)
    assert done.returncode == 0, done.stderr
    message = late_subscriber(broker)
    assert (message.topic, bool(message.retain)) == (TOPIC, True)
    assert ReleaseNotice.parse(bytes(message.payload)) == ReleaseNotice(1, 30)


def test_without_a_broker_the_release_is_published_and_running_again_sends_the_notice(
    site: Site, embedded_broker: Broker
) -> None:
    words = ["publish", site.bundle(1), "--site", site.site, "--broker"]
    done = cloud_tools(*words, f"mqtt://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cloud_tools: ")]
    assert "Connection refused; the release is published; run the same command again to send the notice" in line
    assert "Traceback" not in done.stderr
    with site.served() as url:
        assert site.client(url).refresh().newest("household", "stable") == 1
    again = cloud_tools(*words, embedded_broker.url)
    assert again.returncode == 0, again.stderr
    assert "already published" in again.stdout
    assert ReleaseNotice.parse(bytes(late_subscriber(embedded_broker).payload)).version == 1


def test_publishing_an_older_release_again_keeps_the_newest_notice(site: Site, embedded_broker: Broker) -> None:
    for version in (1, 2, 1):
        words = ["publish", site.bundle(version), "--site", site.site, "--broker", embedded_broker.url]
        assert cloud_tools(*words).returncode == 0
    assert ReleaseNotice.parse(bytes(late_subscriber(embedded_broker).payload)).version == 2


def test_a_broker_that_never_answers_is_given_up(site: Site) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = parse_broker(f"mqtt://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(PeerError, match=r"no answer within 0\.5 s"):
            send_notice(address, "household", "stable", ReleaseNotice(1), limit_s=0.5)


def test_something_that_is_no_broker_is_a_clear_error(site: Site) -> None:
    with site.served() as url, pytest.raises(PeerError, match="broker"):
        address = parse_broker(url.replace("http", "mqtt"))
        send_notice(address, "household", "stable", ReleaseNotice(1), limit_s=5)


@pytest.mark.parametrize("url", ["localhost", "http://a", "mqtt://", "mqtt://a:x", "mqtt://a/b", "mqtt://a:99999"])
def test_a_wrong_broker_is_refused_before_anything_is_published(site: Site, url: str) -> None:
    done = cloud_tools("publish", site.bundle(1), "--site", site.site, "--broker", url)
    assert done.returncode == 1
    assert "a broker is written mqtt://" in done.stderr
    assert list((site.site / "content").iterdir()) == []


def test_the_password_of_a_broker_is_in_no_text() -> None:
    address = parse_broker("mqtts://user:s%40cret@example.org")
    assert (address.port, address.tls, address.user, address.password) == (8883, True, "user", "s@cret")
    assert "cret" not in f"{address} {address!r}"
