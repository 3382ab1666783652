"""Owns `agent doctor`: looks at everything `agent run` needs, as the user who asks, and says what is wrong and what
to do about it. Refuses to mend or change.

Each check is independent: a broker that is down does not hide a clock that is wrong. It may run beside an agent, so
it works on a copy of the trusted metadata, takes no lock and leaves the camera to the agent.
"""

import datetime as dt
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import live
from agent.camera.settings import SourceKind
from agent.camera.sources import DECODED
from agent.clock import WRITTEN, is_set
from agent.config import AgentConfig
from agent.updates.disk import free_bytes
from agent.updates.plan import Policy
from agent.updates.selftest import run_selftest
from agent.updates.slots import read_record, slot_problem
from contract.broker import connected
from contract.errors import InputError, KinwatchError, PeerError, StorageError, missing_package, one_line
from contract.http.client import HttpLimits
from contract.manifest import load_bundle
from contract.messages import DeviceStatus, Presence
from contract.release import DEVICE_HEADER
from contract.topics import status_topic
from contract.trust import TrustedSite
from contract.video.version import check_ffmpeg

LIMIT_S = 5.0
RETAINED_S = 1.0  # a broker sends what it keeps at once
CAMERA_LIMIT_S = 15.0  # for a first picture, and for another one after it


@dataclass(frozen=True)
class Finding:
    """One check: what, whether it is well, what was seen, and what to do where it is not."""

    name: str
    ok: bool
    text: str
    advice: str = ""


def examine(config: AgentConfig) -> list[Finding]:
    """Make every check."""
    return [check(name, config) for name in _CHECKS]


def check(name: str, config: AgentConfig) -> Finding:
    """Make the check called ``name``; what goes wrong in it is what it found."""
    look, advice = _CHECKS[name]
    try:
        return Finding(name, True, look(config))
    except (KinwatchError, OSError) as error:
        return Finding(name, False, one_line(error), advice)
    except ModuleNotFoundError as error:
        return Finding(name, False, missing_package("agent", error))


def table(findings: list[Finding]) -> str:
    """Return the findings for a person, a line each, and one more with what to do."""
    lines = []
    for found in findings:
        lines.append(f"{'ok  ' if found.ok else 'FAIL'}  {found.name:<11}  {found.text}")
        lines += [f"      {'':<11}  -> {found.advice}"] * bool(found.advice)
    return "\n".join(lines)


def _data(config: AgentConfig) -> str:
    user = _user()
    if not config.data.exists():
        above = _nearest(config.data)
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            raise StorageError(f"{config.data}: {user} cannot make it: {above} is no folder that they may write")
        return f"{config.data}: {user} can make it"
    try:
        with tempfile.TemporaryFile(dir=config.data) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        raise StorageError(f"{config.data}: {user} cannot write there: {error.strerror}") from error
    foreign = [path.name for path in sorted(config.data.iterdir()) if not _may_use(path)]
    if foreign:
        raise StorageError(f"{config.data}: {user} cannot read and write what is there: {', '.join(foreign[:5])}")
    return f"{config.data}: {user} can write there"


