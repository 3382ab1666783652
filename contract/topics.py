"""Owns the MQTT topics and the JSON that goes over them; refuses to connect to anything.

All payloads are JSON objects with ``v`` (schema) first; unknown fields pass. Topics under ``kinwatch/home/`` stay at
home: a bridge to the cloud must never carry them.
"""

import json
from dataclasses import dataclass
from typing import Any

from contract.checks import Fields, parse_object, safe_name
from contract.errors import InputError

SCHEMA = 1
MOST_BYTES = 16_384  # an embedded broker's default limit is 20 KB


def release_topic(model: str, channel: str) -> str:
    """Cloud to relays: a release exists (retained)."""
    return f"kinwatch/releases/{model}/{channel}"


def edge_release_topic(relay: str, model: str, channel: str) -> str:
    """Relay to its devices: a release is verified and cached here (retained)."""
    return f"kinwatch/edge/{relay}/releases/{model}/{channel}"


def status_topic(device: str) -> str:
    """Device: ``online`` or ``offline`` (retained; offline is the last will)."""
    return f"kinwatch/devices/{device}/status"


def update_topic(device: str) -> str:
    """Device: where its update stands (retained; bridged to the cloud)."""
    return f"kinwatch/devices/{device}/update"


def metrics_topic(device: str) -> str:
    """Device: counters (retained; bridged to the cloud)."""
    return f"kinwatch/devices/{device}/metrics"


def home_topic(device: str, leaf: str) -> str:
    """What stays at home: ``motion``, ``sightings`` (not retained)."""
    return f"kinwatch/home/{device}/{leaf}"


def split_release_topic(topic: str) -> tuple[str, str]:
    """Return (model, channel) of a topic made by ``release_topic`` or ``edge_release_topic``; else InputError."""
    parts = topic.split("/")
    if len(parts) < 4 or parts[-3] != "releases":
        raise InputError(f"topic {topic!r} names no release")
    return safe_name(parts[-2], "topic"), safe_name(parts[-1], "topic")


def encode(**fields: Any) -> bytes:
    """Return the payload for ``fields``, with ``v`` first.

    Raises:
        ValueError: longer than MOST_BYTES, or not JSON.
    """
    data = json.dumps({"v": SCHEMA, **fields}, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
    if len(data) > MOST_BYTES:
        raise ValueError(f"MQTT payload of {len(data)} bytes, over {MOST_BYTES}")
    return data


def decode(payload: bytes, what: str) -> Fields:
    """Read a payload.

    Raises:
        InputError: too long, not a JSON object, or a schema this program does not know.
    """
    if len(payload) > MOST_BYTES:
        raise InputError(f"{what}: longer than {MOST_BYTES} bytes")
    fields = Fields(parse_object(payload, what), what)
    if fields.integer("v", 1) != SCHEMA:
        raise InputError(f"{what}: schema {fields.value['v']}, this program knows {SCHEMA}")
    return fields


@dataclass(frozen=True)
class ReleaseNotice:
    """A hint that a release exists; it is trusted for nothing, the signed metadata decides."""

    version: int
    jitter_s: float = 0.0

    def payload(self) -> bytes:
        """Return the MQTT payload."""
        return encode(version=self.version, jitter_s=self.jitter_s)

    @staticmethod
    def parse(payload: bytes) -> "ReleaseNotice":
        """Read an MQTT payload; InputError when it is none."""
        fields = decode(payload, "release notice")
        return ReleaseNotice(fields.integer("version", 1), fields.number("jitter_s", 0, 86_400))
