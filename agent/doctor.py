"""Owns `agent doctor`: looks at everything the agent needs and says what is wrong with it. Refuses to mend or change.

Each check is independent: a broker that is down does not hide a clock that is wrong. It may run beside an agent, so
it works on a copy of the trusted metadata and takes no lock.
"""

import datetime as dt
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config import AgentConfig
from agent.updates.disk import free_bytes
from agent.updates.plan import Policy
from agent.updates.selftest import run_selftest
from agent.updates.slots import read_record, slot_problem
from contract.broker import connected
from contract.errors import InputError, KinwatchError, PeerError, StorageError, one_line
from contract.release import DEVICE_HEADER
from contract.trust import TrustedSite

LIMIT_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One check: what, whether it is well, and what was seen."""

    name: str
    ok: bool
    text: str


def examine(config: AgentConfig) -> list[Finding]:
    """Make every check."""
    return [check(name, config) for name in _CHECKS]


def check(name: str, config: AgentConfig) -> Finding:
    """Make the check called ``name``; what goes wrong in it is what it found."""
    try:
        return Finding(name, True, _CHECKS[name](config))
    except (KinwatchError, OSError) as error:
        return Finding(name, False, one_line(error))


def table(findings: list[Finding]) -> str:
    """Return the findings for a person, a line each."""
    return "\n".join(f"{'ok  ' if f.ok else 'FAIL'}  {f.name:<8}  {f.text}" for f in findings)


def _disk(config: AgentConfig) -> str:
    folder = next(path for path in (config.data, *config.data.parents) if path.exists())
    free = free_bytes(folder)
    least = Policy(config.model.name, config.id).reserve_bytes
    if free < least:
        raise StorageError(f"{free / 1e6:.0f} MB are free, {least / 1e6:.0f} MB must stay free")
    return f"{free / 1e6:.0f} MB are free"


def _clock(config: AgentConfig) -> str:
    now = dt.datetime.now(dt.UTC)
    floor = _site(config, config.data / "trust").floor()
    if now < floor:
        raise InputError(f"it says {now:%Y-%m-%d %H:%M}, but {floor:%Y-%m-%d %H:%M} UTC was signed already: set it")
    return f"it says {now:%Y-%m-%d %H:%M} UTC, after the newest signed time"


def _runtime(config: AgentConfig) -> str:
    from agent.vision.runtime import working_runtime

    return working_runtime()


def _camera(config: AgentConfig) -> str:
    from agent.camera.camera import open_camera

    with open_camera(config.camera) as camera:
        frame = next(iter(camera), None)
    if frame is None:
        raise PeerError(f"{config.camera.source}: it opens and gives no frame")
    return f"{config.camera.source}: {frame.image.shape[1]}x{frame.image.shape[0]}"


def _relay(config: AgentConfig) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "trust"
        if (config.data / "trust").is_dir():
            shutil.copytree(config.data / "trust", copy)
        version = _site(config, copy).refresh().newest(config.model.name, config.model.channel)
    if version is None:
        raise PeerError(f"{config.relay.url}: verifies, and has no {config.model.name} in {config.model.channel}")
    return f"{config.relay.url}: verifies, newest release is {version}"


def _broker(config: AgentConfig) -> str:
    address = config.mqtt.address()
    with connected(address, LIMIT_S):
        return str(address)


def _model(config: AgentConfig) -> str:
    record = read_record(config.data)
    running = record.running if record else None
    held = record.held(running) if record and running else None
    if running is None or held is None:
        return "none yet; the agent watches without naming"
    problem = slot_problem(config.data, running, held)
    if problem:
        raise InputError(problem)
    result = run_selftest(config.data / "slots" / running)
    return f"release {held.version} in slot {running} passes its self-test in {result.run_ms:.0f} ms"


def _site(config: AgentConfig, folder: Path) -> TrustedSite:
    headers = {DEVICE_HEADER: config.id}
    return TrustedSite(config.relay.url, config.relay.root, folder, timeout_s=LIMIT_S, headers=headers)


_CHECKS: dict[str, Callable[[AgentConfig], str]] = {  # in the order in which a person would mend things
    "disk": _disk,
    "clock": _clock,
    "runtime": _runtime,
    "camera": _camera,
    "relay": _relay,
    "broker": _broker,
    "model": _model,
}
