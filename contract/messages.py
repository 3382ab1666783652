"""Owns every payload that goes over MQTT, as frozen types that read and write themselves. Refuses to connect.

    topic of (contract.topics)            payload          retained
    release_topic, edge_release_topic     ReleaseNotice    yes
    status_topic                          DeviceStatus     yes; offline is the last will
    update_topic                          UpdateStatus     yes
    metrics_topic                         Metrics          yes
    home_topic motion                     Motion           no; stays at home
    home_topic sightings                  Sighting         no; stays at home

A payload is a JSON object with ``v`` (schema) first. Unknown fields pass, known ones of a wrong type do not. Reading
raises InputError and nothing else, whatever the bytes: anybody who reaches the broker can send some.
"""

import datetime as dt
import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from contract.checks import Fields, parse_object, safe_name
from contract.errors import InputError
from contract.names import display_name
from contract.rollout import LONGEST_JITTER_S
from contract.topics import Kind, topic_kind

SCHEMA = 1
MOST_BYTES = 16_384  # an embedded broker's default limit is 20 KB
ERROR_MOST = 500  # characters
MOST_STEPS = 32  # of an update, each with a duration
LABEL_MOST = 64  # characters
MOST_VOTES = 128  # labels of a sighting
_Enum = TypeVar("_Enum", bound=enum.StrEnum)
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class ReleaseNotice:
    """A hint that a release exists; it is trusted for nothing, the signed metadata decides."""

    version: int
    jitter_s: float = 0.0

    def encode(self) -> bytes:
        """Return the payload."""
        return _encode(version=self.version, jitter_s=self.jitter_s)

    @staticmethod
    def parse(payload: bytes) -> "ReleaseNotice":
        """Read a payload; InputError when it is none."""
        fields = _decode(payload, "release notice")
        return ReleaseNotice(fields.integer("version", 1), fields.number("jitter_s", 0, LONGEST_JITTER_S))


class Presence(enum.StrEnum):
    """Whether a device is there."""

    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True)
class DeviceStatus:
    """Whether a device is there: online from itself, offline from itself or, as its last will, from the broker."""

    status: Presence

    def encode(self) -> bytes:
        """Return the payload."""
        return _encode(status=self.status)

    @staticmethod
    def parse(payload: bytes) -> "DeviceStatus":
        """Read a payload; InputError when it is none."""
        return DeviceStatus(_member(_decode(payload, "device status"), "status", Presence))


