"""Owns the MQTT topics: what is said where, about which device or release. Refuses payloads (``contract.messages``).

Topics under ``kinwatch/home/`` stay at home: a bridge to the cloud must never carry them.
"""

import enum

from contract.checks import safe_name
from contract.errors import InputError


class Kind(enum.StrEnum):
    """What is said on a topic; the values are the words that topics are made of."""

    RELEASES = "releases"
    STATUS = "status"
    UPDATE = "update"
    METRICS = "metrics"
    MOTION = "motion"
    SIGHTINGS = "sightings"


def release_topic(model: str, channel: str) -> str:
    """Cloud to relays: a release exists (retained)."""
    return f"kinwatch/releases/{model}/{channel}"


def edge_release_topic(relay: str, model: str, channel: str) -> str:
    """Relay to its devices: a release is verified and cached here (retained)."""
    return f"kinwatch/edge/{relay}/releases/{model}/{channel}"


def status_topic(device: str) -> str:
    """Device: online or offline (retained; offline is the last will)."""
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


def topic_kind(topic: str) -> Kind:
    """Return what is said on ``topic``; InputError when it is none of ours."""
    parts = _parts(topic)
    return Kind.RELEASES if _is_release(parts) else _split_device(parts)[1]


def split_release_topic(topic: str) -> tuple[str, str]:
    """Return (model, channel) of a topic made by ``release_topic`` or ``edge_release_topic``; else InputError."""
    parts = _parts(topic)
    if not _is_release(parts):
        raise InputError(f"topic {'/'.join(parts)} names no release")
    return parts[-2], parts[-1]


def split_device_topic(topic: str) -> tuple[str, Kind]:
    """Return (device, what is said) of a topic that a device speaks on; else InputError."""
    return _split_device(_parts(topic))


def _parts(topic: str) -> list[str]:
    if len(topic) > 400:
        raise InputError(f"topic of {len(topic)} characters")
    return [safe_name(part, "topic") for part in topic.split("/")]


def _is_release(parts: list[str]) -> bool:
    match parts:
        case ["kinwatch", "releases", _, _] | ["kinwatch", "edge", _, "releases", _, _]:
            return True
    return False


def _split_device(parts: list[str]) -> tuple[str, Kind]:
    match parts:
        case ["kinwatch", "devices", device, "status" | "update" | "metrics" as kind]:
            return device, Kind(kind)
        case ["kinwatch", "home", device, "motion" | "sightings" as kind]:
            return device, Kind(kind)
    raise InputError(f"topic {'/'.join(parts)} is none of ours")
