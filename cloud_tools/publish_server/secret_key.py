"""Owns the key that sessions are signed with, in a file of the data folder. Refuses to be known beforehand."""

import secrets
from pathlib import Path

from contract.errors import ConfigError, InputError, describe_os_error
from contract.files import atomic_write, read_capped

NAME = "secret_key"
MOST_BYTES = 1000


def secret_key(data: Path) -> str:
    """Return the key in ``data``, made where there is none yet; ConfigError when it can be neither read nor made."""
    path = data / NAME
    try:
        if not path.exists():
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_write(path, secrets.token_urlsafe(64).encode(), 0o600)
        return read_capped(path, MOST_BYTES).decode()
    except OSError as error:
        raise ConfigError(f"no key for sessions: {describe_os_error(error)}") from error
    except (InputError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no key of this program") from error