def _may_use(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def _nearest(path: Path) -> Path:
    return next(above for above in (path, *path.parents) if above.exists())


def _disk(config: AgentConfig) -> str:
    free = free_bytes(_nearest(config.data))
    least = Policy(config.model.name, config.id).reserve_bytes
    if free < least:
        raise StorageError(f"{free / 1e6:.0f} MB are free, {least / 1e6:.0f} MB must stay free")
    return f"{free / 1e6:.0f} MB are free"


def _clock(config: AgentConfig) -> str:
    now = dt.datetime.now(dt.UTC)
    if not is_set(now.timestamp()):
        raise InputError(f"it says {now:%Y-%m-%d %H:%M} UTC, before this program was written ({WRITTEN:%Y}): not set")
    floor = _site(config, config.data / "trust").floor()
    if now < floor:
        raise InputError(f"it says {now:%Y-%m-%d %H:%M}, but {floor:%Y-%m-%d %H:%M} UTC was signed already: set it")
    return f"it says {now:%Y-%m-%d %H:%M} UTC, after the newest signed time"


def _runtime(config: AgentConfig) -> str:
    from agent.runtimes.interpreters import working_runtime

    return working_runtime()


def _accelerator(config: AgentConfig) -> str:
    if not config.runtime.has_accelerator:
        return "none is wanted; the processor runs every model"
    running = live.ask(config.data)
    if running is not None:
        return _accelerator_of(running.get("accelerator"))
    from agent.runtimes.child import AcceleratorChild
    from agent.vision.accelerated import job_of

    record = read_record(config.data)
    folder = config.data / "slots" / record.running if record and record.running else None
    job = job_of(folder, load_bundle(folder)) if folder else None
    with AcceleratorChild(config.runtime.library, job.models if job else (), config.runtime.start_s) as child:
        child.begin()
        if job is None:
            return f"{config.runtime.library} loads in a child process; no release here was compiled for it"
        job.make(child)
    return f"{config.runtime.library}: the release that runs next passes its self-test there"


def _accelerator_of(told: object) -> str:
    if not isinstance(told, dict):
        return "the agent that runs here was started without it, or does not say more to this user"
    if told["state"] == "failed":
        raise PeerError(f"the processor answers in its place: {told['reason']}")
    return f"the agent that runs here has it: {told['state']}, {told['faults']} faults since its start"


def _decoder(config: AgentConfig) -> str:
    if config.camera.kind not in DECODED:
        return f"{config.camera.shown} needs none"
    return f"ffmpeg {check_ffmpeg()}"


def _camera(config: AgentConfig) -> str:
    running = live.ask(config.data)
    if running is not None:
        return _camera_of(running, config.camera.shown)
    from agent.camera.camera import open_camera
    from agent.camera.frame import Frame

    frames: list[Frame] = []
    end_s = time.monotonic() + CAMERA_LIMIT_S
    with open_camera(config.camera) as camera:
        for frame in camera.frames_or_waits():
            frames += [frame] if frame else []
            if time.monotonic() > end_s or (frame and frame.live):
                break
        reason = camera.status.reason
    if not frames:
        raise PeerError(f"{config.camera.shown}: it gives no picture{f': {reason}' if reason else ''}")
    height, width = frames[-1].image.shape[:2]
    if not frames[-1].live and config.camera.kind is not SourceKind.FILE:
        raise PeerError(f"{config.camera.shown}: {width}x{height}, but the picture is black or does not change")
    return f"{config.camera.shown}: {width}x{height}"


def _camera_of(facts: dict[str, object], source: str) -> str:
    if facts.get("camera") == "stalled":
        raise PeerError(f"{source}: the agent that runs here gets no frames from it")
    return f"{source}: the agent that runs here has it, at {facts.get('fps', '?')} frames a second"


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


def _identity(config: AgentConfig) -> str:
    """Look for another device of this name: the broker would throw out the one for the other, again and again."""
    if live.ask(config.data) is not None:
        return f"{config.id} is online: it is the agent that runs here"
    try:
        with connected(config.mqtt.address(), LIMIT_S) as errand:
            kept = errand.retained(status_topic(config.id), RETAINED_S)
    except PeerError:
        return f"{config.id}: not known whether it is used twice, for the broker does not answer"
    try:
        online = kept is not None and DeviceStatus.parse(kept).status is Presence.ONLINE
    except InputError:
        online = False
    if online:
        raise InputError(f"{config.id} is online at the broker, and no agent runs here: another device has this id")
    return f"{config.id} is used once"


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
    return TrustedSite(
        config.relay.url, config.relay.root, folder, limits=HttpLimits(LIMIT_S, LIMIT_S), headers=headers
    )


# In the order in which a person would mend things: the check, and what to do when it fails.
_CHECKS: dict[str, tuple[Callable[[AgentConfig], str], str]] = {
    "data": (
        _data,
        "give the folder and what is in it to the user who runs the agent (chown -R), or name another `data`",
    ),
    "disk": (_disk, "free some space, or put `data` on a larger disk"),
    "clock": (
        _clock,
        "set it: let the network do it (timedatectl set-ntp true), or date -s; times are wrong until then",
    ),
    "runtime": (_runtime, "pip install 'kinwatch[agent]' in the agent's own environment"),
    "decoder": (
        _decoder,
        "apt-get install ffmpeg; where that is older, take another one, or a camera by `jetson:` or `gst:`",
    ),
    "accelerator": (
        _accelerator,
        "look at [runtime] library, the device's cable and power, and whether this user may use it (group plugdev)",
    ),
    "camera": (_camera, "look at cable, cover and [camera] source; a user who may use cameras is in the group video"),
    "relay": (
        _relay,
        "look at [relay] url and root, and whether edge_relay runs there; without it nothing is updated",
    ),
    "broker": (_broker, "look at [mqtt] broker, user and password, and whether a broker runs there"),
    "identity": (_identity, "give each device an `id` of its own; after a crash wait a minute and look again"),
    "model": (_model, "`agent check` names the file; the next start fetches it again where the relay has it"),
}
