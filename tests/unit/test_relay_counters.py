"""What the relay counts, and for whom."""

import pytest

from edge_relay.counters import (
    KINDS,
    MOST_DEVICES,
    OVERFLOW,
    Counters,
    device_name,
    head_bytes,
    kind_of,
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/metadata/timestamp.json", "metadata"),
        ("/targets/household/1/x.release.json", "manifest"),
        ("/content/00ff", "content"),
        ("/stats", "other"),
        ("/contents", "other"),
        ("/", "other"),
    ],
)
def test_the_kind_of_a_request_is_that_of_its_folder(path: str, kind: str) -> None:
    assert kind_of(path) == kind


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"Kinwatch-Device": "porch"}, "porch"),
        ({}, "10.0.0.7"),
        ({"Kinwatch-Device": "a b"}, "10.0.0.7"),
        ({"Kinwatch-Device": "x" * 65}, "10.0.0.7"),
    ],
)
def test_a_request_counts_for_the_named_device_or_the_address(headers: dict[str, str], name: str) -> None:
    assert device_name(headers, "10.0.0.7") == name


def test_totals_are_the_sum_over_devices() -> None:
    counters = Counters()
    for device, kind, size in (("a", "content", 5), ("b", "content", 7), ("a", "metadata", 11)):
        traffic = counters.traffic(device, kind)
        traffic.requests += 1
        traffic.body_bytes += size
    shown = counters.snapshot()
    assert shown["totals"]["content"] == {"requests": 2, "body_bytes": 12, "header_bytes": 0}
    assert shown["devices"]["a"]["metadata"]["body_bytes"] == 11
    assert "content" in shown["devices"]["b"]
    assert set(shown["totals"]) == set(KINDS)


def test_invented_device_names_cannot_fill_the_memory() -> None:
    counters = Counters()
    for number in range(MOST_DEVICES + 50):
        counters.traffic(f"d{number}", "other").requests += 1
    assert len(counters.devices) == MOST_DEVICES + 1
    assert counters.devices[OVERFLOW]["other"].requests == 50
    assert counters.snapshot()["totals"]["other"]["requests"] == MOST_DEVICES + 50


def test_the_head_of_a_response_is_counted_as_it_is_sent() -> None:
    sent = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "x"\r\n\r\n'
    assert head_bytes(200, "OK", {"Content-Length": "2", "ETag": '"x"'}) == len(sent)
