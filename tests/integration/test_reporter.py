"""What the agent says over MQTT and hears there: the newest last, and no fault in between ends the connection."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.home import mqtt_thread
from agent.home.mqtt_thread import MOST_RESTARTS, WITHIN_S, OwnedClient
from agent.home.reporter import Reporter
from contract import topics
from contract.broker import BrokerAddress, make_client
from contract.messages import ReleaseNotice, UpdateState, UpdateStatus
from tests.agent_process import AgentProcess, write_video
from tests.brokers import Broker
from tests.mqtt_peers import LIMIT_S, DeafBroker, Listener
from tests.site_builder import SiteBuilder

NOTICES = topics.edge_release_topic("home", "household", "stable")
STATUS = topics.status_topic("porch")
ONLINE, OFFLINE = {"v": 1, "status": "online"}, {"v": 1, "status": "offline"}


class Events(logging.Handler):
    """The ids of the agent's events, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._news = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        with self._news:
            self.seen.append(record.getMessage().split()[0])
            self._news.notify_all()

    def wait_for(self, event: str, count: int = 1) -> None:
        """Wait until ``event`` has come ``count`` times."""
        with self._news:
            assert self._news.wait_for(lambda: self.seen.count(event) >= count, LIMIT_S), self.seen


@pytest.fixture
def events() -> Iterator[Events]:
    """It."""
    events, agent = Events(), logging.getLogger("agent")
    before = agent.level
    agent.addHandler(events)
    agent.setLevel(logging.INFO)
    yield events
    agent.removeHandler(events)
    agent.setLevel(before)


@pytest.fixture
def reporter(embedded_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reporter]:
    """One that is not started yet, and restarts soon."""
    monkeypatch.setattr(mqtt_thread, "FIRST_PAUSE_S", 0.02)
    reporter = Reporter(BrokerAddress("127.0.0.1", embedded_broker.port), "porch", NOTICES)
    yield reporter
    reporter.stop()


@pytest.fixture
def listener(embedded_broker: Broker) -> Iterator[Listener]:
    """It."""
    listener = Listener(embedded_broker)
    yield listener
    listener.close()


def test_after_an_outage_the_newest_update_is_said_last() -> None:
    broker, topic = DeafBroker(), topics.update_topic("porch")
    reporter = Reporter(BrokerAddress("127.0.0.1", broker.port), "porch", "kinwatch/edge/home/releases/m/stable")
    reporter.start(lambda notice: None)
    try:
        broker.accept()
        broker.published(topics.status_topic("porch"))
        reporter.update(UpdateStatus(UpdateState.TRIAL))
        assert b"trial" in broker.published(topic)  # and never acknowledged
        broker.peer.close()
        while reporter._connected:
            time.sleep(0.01)
        reporter.update(UpdateStatus(UpdateState.COMMITTED))
        broker.accept()
        said = broker.published(topic)
        while b"committed" not in said:
            said = broker.published(topic)
        broker.peer.settimeout(0.5)
        with pytest.raises(TimeoutError):
            said = broker.published(topic)
        assert b"committed" in said
    finally:
        broker.peer.close()
        broker.door.close()
        reporter.stop()


def failing(reporter: Reporter, times: int) -> None:
    """Let the first ``times`` connections meet a fault of ours."""
    connected, left = reporter._client.on_connect, [True] * times

    def fail(*event: Any) -> None:
        if left:
            left.pop()
            raise RuntimeError("a fault of ours")
        assert connected is not None
        connected(*event)

    reporter._client.on_connect = fail


def test_a_fault_in_a_callback_costs_an_event_and_a_new_connection(
    reporter: Reporter, events: Events, listener: Listener
) -> None:
    failing(reporter, 2)
    reporter.start(lambda notice: None)
    reporter.update(UpdateStatus(UpdateState.TRIAL))
    events.wait_for("broker.connected")
    listener.wait_for(topics.update_topic("porch"), lambda value: value["state"] == "trial")
    assert [event for event in events.seen if event.startswith("broker.")] == [
        "broker.fault",
        "broker.fault",
        "broker.connected",
    ]
    said = [value for value, _ in listener.heard[STATUS]]
    assert (said[0], said[-1]) == (OFFLINE, ONLINE), "the broker has told of the fault by the last will"


