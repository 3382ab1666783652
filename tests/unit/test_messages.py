"""Every MQTT payload: its bytes, its way there and back, and that nothing a peer sends gets past InputError."""

import contextlib
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract import topics
from contract.errors import InputError
from contract.messages import (
    ERROR_MOST,
    MOST_BYTES,
    MOST_STEPS,
    CameraHealth,
    DeviceStatus,
    Message,
    Metrics,
    Motion,
    Presence,
    ReleaseNotice,
    Sighting,
    UpdateState,
    UpdateStatus,
    parse_message,
)

TOPICS = {
    ReleaseNotice: topics.edge_release_topic("home", "household", "stable"),
    DeviceStatus: topics.status_topic("porch"),
    UpdateStatus: topics.update_topic("porch"),
    Metrics: topics.metrics_topic("porch"),
    Motion: topics.home_topic("porch", "motion"),
    Sighting: topics.home_topic("porch", "sightings"),
}
GOLDEN: list[tuple[Message, str]] = [
    (ReleaseNotice(7, 30), '{"v":1,"version":7,"jitter_s":30}'),
    (ReleaseNotice(7), '{"v":1,"version":7,"jitter_s":0.0}'),
    (DeviceStatus(Presence.ONLINE), '{"v":1,"status":"online"}'),
    (DeviceStatus(Presence.OFFLINE), '{"v":1,"status":"offline"}'),
    (
        UpdateStatus(UpdateState.PLANNED),
        '{"v":1,"state":"planned","from":null,"to":null,"bytes":0,"durations_ms":{},"error":null}',
    ),
    (
        UpdateStatus(UpdateState.ROLLED_BACK, 1, 2, 3838, {"download": 7, "patch": 120}, 'es "stürzte" ab'),
        '{"v":1,"state":"rolled_back","from":1,"to":2,"bytes":3838,"durations_ms":{"download":7,"patch":120},'
        '"error":"es \\"stürzte\\" ab"}',
    ),
    (
        Metrics(
            fps=24.97,
            frame_ms=3.1,
            frames=250,
            crops=4,
            temperature_c=51.2,
            motion_ms=0.413,
            detect_ms=14.9,
            tracking_ms=0.02,
            classify_ms=4.1,
            version=2,
            slot="b",
            dropped=1,
        ),
        '{"v":1,"fps":24.97,"frame_ms":3.1,"frames":250,"crops":4,"temperature_c":51.2,"motion_ms":0.413,'
        '"detect_ms":14.9,"tracking_ms":0.02,"classify_ms":4.1,"version":2,"slot":"b","dropped":1}',
    ),
    (
        Metrics(fps=24.97, frame_ms=3.1, frames=250, crops=0),
        '{"v":1,"fps":24.97,"frame_ms":3.1,"frames":250,"crops":0,"version":null,"slot":null,"dropped":0}',
    ),
    (
        Metrics(fps=5, frame_ms=3.1, frames=250, crops=0, accelerator="failed", accelerator_faults=3),
        '{"v":1,"fps":5,"frame_ms":3.1,"frames":250,"crops":0,"version":null,"slot":null,"dropped":0,'
        '"accelerator":"failed","accelerator_faults":3}',
    ),
    (
        Metrics(
            fps=9.9,
            frame_ms=3.1,
            frames=250,
            crops=0,
            camera=CameraHealth(state="refused", fps=10.02, lost=3, restarts=12),
        ),
        '{"v":1,"fps":9.9,"frame_ms":3.1,"frames":250,"crops":0,"version":null,"slot":null,"dropped":0,'
        '"camera":{"state":"refused","fps":10.02,"lost":3,"restarts":12}}',
    ),
    (Motion(True), '{"v":1,"motion":true}'),
    (
        Sighting(
            device="porch",
            visit="5eed0001-7",
            track=7,
            label="björn",
            confidence=0.9123,
            version=3,
            crops=5,
            frame=118,
            box=(10, 20, 30, 90),
            picture=(640, 480),
            first_frame=100,
            last_frame=120,
            start="1970-01-01T00:00:00.000Z",
            end="1970-01-01T00:00:01.500Z",
            slot="a",
            zone="door",
            votes={"björn": 4, "anna": 1},
        ),
        '{"v":1,"device":"porch","visit":"5eed0001-7","track":7,"label":"björn","confidence":0.9123,"version":3,'
        '"crops":5,"frame":118,"box":[10,20,30,90],"picture":[640,480],"first_frame":100,"last_frame":120,'
        '"start":"1970-01-01T00:00:00.000Z","end":"1970-01-01T00:00:01.500Z","slot":"a","zone":"door",'
        '"votes":{"björn":4,"anna":1},"upgrade":false}',
    ),
]
PAYLOADS = [(TOPICS[type(message)], text.encode()) for message, text in GOLDEN]

