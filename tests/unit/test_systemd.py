"""The unit files, and the example configurations beside them, are ones that systemd and the programs accept."""

import dataclasses
import re
import shutil
import subprocess
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest

from agent.config import AgentConfig
from contract.config import load_config
from edge_relay.config import RelayConfig

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
UNITS = ("kinwatch-agent.service", "kinwatch-relay.service")
MOST_EXPOSURE = 3.0  # of 10; systemd calls up to 4 "OK"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd"
)


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the unit whose program exists here; everything else is as shipped."""
    text = (SYSTEMD / request.param).read_text()
    copy, replaced = re.subn(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text)
    assert replaced == 1
    path = tmp_path / str(request.param)
    path.write_text(copy)
    return path


@needs_systemd
def test_a_unit_verifies_without_a_word(unit: Path) -> None:
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_the_check_does_find_a_misspelt_directive(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchDogSecs="))
    assert "WatchDogSecs" in analyze("verify", "--man=no", str(unit)).stderr


@needs_systemd
def test_a_unit_is_locked_in(unit: Path) -> None:
    text = analyze("security", "--offline=true", str(unit)).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    assert found, text
    assert float(found[1]) < MOST_EXPOSURE


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("kinwatch-agent.service", "/opt/kinwatch/bin/agent run --config /etc/kinwatch/agent.toml"),
        ("kinwatch-relay.service", "/opt/kinwatch/bin/edge_relay --config /etc/kinwatch/relay.toml"),
    ],
)
def test_a_unit_starts_the_program_watches_it_and_has_a_restart_budget(name: str, command: str) -> None:
    lines = (SYSTEMD / name).read_text().splitlines()
    assert f"ExecStart={command}" in lines
    for line in ("Type=notify", "NotifyAccess=main", "Restart=always", "RestartPreventExitStatus=2 78"):
        assert line in lines
    keys = {line.split("=", 1)[0] for line in lines}
    assert {"WatchdogSec", "StartLimitIntervalSec", "StartLimitBurst", "StateDirectory", "MemoryMax"} <= keys


def test_the_agent_reaches_cameras_and_no_other_device() -> None:
    lines = (SYSTEMD / "kinwatch-agent.service").read_text().splitlines()
    assert [line for line in lines if line.startswith("DeviceAllow=")] == ["DeviceAllow=char-video4linux rw"]
    assert "DevicePolicy=closed" in lines
    assert "SupplementaryGroups=video" in lines


def test_systemd_forgives_more_starts_than_a_trial_has_attempts() -> None:
    text = (SYSTEMD / "kinwatch-agent.service").read_text()
    burst = re.search(r"(?m)^StartLimitBurst=(\d+)", text)
    assert burst
    assert int(burst[1]) > load_config(SYSTEMD / "agent.toml", AgentConfig).trial.attempts


@pytest.mark.parametrize(("name", "kind"), [("agent.toml", AgentConfig), ("relay.toml", RelayConfig)])
def test_an_example_loads_and_shows_every_key_with_a_comment(name: str, kind: type[Any]) -> None:
    config = load_config(SYSTEMD / name, kind)
    text = (SYSTEMD / name).read_text()
    assert keys_of(tomllib.loads(text)) == fields_of(kind)
    assert str(config.data) == f"/var/lib/kinwatch-{name.removesuffix('.toml')}", "the unit's StateDirectory"
    commented = False
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            assert commented or "  # " in line, f"{name}: {line!r} has no comment"
        commented = line.startswith("#") or (commented and "=" in line)


@pytest.mark.parametrize(("name", "kind"), [("agent.toml", AgentConfig), ("relay.toml", RelayConfig)])
def test_an_example_shows_the_defaults(name: str, kind: type[Any]) -> None:
    config = load_config(SYSTEMD / name, kind)
    for field in dataclasses.fields(kind):
        value = getattr(config, field.name)
        for inner in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():
            if inner.default is not dataclasses.MISSING:
                assert getattr(value, inner.name) == inner.default, f"{field.name}.{inner.name}"


def keys_of(table: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key, value in table.items():
        found |= keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return found


def fields_of(kind: type[Any], prefix: str = "") -> set[str]:
    found = set()
    for name, hint in typing.get_type_hints(kind).items():
        found |= fields_of(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else {f"{prefix}{name}"}
    return found
