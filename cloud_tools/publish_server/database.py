"""Owns which database the server has: a SQLite file beside its data, or a PostgreSQL server. Refuses others."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from contract.errors import ConfigError

BUSY_S = 20  # how long a writer waits for another one


def database(url: str, data: Path) -> dict[str, Any]:
    """Return Django's settings for ``url``, or for a file in ``data`` without one; ConfigError says why not."""
    if not url:
        return _sqlite(data / "server.sqlite3")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:  # its text may hold the password
        raise ConfigError("the database's URL cannot be read") from error
    if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/"):
        raise ConfigError("the database's URL is not postgresql://user:password@host/name")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": port or "",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": dict(parse_qsl(parts.query)),
    }


def _sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            # A transaction that reads first and writes later would be refused at once, not waited for.
            "transaction_mode": "IMMEDIATE",
            "timeout": BUSY_S,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