def test_faults_that_do_not_end_are_given_up_and_nothing_waits_for_the_broker(
    reporter: Reporter, events: Events, listener: Listener
) -> None:
    failing(reporter, 100)
    reporter.start(lambda notice: None)
    events.wait_for("broker.given_up")
    assert events.seen.count("broker.fault") == MOST_RESTARTS + 1
    listener.wait_for(STATUS, lambda value: value == OFFLINE)
    begin = time.monotonic()
    reporter.update(UpdateStatus(UpdateState.TRIAL))
    reporter.motion(True)
    reporter.stop()
    assert time.monotonic() - begin < 1.0


def test_an_end_does_not_wait_for_the_pause_before_a_restart(
    reporter: Reporter, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_thread, "FIRST_PAUSE_S", LIMIT_S)
    failing(reporter, 100)
    reporter.start(lambda notice: None)
    events.wait_for("broker.fault")
    begin = time.monotonic()
    reporter.stop()
    assert time.monotonic() - begin < LIMIT_S / 4


def test_restarts_that_are_long_past_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now_s=1000.0, monotonic=lambda: clock.now_s)
    monkeypatch.setattr(mqtt_thread, "time", clock)
    monkeypatch.setattr(mqtt_thread, "FIRST_PAUSE_S", 0.0)
    client = make_client(BrokerAddress("127.0.0.1", 9), "x", lambda *a, **o: OwnedClient(lambda: None, *a, **o))
    assert isinstance(client, OwnedClient)
    assert [client._may_restart() for _ in range(MOST_RESTARTS + 1)] == [True] * MOST_RESTARTS + [False]
    clock.now_s += WITHIN_S
    assert client._may_restart()


def test_a_notice_that_meets_a_fault_of_ours_costs_no_connection(
    reporter: Reporter, events: Events, listener: Listener
) -> None:
    heard: list[int] = []
    second = threading.Event()

    def take(notice: ReleaseNotice) -> None:
        heard.append(notice.version)
        if notice.version == 1:
            raise RuntimeError("a fault of ours")
        second.set()

    reporter.start(take)
    events.wait_for("broker.connected")
    listener.client.publish(NOTICES, ReleaseNotice(1).encode(), qos=1, retain=True)
    events.wait_for("notice.fault")
    listener.client.publish(NOTICES, ReleaseNotice(2).encode(), qos=1, retain=True)
    assert second.wait(LIMIT_S)
    assert heard == [1, 2]
    assert events.seen.count("broker.connected") == 1
    assert "broker.fault" not in events.seen


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_retained_notice_with_a_number_that_is_none_costs_one_line_and_the_agent_goes_on(
    tmp_path: Path, embedded_broker: Broker, listener: Listener, digits: int
) -> None:
    hostile = b'{"v":1,"version":2,"jitter_s":%s}' % (b"9" * digits)
    listener.client.publish(NOTICES, hostile, qos=1, retain=True).wait_for_publish(LIMIT_S)
    root = SiteBuilder(tmp_path / "site").root
    video = write_video(tmp_path / "video.avi")
    agent = AgentProcess(tmp_path / "agent", "http://127.0.0.1:9", root, video, embedded_broker.url)
    try:
        agent.start().wait_for("notice.wrong")
        listener.client.publish(NOTICES, ReleaseNotice(2).encode(), qos=1, retain=True)
        agent.wait_for("update.noticed")
        listener.wait_for(STATUS, lambda value: value == ONLINE)
        assert len(agent.events("notice.wrong")) == 1
        assert not [line for line in agent.lines if "Traceback" in line or "broker.fault" in line]
        assert agent.stop() == 0
    finally:
        agent.kill()
