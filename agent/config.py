"""Owns agent.toml: one frozen dataclass with every default. Refuses what cannot work, before anything starts."""

from dataclasses import dataclass, field
from pathlib import Path

from agent.camera.settings import CameraSettings
from agent.runtimes.settings import RuntimeSettings
from agent.updates.proving import TrialSettings
from agent.vision.hours import HourSettings
from agent.vision.settings import VisionSettings
from agent.vision.zones import Mask
from contract.broker import MqttSettings
from contract.checks import check_http_url, check_poll, parse_object, safe_name
from contract.config import load_config
from contract.errors import ConfigError, InputError
from contract.files import read_capped

ROOT_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelSettings:
    """Which model this device runs, and from which channel its releases come."""

    name: str = "household"
    channel: str = "stable"

    def __post_init__(self) -> None:
        """Refuse names that cannot be part of a path."""
        _check_name(self.name, "name")
        _check_name(self.channel, "channel")


@dataclass(frozen=True)
class RelaySettings:
    """The relay (or a publish site itself: the layout is the same) and the root metadata to trust it from."""

    root: Path
    url: str = "http://relay.local:8480"
    name: str = "home"
    poll_s: float = 3600.0  # the relay tells of a release at once; this is for when its word got lost

    def __post_init__(self) -> None:
        """Refuse what is no address."""
        _check_name(self.name, "name")
        check_http_url(self.url)
        check_poll(self.poll_s)


@dataclass(frozen=True)
class AgentConfig(VisionSettings):
    """All of agent.toml: what is here, and a table for each part of vision."""

    id: str
    data: Path
    camera: CameraSettings
    relay: RelaySettings
    model: ModelSettings = field(default_factory=ModelSettings)
    masks: tuple[Mask, ...] = ()
    schedule: HourSettings = field(default_factory=HourSettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    trial: TrialSettings = field(default_factory=TrialSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)

    def __post_init__(self) -> None:
        """Refuse an id that cannot be part of a topic, and two zones of one name."""
        _check_name(self.id, "id")
        if len({zone.name for zone in self.zones}) != len(self.zones):
            raise ValueError("zones: two have the same name")


def _check_name(value: str, key: str) -> None:
    try:
        safe_name(value, key)
    except InputError as error:
        raise ValueError(str(error)) from error


def load(path: Path) -> AgentConfig:
    """Read agent.toml.

    Raises:
        ConfigError: it cannot be used; the text names the key. Also when the trusted root is not there.
    """
    config = load_config(path, AgentConfig)
    if not config.relay.root.is_file():
        raise ConfigError(f"{path}: relay.root: no file {config.relay.root} (the site's root.json)")
    if not _is_root(config.relay.root):
        raise ConfigError(f"{path}: relay.root: {config.relay.root} is no root metadata (the site's root.json)")
    return config


def _is_root(path: Path) -> bool:
    """Return whether ``path`` is root metadata; else every update would fail, and seem the relay's fault."""
    try:
        signed = parse_object(read_capped(path, ROOT_MOST_BYTES), str(path)).get("signed")
    except (OSError, InputError):
        return False
    return isinstance(signed, dict) and signed.get("_type") == "root"
