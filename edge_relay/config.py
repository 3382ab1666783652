"""Owns relay.toml: its keys, their defaults and limits; refuses to open anything that it names."""

from dataclasses import dataclass, field
from pathlib import Path

from contract.broker import MqttSettings
from contract.checks import check_http_url, check_poll, safe_name
from contract.errors import InputError

TOP_ROLES = frozenset({"root", "targets", "snapshot", "timestamp"})  # a model's metadata is a role of its name


@dataclass(frozen=True)
class HttpSettings:
    """Where devices reach the relay; port 0 lets the system choose one (tests)."""

    listen: str = "0.0.0.0"
    port: int = 8480

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not from 0 to 65535")


@dataclass(frozen=True)
class SiteSettings:
    """The publish site, its trusted root metadata, and what of it is mirrored."""

    url: str
    root: Path
    models: tuple[str, ...]
    channels: tuple[str, ...] = ("stable",)
    poll_s: float = 900.0

    def __post_init__(self) -> None:
        check_http_url(self.url)
        _check_names("models", self.models)
        if taken := TOP_ROLES.intersection(self.models):
            raise ValueError(f"models: {min(taken)} is the name of a top-level role of TUF")
        _check_names("channels", self.channels)
        check_poll(self.poll_s)


@dataclass(frozen=True)
class CacheSettings:
    """How much disk the relay may use, and the largest whole file that it fetches before a device asks."""

    bytes: int = 2_000_000_000
    prefetch_bytes: int = 64_000_000

    def __post_init__(self) -> None:
        if self.bytes < 1_000_000:
            raise ValueError("bytes must be at least 1000000: less holds no model")
        if self.prefetch_bytes < 0:
            raise ValueError("prefetch_bytes must not be negative")


@dataclass(frozen=True)
class RelayConfig:
    """All of relay.toml."""

    name: str
    data: Path
    site: SiteSettings
    http: HttpSettings = field(default_factory=HttpSettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)

    def __post_init__(self) -> None:
        _check_names("name", (self.name,))


def _check_names(key: str, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{key} must name at least one, and none twice")
    try:
        for name in names:
            safe_name(name, key)
    except InputError as error:
        raise ValueError(str(error)) from error