COUNTS, VERSIONS = st.integers(0, 2**53), st.integers(1, 2**53)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
TIMES = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
NUMBERS = st.floats(0, 1e30)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(ReleaseNotice, VERSIONS, st.floats(0, 86_400) | st.integers(0, 86_400)),
    st.builds(DeviceStatus, st.sampled_from(Presence)),
    st.builds(
        UpdateStatus,
        st.sampled_from(UpdateState),
        st.none() | VERSIONS,
        st.none() | VERSIONS,
        COUNTS,
        st.dictionaries(NAMES, COUNTS, max_size=MOST_STEPS),
        st.none() | st.text(max_size=ERROR_MOST),
    ),
    st.builds(
        Metrics,
        fps=NUMBERS,
        frame_ms=NUMBERS,
        frames=COUNTS,
        crops=COUNTS,
        temperature_c=st.none() | st.floats(-274, 1000),
        motion_ms=st.none() | NUMBERS,
        detect_ms=st.none() | NUMBERS,
        tracking_ms=st.none() | NUMBERS,
        classify_ms=st.none() | NUMBERS,
        version=st.none() | VERSIONS,
        slot=st.none() | st.sampled_from("ab"),
        dropped=COUNTS,
    ),
    st.builds(Motion, st.booleans()),
    st.builds(
        Sighting,
        device=NAMES,
        visit=NAMES,
        track=COUNTS,
        label=st.text(max_size=64),
        confidence=st.floats(0, 1).map(lambda value: round(value, 4)),
        version=VERSIONS,
        crops=COUNTS,
        frame=COUNTS,
        box=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS),
        picture=st.tuples(COUNTS, COUNTS),
        first_frame=COUNTS,
        last_frame=COUNTS,
        start=TIMES,
        end=st.none() | TIMES,
        slot=st.none() | NAMES,
        zone=st.none() | NAMES,
        votes=st.dictionaries(st.text(max_size=64), COUNTS, max_size=5),
        upgrade=st.booleans(),
    ),
)
HOSTILE = st.sampled_from(
    [
        json.dumps(10**399),
        json.dumps(-(10**399)),
        "9" * 5000,
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "null",
        "true",
        '"\\ud800"',
        json.dumps("x" * 5000),
        "[" * 3000 + "]" * 3000,
        '{"a":' * 2000 + "1" + "}" * 2000,
        json.dumps([1] * 2000),
        "{}",
        "-1",
        "0",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def documented() -> dict[str, list[str]]:
    """Return the fields of each payload, by topic, as the protocol document lists them."""
    table = (Path(__file__).parents[2] / "docs" / "update-protocol.md").read_text().split("## Messages")[1]
    rows = re.findall(r"^\| `(kinwatch/[^`]*)` \|[^|]*\| `\{(.*?)\}`", table, re.MULTILINE)
    names = {"<relay>": "home", "<model>": "household", "<channel>": "stable", "<id>": "porch"}
    return {re.sub(r"<\w+>", lambda found: names[found[0]], topic): fields.split(", ") for topic, fields in rows}


def test_the_protocol_document_lists_every_message_with_its_fields_in_their_order() -> None:
    fullest = {TOPICS[type(message)]: list(json.loads(text)) for message, text in reversed(GOLDEN)}
    fullest[topics.metrics_topic("porch")] = ["v", *(field.name for field in dataclasses.fields(Metrics))]
    fullest[topics.release_topic("household", "stable")] = fullest[TOPICS[ReleaseNotice]]
    assert documented() == fullest


@pytest.mark.parametrize(("message", "text"), GOLDEN)
def test_the_bytes_of_a_message_do_not_change(message: Message, text: str) -> None:
    assert message.encode() == text.encode()
    assert parse_message(TOPICS[type(message)], text.encode()) == message


@pytest.mark.slow
@given(MESSAGES)
def test_what_was_written_is_read_back(message: Message) -> None:
    payload = message.encode()
    assert payload.startswith(b'{"v":1,')
    assert parse_message(TOPICS[type(message)], payload) == message


def test_unknown_fields_pass() -> None:
    for topic, payload in PAYLOADS:
        later = json.dumps({**json.loads(payload), "later": [{}]}).encode()
        assert parse_message(topic, later) == parse_message(topic, payload)


def test_a_schema_of_the_future_is_refused_by_name() -> None:
    for topic, payload in PAYLOADS:
        with pytest.raises(InputError, match="schema 2, this program knows 1"):
            parse_message(topic, payload.replace(b'"v":1', b'"v":2'))


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{", b'{"v":2,"version":1,"jitter_s":0}', b'{"v":1,"version":0,"jitter_s":0}', b"[" * 9999],
)
def test_a_wrong_notice_is_refused(payload: bytes) -> None:
    with pytest.raises(InputError):
        ReleaseNotice.parse(payload)


@pytest.mark.parametrize(
    ("topic", "old", "new"),
    [
        (topics.status_topic("porch"), b'"online"', b'"asleep"'),
        (topics.update_topic("porch"), b'"planned"', b'"flying"'),
        (topics.update_topic("porch"), b'"durations_ms":{}', b'"durations_ms":{"a b":1}'),
        (topics.update_topic("porch"), b'"error":null', b'"error":"%s"' % (b"x" * 501)),
        (topics.home_topic("porch", "sightings"), b"[10,20,30,90]", b"[10,20,30]"),
        (topics.home_topic("porch", "sightings"), b"[10,20,30,90]", b'[10,20,30,"90"]'),
        (topics.home_topic("porch", "sightings"), b"1970-01-01T00:00:00.000Z", b"yesterday"),
        (topics.home_topic("porch", "sightings"), b'"1970-01-01T00:00:01.500Z"', b"1.5"),
        (topics.home_topic("porch", "sightings"), b'"anna":1', b'"anna":-1'),
        (topics.home_topic("porch", "sightings"), b'"anna":1', b'"%s":1' % (b"x" * 65)),
        (topics.home_topic("porch", "sightings"), b"[640,480]", b"[640]"),
        (topics.home_topic("porch", "sightings"), b'"zone":"door"', b'"zone":"a/b"'),
        (topics.home_topic("porch", "sightings"), b"0.9123", b"1.01"),
        (topics.metrics_topic("porch"), b'"fps":24.97', b'"fps":NaN'),
        (topics.home_topic("porch", "motion"), b"true", b"1"),
    ],
)
def test_a_field_that_is_wrong_is_refused(topic: str, old: bytes, new: bytes) -> None:
    payload = next(payload for place, payload in PAYLOADS if place == topic and old in payload)
    with pytest.raises(InputError):
        parse_message(topic, payload.replace(old, new))


def test_a_message_that_a_broker_would_not_take_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="over 16384"):
        UpdateStatus(UpdateState.FAILED, error="x" * MOST_BYTES).encode()
    with pytest.raises(InputError, match="longer than 16384"):
        UpdateStatus.parse(b" " * (MOST_BYTES + 1))


def test_an_error_that_names_a_file_in_no_encoding_can_be_told() -> None:
    told = UpdateStatus(UpdateState.FAILED, error="/data/\udcff: read-only").encode()
    assert UpdateStatus.parse(told).error == "/data/?: read-only"


# --- whatever the bytes ---------------------------------------------------------------------------------------------


def check_total(topic: str, payload: bytes) -> None:
    """Assert that ``payload`` is refused, or read as something that can be written again."""
    with contextlib.suppress(InputError):
        parse_message(topic, payload).encode()


@given(
    st.sampled_from(list(TOPICS.values())),
    st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_any_bytes_are_a_message_or_an_input_error(topic: str, payload: bytes) -> None:
    check_total(topic, payload)


@given(st.sampled_from(PAYLOADS), st.data())
def test_any_field_may_be_hostile(case: tuple[str, bytes], data: st.DataObject) -> None:
    topic, payload = case
    fields: dict[str, Any] = json.loads(payload)
    key = data.draw(st.sampled_from(list(fields)))
    fields[key] = "@"
    hostile = data.draw(HOSTILE | JSON.map(json.dumps))
    check_total(topic, json.dumps(fields).replace('"@"', hostile).encode(errors="replace"))


@given(st.sampled_from(PAYLOADS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_any_byte_may_turn(case: tuple[str, bytes], turns: list[tuple[int, int]]) -> None:
    topic, payload = case
    damaged = bytearray(payload)
    for place, value in turns:
        damaged[place % len(damaged)] = value
    check_total(topic, bytes(damaged))


@given(st.text(), st.binary(max_size=40))
@example("kinwatch/devices/\ud800/status", b"{}")
@example("/" * 500, b"{}")
@example("kinwatch/edge/x/status", b"{}")
def test_any_topic_is_one_of_ours_or_an_input_error(topic: str, payload: bytes) -> None:
    check_total(topic, payload)


# --- topics ---------------------------------------------------------------------------------------------------------


def test_release_topics_give_back_model_and_channel() -> None:
    for topic in (topics.release_topic("m", "beta"), topics.edge_release_topic("r", "m", "beta")):
        assert topics.split_release_topic(topic) == ("m", "beta")
        assert topics.topic_kind(topic) is topics.Kind.RELEASES
    with pytest.raises(InputError):
        topics.split_release_topic("kinwatch/releases/../x y")


def test_device_topics_give_back_the_device_and_what_is_said() -> None:
    for topic in (topics.status_topic("p"), topics.update_topic("p"), topics.metrics_topic("p")):
        device, kind = topics.split_device_topic(topic)
        assert (device, kind) == ("p", topic.split("/")[-1])
        assert topics.topic_kind(topic) is kind
    assert topics.split_device_topic(topics.home_topic("p", "motion")) == ("p", topics.Kind.MOTION)
    for wrong in ("kinwatch/home/p/status", "kinwatch/devices/p/crop", "kinwatch/devices/p", "a/devices/p/status"):
        with pytest.raises(InputError):
            topics.split_device_topic(wrong)


def test_a_sighting_says_when_the_clock_was_never_set() -> None:
    sighting = next(message for message, _ in GOLDEN if isinstance(message, Sighting))
    unset = dataclasses.replace(sighting, clock_set=False)
    assert unset.encode() == sighting.encode()[:-1] + b',"clock_set":false}'
    assert Sighting.parse(unset.encode()) == unset
    assert Sighting.parse(sighting.encode()).clock_set
