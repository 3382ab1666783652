"""Owns how a broker's address is written in configurations and on command lines; refuses to connect."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from contract.errors import InputError

PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is; the password is never shown."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_broker(url: str) -> BrokerAddress:
    """Read a broker's URL; InputError when it is none. The text of the error never holds the password."""
    expected = "a broker is written mqtt://[user:password@]host[:port], or mqtts:// for TLS"
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
        (parts.hostname or "").encode("idna")  # else only connecting finds that it can be no host name
    except ValueError as error:
        raise InputError(expected) from error
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise InputError(expected)
    user, password = (unquote(text) if text else None for text in (parts.username, parts.password))
    return BrokerAddress(parts.hostname, port, parts.scheme == "mqtts", user, password)


@dataclass(frozen=True)
class MqttSettings:
    """The table ``[mqtt]`` of a configuration; the broker as ``parse_broker`` reads it."""

    broker: str = "mqtt://localhost:1883"

    def __post_init__(self) -> None:
        """Refuse what is no address; the text never holds the password."""
        self.address()

    def address(self) -> BrokerAddress:
        """Return the broker's address; InputError when it is none."""
        return parse_broker(self.broker)
