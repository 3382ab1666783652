"""`agent doctor`: each precondition of `agent run`, found wrong where it is, with what to do."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent import doctor
from agent.config import AgentConfig, CameraSettings, RelaySettings
from agent.live import Live
from contract.broker import MqttSettings, connected
from contract.errors import PeerError
from contract.messages import DeviceStatus, Presence
from contract.topics import status_topic
from tests.brokers import Broker

NOISE = np.random.default_rng(3)


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig("porch", tmp_path / "data", CameraSettings(str(tmp_path)), RelaySettings(tmp_path / "root"))


def picture(level: float, spread: float) -> NDArray[np.uint8]:
    return np.clip(NOISE.normal(level, spread, (24, 32, 3)), 0, 255).astype(np.uint8)


def test_the_camera_is_left_to_the_agent_that_runs(config: AgentConfig) -> None:
    config.data.mkdir()
    with Live(config.data, 5.0) as running:
        running.frame()
        assert "the agent that runs here has it" in doctor.check("camera", config).text
        assert doctor.check("identity", config).ok


def test_a_folder_that_can_be_made_or_written_is_well(config: AgentConfig) -> None:
    assert "can make it" in doctor.check("data", config).text
    assert not config.data.exists()
    config.data.mkdir()
    assert "can write there" in doctor.check("data", config).text
    assert list(config.data.iterdir()) == []


def test_a_folder_below_a_file_says_what_to_do(config: AgentConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = doctor.check("data", replace(config, data=tmp_path / "file" / "data"))
    assert not found.ok
    assert "cannot make it" in found.text
    assert "chown" in found.advice
    assert "-> give the folder" in doctor.table([found])


def test_a_file_of_another_user_is_named(config: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.mkdir()
    (config.data / "state.json").write_bytes(b"")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path.name != "state.json")
    assert "state.json" in doctor.check("data", config).text


def test_a_clock_before_the_program_was_written_is_not_set(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Early(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Early":
            return cls(1970, 1, 1, 0, 3, tzinfo=tz)

    monkeypatch.setattr(doctor.dt, "datetime", Early)
    found = doctor.check("clock", config)
    assert not found.ok
    assert found.text.endswith("not set")
    assert "timedatectl" in found.advice


@pytest.mark.parametrize(("said", "ok"), [(Presence.ONLINE, False), (Presence.OFFLINE, True), (None, True)])
def test_an_identity_that_is_online_elsewhere_is_used_twice(
    config: AgentConfig, embedded_broker: Broker, said: Presence | None, ok: bool
) -> None:
    config = replace(config, mqtt=MqttSettings(embedded_broker.url))
    if said:
        with connected(config.mqtt.address(), 5.0) as errand:
            errand.publish(status_topic("porch"), DeviceStatus(said).encode())
    found = doctor.check("identity", config)
    assert found.ok is ok
    assert ("another device has this id" in found.text) is not ok


def test_every_failure_says_what_to_do(config: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: AgentConfig) -> str:
        raise PeerError("no")

    failing: dict[str, tuple[Callable[[AgentConfig], str], str]] = {
        name: (fail, advice) for name, (_, advice) in doctor._CHECKS.items()
    }
    monkeypatch.setattr(doctor, "_CHECKS", failing)
    findings = doctor.examine(config)
    assert [found.ok for found in findings] == [False] * len(findings)
    assert all(len(found.advice) > 20 for found in findings)