class UpdateState(enum.StrEnum):
    """Where an update stands."""

    PLANNED = "planned"
    DOWNLOADING = "downloading"
    MATERIALISING = "materialising"
    VERIFYING = "verifying"
    TESTING = "testing"
    TRIAL = "trial"
    PROBATION = "probation"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class UpdateStatus:
    """One moment of an update from release ``before`` to release ``after``, as far as they are known.

    ``received`` counts body bytes, metadata included; ``durations_ms`` is by step; ``error`` is one line, capped.
    """

    state: UpdateState
    before: int | None = None
    after: int | None = None
    received: int = 0
    durations_ms: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return the members of the payload, without ``v``."""
        return {
            "state": self.state,
            "from": self.before,
            "to": self.after,
            "bytes": self.received,
            "durations_ms": dict(self.durations_ms),
            "error": self.error,
        }

    def encode(self) -> bytes:
        """Return the payload."""
        return _encode(**self.fields())

    @staticmethod
    def parse(payload: bytes) -> "UpdateStatus":
        """Read a payload; InputError when it is none."""
        fields = _decode(payload, "update status")
        return UpdateStatus(
            state=_member(fields, "state", UpdateState),
            before=_optional(fields, "from", lambda key: fields.integer(key, 1)),
            after=_optional(fields, "to", lambda key: fields.integer(key, 1)),
            received=fields.integer("bytes"),
            durations_ms=_durations(fields.object("durations_ms")),
            error=_optional(fields, "error", lambda key: fields.text(key, ERROR_MOST)),
        )


@dataclass(frozen=True, kw_only=True)
class CameraHealth:
    """How a device's camera does: its state, and ``restarts`` (connections begun anew) since the agent's start.

    ``fps``: pictures a second that it gave since the last message. ``lost``: pictures since the start that were
    damaged, or came faster than they were looked at.
    """

    state: str
    fps: float
    lost: int
    restarts: int

    @staticmethod
    def of(fields: Fields) -> "CameraHealth":
        """Read a member of a payload; a state that a later agent knows is one."""
        return CameraHealth(
            state=fields.name("state"),
            fps=fields.number("fps", 0),
            lost=fields.integer("lost"),
            restarts=fields.integer("restarts"),
        )


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What a device counted and measured: means since its last message, and ``frames`` and ``crops`` since its start.

    ``temperature_c`` and the times of the stages are left out where nothing was measured. ``version`` and ``slot``
    are of the running release, None without one; ``dropped`` counts frames that came too fast. ``accelerator`` (its
    state; ``failed``: the processor answers) and ``accelerator_faults``, since the start, are left out where none is;
    ``camera`` by older agents.
    """

    fps: float
    frame_ms: float
    frames: int
    crops: int
    temperature_c: float | None = None
    motion_ms: float | None = None
    detect_ms: float | None = None
    tracking_ms: float | None = None
    classify_ms: float | None = None
    version: int | None = None
    slot: str | None = None
    dropped: int = 0
    accelerator: str | None = None
    accelerator_faults: int | None = None
    camera: CameraHealth | None = None

    def encode(self) -> bytes:
        """Return the payload."""
        fields = {**vars(self), "camera": self.camera and vars(self.camera)}
        always = ("version", "slot")
        return _encode(**{key: value for key, value in fields.items() if value is not None or key in always})

    @staticmethod
    def parse(payload: bytes) -> "Metrics":
        """Read a payload; InputError when it is none."""
        fields = _decode(payload, "metrics")
        return Metrics(
            fps=fields.number("fps", 0),
            frame_ms=fields.number("frame_ms", 0),
            frames=fields.integer("frames"),
            crops=fields.integer("crops"),
            temperature_c=_optional(fields, "temperature_c", lambda key: fields.number(key, -274, 1000)),
            motion_ms=_optional(fields, "motion_ms", lambda key: fields.number(key, 0)),
            detect_ms=_optional(fields, "detect_ms", lambda key: fields.number(key, 0)),
            tracking_ms=_optional(fields, "tracking_ms", lambda key: fields.number(key, 0)),
            classify_ms=_optional(fields, "classify_ms", lambda key: fields.number(key, 0)),
            version=_optional(fields, "version", lambda key: fields.integer(key, 1)),
            slot=_optional(fields, "slot", fields.name),
            dropped=fields.integer("dropped"),
            accelerator=_optional(fields, "accelerator", fields.name),
            accelerator_faults=_optional(fields, "accelerator_faults", fields.integer),
            camera=_optional(fields, "camera", lambda key: CameraHealth.of(fields.object(key))),
        )


