"""Owns what the publish server is told by its environment. Refuses unknown names, guessing, and to show a secret.

Every name begins with KINWATCH_SERVER_. A secret may be in a file instead, named by the same name with _FILE behind
it. docs/publish-server.md has the list.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from contract.checks import check_http_url, whole_number
from contract.errors import ConfigError, InputError, describe_os_error
from contract.files import read_capped

PREFIX = "KINWATCH_SERVER_"
SECRETS = ("broker", "database_url", "password", "secret_key")  # each may be in a file
SECRET_MOST_BYTES = 10_000
MODEL = "household"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What one server is. ``data``: its folder. ``url``: how people reach it; https means that somebody in front ends
    TLS. ``hosts``: further names that it answers to. ``broker``: an MQTT broker in place of the embedded one.

    ``user`` and ``password`` are those of the first person; ``models``, of a site that is not there yet.
    """

    data: Path
    url: str = ""
    listen: str = "127.0.0.1"
    port: int = 8470
    hosts: tuple[str, ...] = ()
    models: tuple[str, ...] = (MODEL,)
    broker: str = field(default="", repr=False)
    broker_port: int = 1883  # of the embedded one
    database_url: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    user: str = "admin"
    password: str = field(default="", repr=False)
    upload_bytes: int = 1 << 30  # the largest file; VGG-19 has 82 MB
    lease_s: int = 30  # a worker that is silent for so long has lost its job
    threads: int = 8

    @property
    def site(self) -> Path:
        """The publish site's folder."""
        return self.data / "site"

    @property
    def keys(self) -> Path:
        """The keys that the site is signed with."""
        return self.data / "site-keys"

    @property
    def uploads(self) -> Path:
        """Where files are received."""
        return self.data / "uploads"

    @property
    def broker_url(self) -> str:
        """The broker that relays are told by."""
        host = "127.0.0.1" if self.listen in ("0.0.0.0", "::") else self.listen
        return self.broker or f"mqtt://{f'[{host}]' if ':' in host else host}:{self.broker_port}"

    @property
    def https(self) -> bool:
        """Whether people reach it by TLS."""
        return self.url.startswith("https://")

    @property
    def host(self) -> str:
        """The name in ``url``."""
        return urlsplit(self.url).hostname or ""


def read_config(environment: Mapping[str, str]) -> ServerConfig:
    """Read the variables of ours.

    Raises:
        ConfigError: an unknown one, a missing folder, a value that cannot be, or a file that cannot be read.
    """
    given = {name.removeprefix(PREFIX): text for name, text in environment.items() if name.startswith(PREFIX)}
    known = {part.name.upper(): part.name for part in fields(ServerConfig)}
    texts = {}
    for name, text in given.items():
        key = known.get(name.removesuffix("_FILE") if _is_file(name) else name)
        if key is None:
            raise ConfigError(f"unknown variable {PREFIX}{name}{_nearest(name, list(known))}")
        texts[key] = _secret(PREFIX + name, Path(text)) if _is_file(name) else text
    if not texts.get("data"):
        raise ConfigError(f"{PREFIX}DATA names no folder")
    return ServerConfig(**{key: _value(key, text) for key, text in texts.items()})


def _is_file(name: str) -> bool:
    return name.endswith("_FILE") and name.removesuffix("_FILE").lower() in SECRETS


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {PREFIX}{close[0]}?)" if close else ""


def _secret(name: str, path: Path) -> str:
    try:
        return read_capped(path, SECRET_MOST_BYTES).decode().strip()
    except OSError as error:
        raise ConfigError(f"{name}: {describe_os_error(error)}") from error
    except (InputError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {path} is no short text") from error


def _value(key: str, text: str) -> Any:  # each field has a type of its own
    if key == "data":
        return Path(text).resolve()
    if key in ("hosts", "models"):
        return tuple(part for part in (part.strip() for part in text.split(",")) if part)
    if key in ("port", "broker_port", "upload_bytes", "lease_s", "threads"):
        number = whole_number(text)
        if number is None or (number == 0 and key != "port"):
            raise ConfigError(f"{PREFIX}{key.upper()} must be a whole number, not {text[:80]!r}")
        return number
    if key == "url" and text:
        try:
            check_http_url(text)
        except ValueError as error:
            raise ConfigError(f"{PREFIX}URL: {error}") from error
    return text
