"""Owns how a broker's address is written, and how one connects there; refuses to know what is said.

paho is imported where it is used: the relay reads addresses here and connects with aiomqtt.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from contract.errors import InputError, PeerError

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.reasoncodes import ReasonCode

PORTS = {"mqtt": 1883, "mqtts": 8883}
# Signs that end or divide a URL, and how they are written in a user or a password.
_ESCAPES = ", ".join(f"{sign} as {quote(sign, safe='')}" for sign in "#/?@:%[]")
_OR_KEYS = ", or give them in the keys user and password, as they are"
KEEPALIVE_S = 30  # a broker that vanished without a word is noticed after 1.5 times this


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
    if "@" in url:
        expected += f"; in user and password write {_ESCAPES}"
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
        (parts.hostname or "").encode("idna")  # else only connecting finds that it can be no host name
    except ValueError as error:
        raise InputError(expected) from error
    rest = parts.query or parts.fragment  # of a password with a sign, as like as not
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/") or rest:
        raise InputError(expected)
    user, password = (unquote(text) if text else None for text in (parts.username, parts.password))
    return BrokerAddress(parts.hostname, port, parts.scheme == "mqtts", user, password)


@dataclass(frozen=True)
class MqttSettings:
    """The table ``[mqtt]`` of a configuration; the broker as ``parse_broker`` reads it.

    ``user`` and ``password`` are taken as they are, whatever signs are in them; "" is none.
    """

    broker: str = "mqtt://localhost:1883"
    user: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no address; the text never holds the password."""
        self.address()

    def address(self) -> BrokerAddress:
        """Return the broker's address; InputError when it is none, or tells of two users."""
        try:
            address = parse_broker(self.broker)
        except InputError as error:
            raise InputError(f"{error}{_OR_KEYS * ('@' in self.broker)}") from error
        if not (self.user or self.password):
            return address
        if address.user is not None:
            raise InputError("there is a user in broker already: leave it there, or in the keys user and password")
        if not self.user:
            raise InputError("a password needs a user")
        return replace(address, user=self.user, password=self.password or None)


def make_client(broker: BrokerAddress, client_id: str = "", make: "Callable[..., Client] | None" = None) -> "Client":
    """Return a client that is set up for ``broker`` and not connected yet; ``make`` takes the place of paho's own."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = (make or Client)(CallbackAPIVersion.VERSION2, client_id=client_id)
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    if broker.tls:
        client.tls_set()
    return client


class Errand:
    """A connection for one errand (``connected`` gives it), driven by the caller's thread, so that none outlives it.

    Everything together, connecting included, takes at most ``limit_s`` seconds.
    """

    def __init__(self, broker: BrokerAddress, limit_s: float) -> None:
        self._broker = broker
        self._limit_s = limit_s
        self._end_s = time.monotonic() + limit_s
        self._answers: list[ReasonCode] = []
        self.client = make_client(broker)
        self.client.on_connect = lambda *event: self._answers.append(event[3])
        self.client.on_publish = lambda *event: self._answers.append(event[3])

    def connect(self) -> None:
        """Connect and wait until the broker has agreed; PeerError or OSError if not."""
        self.client.connect_timeout = self._limit_s
        self.client.connect(self._broker.host, self._broker.port, KEEPALIVE_S)
        self._await_answer()

    def publish(self, topic: str, payload: bytes) -> None:
        """Leave ``payload`` at the broker (QoS 1, retained) and wait until it has acknowledged; as ``connect``."""
        self.client.publish(topic, payload, qos=1, retain=True)
        self._await_answer()

    def retained(self, topic: str, limit_s: float) -> bytes | None:
        """Return what the broker keeps on ``topic``, or None when nothing came in ``limit_s``; as ``connect``."""
        found: list[bytes] = []
        self.client.on_message = lambda *event: found.append(bytes(event[2].payload))
        self.client.on_subscribe = lambda *event: self._answers.extend(event[3])
        self.client.subscribe(topic)
        self._await_answer()
        end_s = time.monotonic() + limit_s
        while not found and (left_s := end_s - time.monotonic()) > 0:
            self._turn(left_s)
        return found[0] if found else None

    def _turn(self, wait_s: float) -> None:
        """Send and hear what there is; PeerError when the connection is gone and nothing was heard before."""
        from paho.mqtt.client import error_string

        code = self.client.loop(wait_s)
        if code and not self._answers:
            raise PeerError(f"broker {self._broker}: {error_string(code)}")

    def _await_answer(self) -> None:
        while not self._answers:
            left_s = self._end_s - time.monotonic()
            if left_s <= 0:
                raise PeerError(f"broker {self._broker}: no answer within {self._limit_s:g} s")
            self._turn(min(left_s, 1.0))
        reason = self._answers.pop(0)
        if reason.is_failure:
            raise PeerError(f"broker {self._broker}: {reason}")


@contextlib.contextmanager
def connected(broker: BrokerAddress, limit_s: float) -> Iterator[Errand]:
    """Connect to ``broker`` for one errand, and leave again.

    Raises:
        PeerError: no connection, a refusal, or no answer within ``limit_s`` seconds.
    """
    errand = Errand(broker, limit_s)
    try:
        errand.connect()
        yield errand
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be a host's
        raise PeerError(f"broker {broker}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        errand.client.disconnect()
