"""Owns what the relay counts: requests and bytes by device and kind, upstream traffic, the cache.

Refuses to estimate: header bytes are those of the response as serialised, body bytes those given to the connection.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from contract.checks import safe_name
from contract.errors import InputError
from contract.release import DEVICE_HEADER

KINDS = ("metadata", "manifest", "content", "other")
MOST_DEVICES = 2000  # the header is the sender's: without a limit, anybody could fill the memory with names
OVERFLOW = "(others)"
_KIND_OF_FOLDER = {"metadata": "metadata", "targets": "manifest", "content": "content"}


@dataclass
class Traffic:
    """Requests answered, and the bytes of the answers."""

    requests: int = 0
    body_bytes: int = 0
    header_bytes: int = 0


@dataclass
class UpstreamTraffic:
    """What the relay itself asked the site for: requests for contents, their body bytes, failed requests."""

    fetches: int = 0
    bytes: int = 0
    failures: int = 0


@dataclass
class CacheUse:
    """Requests answered from the cache, requests that started a fetch, requests that joined one, entries dropped."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    evictions: int = 0
    corrupt: int = 0


@dataclass
class Counters:
    """All counters since the start of the process."""

    upstream: UpstreamTraffic = field(default_factory=UpstreamTraffic)
    cache: CacheUse = field(default_factory=CacheUse)
    devices: dict[str, dict[str, Traffic]] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)

    def traffic(self, device: str, kind: str) -> Traffic:
        """Return the counter of ``device`` and ``kind``, making it at the first request."""
        if device not in self.devices and len(self.devices) >= MOST_DEVICES:
            device = OVERFLOW
        kinds = self.devices.setdefault(device, {name: Traffic() for name in KINDS})
        return kinds[kind]

    def snapshot(self) -> dict[str, Any]:
        """Return the counters as a JSON object."""
        return {
            "uptime_s": round(time.monotonic() - self.started_s, 3),
            "devices": {name: _plain(kinds) for name, kinds in sorted(self.devices.items())},
            "totals": {kind: asdict(self._total(kind)) for kind in KINDS},
            "upstream": asdict(self.upstream),
            "cache": asdict(self.cache),
        }

    def _total(self, kind: str) -> Traffic:
        parts = [kinds[kind] for kinds in self.devices.values()]
        return Traffic(
            sum(part.requests for part in parts),
            sum(part.body_bytes for part in parts),
            sum(part.header_bytes for part in parts),
        )


def _plain(kinds: Mapping[str, Traffic]) -> dict[str, Any]:
    return {kind: asdict(traffic) for kind, traffic in kinds.items() if traffic.requests}


def device_name(headers: Mapping[str, str], peer: str | None) -> str:
    """Return whom a request counts for: the name in its header, or the address when there is no plain name."""
    try:
        return safe_name(headers.get(DEVICE_HEADER, ""), DEVICE_HEADER)
    except InputError:
        return peer or "(unknown)"


def kind_of(path: str) -> str:
    """Return the kind of a request by its URL path."""
    return _KIND_OF_FOLDER.get(path.lstrip("/").split("/", 1)[0], "other")


def head_bytes(status: int, reason: str, headers: Mapping[str, str]) -> int:
    """Return the length of an HTTP/1.1 response head as serialised: status line, headers, empty line."""
    line = f"HTTP/1.1 {status} {reason}\r\n"
    return len((line + "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n").encode())