@dataclass(frozen=True)
class Motion:
    """Motion began, or ended, in front of a device."""

    motion: bool

    def encode(self) -> bytes:
        """Return the payload."""
        return _encode(motion=self.motion)

    @staticmethod
    def parse(payload: bytes) -> "Motion":
        """Read a payload; InputError when it is none."""
        return Motion(_decode(payload, "motion").boolean("motion"))


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What is known of one visit: one person, from coming into the picture to leaving it.

    It is told when the visit is decided (``end`` is None then), again if that is corrected (``upgrade``), and once
    when the person has left, with ``end``. So ``visit`` joins what belongs together, and whoever counts sightings
    counts those with an ``end``: one a visit. A visit that was not decided before is told at its end alone.

    ``name``: what people see instead of ``label``, None where the release has no such name (``contract.names``).
    ``visit``: the same in every message of it, and never again. ``track``: its number since the agent started.
    ``confidence``: mean probability of ``label`` at the decision (for ``unknown``: of the likeliest member).
    ``crops``: how many crops were looked at until now; ``votes``: how many of them were most like each label.
    ``version``, ``slot``: the release that decided. ``zone``: where the person was most of the time, None outside of
    every zone. ``frame``, ``box`` (x, y, width, height in pixels): the best crop, and ``picture`` (width, height) the
    size of the frame that it is in. ``first_frame``, ``last_frame``: indexes of frames. ``start``, ``end``: UTC, ISO
    8601. ``clock_set`` False: the device's clock was never set (it starts in 1970), so that the times tell only what
    was before what.
    """

    device: str
    visit: str
    track: int
    label: str
    confidence: float
    version: int
    crops: int
    frame: int
    box: tuple[int, int, int, int]
    picture: tuple[int, int]
    first_frame: int
    last_frame: int
    start: str
    end: str | None = None
    slot: str | None = None
    zone: str | None = None
    votes: Mapping[str, int] = field(default_factory=dict)
    upgrade: bool = False
    clock_set: bool = True
    name: str | None = None

    def encode(self) -> bytes:
        """Return the payload; the confidence has four digits, a clock is told of only if it is not set."""
        fields = {**vars(self), "confidence": round(self.confidence, 4), "votes": dict(self.votes)}
        if self.clock_set:
            del fields["clock_set"]
        if self.name is None:
            del fields["name"]
        return _encode(**fields)

    @staticmethod
    def parse(payload: bytes) -> "Sighting":
        """Read a payload; InputError when it is none."""
        fields = _decode(payload, "sighting")
        return Sighting(
            device=fields.name("device"),
            visit=fields.name("visit"),
            track=fields.integer("track"),
            label=fields.text("label", LABEL_MOST),
            confidence=fields.number("confidence", 0, 1),
            version=fields.integer("version", 1),
            crops=fields.integer("crops"),
            frame=fields.integer("frame"),
            box=_box(fields),
            picture=_picture(fields),
            first_frame=fields.integer("first_frame"),
            last_frame=fields.integer("last_frame"),
            start=_time(fields, "start"),
            end=_optional(fields, "end", lambda key: _time(fields, key)),
            slot=_optional(fields, "slot", fields.name),
            zone=_optional(fields, "zone", fields.name),
            votes=_votes(fields.object("votes")),
            upgrade=fields.boolean("upgrade"),
            clock_set=_optional(fields, "clock_set", fields.boolean) is not False,
            name=_optional(fields, "name", lambda key: display_name(fields.text(key), fields.where)),
        )


Message = ReleaseNotice | DeviceStatus | UpdateStatus | Metrics | Motion | Sighting

_PARSERS: dict[Kind, Callable[[bytes], Message]] = {
    Kind.RELEASES: ReleaseNotice.parse,
    Kind.STATUS: DeviceStatus.parse,
    Kind.UPDATE: UpdateStatus.parse,
    Kind.METRICS: Metrics.parse,
    Kind.MOTION: Motion.parse,
    Kind.SIGHTINGS: Sighting.parse,
}


def parse_message(topic: str, payload: bytes) -> Message:
    """Read what was said on ``topic``.

    Raises:
        InputError: the topic is none of ours, or the payload is not of the kind that belongs there.
    """
    return _PARSERS[topic_kind(topic)](payload)


def _encode(**fields: Any) -> bytes:
    """Return the payload for ``fields``, with ``v`` first.

    Raises:
        ValueError: longer than MOST_BYTES, or not JSON.
    """
    text = json.dumps({"v": SCHEMA, **fields}, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    data = text.encode(errors="replace")  # a file name in an error may hold what is no character
    if len(data) > MOST_BYTES:
        raise ValueError(f"MQTT payload of {len(data)} bytes, over {MOST_BYTES}")
    return data


def _decode(payload: bytes, what: str) -> Fields:
    if len(payload) > MOST_BYTES:
        raise InputError(f"{what}: longer than {MOST_BYTES} bytes")
    fields = Fields(parse_object(payload, what), what)
    if fields.integer("v", 1) != SCHEMA:
        raise InputError(f"{what}: schema {fields.value['v']}, this program knows {SCHEMA}")
    return fields


def _optional(fields: Fields, key: str, read: Callable[[str], _Value]) -> _Value | None:
    return None if fields.value.get(key) is None else read(key)


def _member(fields: Fields, key: str, kind: type[_Enum]) -> _Enum:
    try:
        return kind(fields.text(key))
    except ValueError as error:
        raise InputError(f"{fields.where}: {key} must be one of {', '.join(kind)}") from error


def _durations(fields: Fields) -> dict[str, int]:
    if len(fields.value) > MOST_STEPS:
        raise InputError(f"{fields.where}: more than {MOST_STEPS} steps")
    return {safe_name(step, fields.where): fields.integer(step) for step in fields.value}


def _votes(fields: Fields) -> dict[str, int]:
    if len(fields.value) > MOST_VOTES or any(len(label) > LABEL_MOST for label in fields.value):
        raise InputError(f"{fields.where}: more than {MOST_VOTES} labels, or one over {LABEL_MOST} characters")
    return {label: fields.integer(label) for label in fields.value}


def _picture(fields: Fields) -> tuple[int, int]:
    sides = Fields(dict(zip("wh", fields.items("picture", 2), strict=False)), f"{fields.where}: picture")
    return sides.integer("w"), sides.integer("h")


def _box(fields: Fields) -> tuple[int, int, int, int]:
    sides = Fields(dict(zip("xywh", fields.items("box", 4), strict=False)), f"{fields.where}: box")
    return sides.integer("x"), sides.integer("y"), sides.integer("w"), sides.integer("h")


def _time(fields: Fields, key: str) -> str:
    text = fields.text(key, 40)
    try:
        dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{fields.where}: {key} must be a time in ISO 8601") from error
    return text
