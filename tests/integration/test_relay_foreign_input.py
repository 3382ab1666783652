"""What a stranger sends to the real relay program: one log line each, and the service goes on."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.broker import parse_broker
from contract.messages import ReleaseNotice
from contract.release import content_path
from edge_relay.notices import Notices
from tests.brokers import Broker
from tests.integration.test_relay_notices import notify
from tests.relay_process import LIMIT_S, RelayProcess
from tests.site_builder import SiteBuilder, frozen, sha256
from tests.site_server import SiteServer, serving

HEADS = [frozen(f"head {number}", 400_000) for number in range(3)]
DIGITS = "9" * 400


@pytest.fixture
def site(tmp_path: Path) -> SiteBuilder:
    built = SiteBuilder(tmp_path / "site")
    built.publish(1, {"head.tflite": HEADS[1]})
    return built


@pytest.fixture
def server(site: SiteBuilder) -> Iterator[SiteServer]:
    with serving(site.folder) as running:
        yield running


@pytest.fixture
def relay(tmp_path: Path, site: SiteBuilder, server: SiteServer, embedded_broker: Broker) -> Iterator[RelayProcess]:
    process = RelayProcess(tmp_path / "relay", server.url, site.root, embedded_broker.url)
    yield process
    process.kill()


def test_a_retained_notice_with_a_number_of_400_digits_is_one_line_at_each_start(
    site: SiteBuilder, embedded_broker: Broker, relay: RelayProcess
) -> None:
    relay.start().wait_for("broker.connected")
    relay.wait_for("version=1")
    notify(embedded_broker, b'{"v":1,"version":2,"jitter_s":%s}' % DIGITS.encode())
    relay.wait_for("notice.refused")
    assert relay.stop() == 0
    mark = len(relay.lines)
    relay.start().wait_for("notice.refused", after=mark)
    assert len(relay.events("notice.refused")) == 2, "one line for each time that it came"
    assert not any("Traceback" in line for line in relay.lines)
    site.publish(2, {"head.tflite": HEADS[2]})
    notify(embedded_broker, ReleaseNotice(2).encode())
    relay.wait_for("release.announced model=household channel=stable version=2")
    assert relay.get(content_path(sha256(HEADS[2])))[1] == HEADS[2]


def test_a_message_that_meets_a_fault_is_logged_and_the_next_one_is_heard(
    embedded_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []

    def hint(model: str, channel: str, version: int) -> None:
        heard.append(version)
        if version == 1:
            raise ZeroDivisionError

    async def scene() -> None:
        notices = Notices(parse_broker(embedded_broker.url), "home", [("household", "stable")], hint)
        task = asyncio.create_task(notices.run())
        async with asyncio.timeout(LIMIT_S):
            for version in (1, 2):
                await asyncio.to_thread(notify, embedded_broker, ReleaseNotice(version).encode())
                while version not in heard:
                    await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(scene())
    assert heard == [1, 2], "and the connection was kept"
    assert [r.getMessage() for r in caplog.records if r.exc_info] == [
        "notice.fault topic=kinwatch/releases/household/stable"
    ]


def test_a_content_range_of_5000_digits_costs_a_try_and_the_content_is_served(
    server: SiteServer, relay: RelayProcess
) -> None:
    path = content_path(sha256(HEADS[1]))
    server.break_after[path] = 100_000
    server.content_ranges = [f"bytes {'9' * 5000}-399999/400000"]
    relay.start().wait_for("release.announced")
    assert server.ranges == ["bytes=100000-"], "it was asked to go on, and said what is no range"
    assert relay.get(path)[1] == HEADS[1]
    assert not any("Traceback" in line for line in relay.lines)


def test_no_header_of_a_device_is_a_fault_of_the_relay(relay: RelayProcess) -> None:
    relay.start().wait_for("release.announced")
    path = content_path(sha256(HEADS[1]))
    headers = [
        ("If-Modified-Since", f"Mon, 01 Jan {DIGITS} 00:00:00 GMT", 400),
        ("If-Unmodified-Since", f"Mon, {DIGITS} Jan 2000 00:00:00 GMT", 400),
        ("If-Range", f"Mon, 01 Jan 2000 {DIGITS}:00:00 GMT", 400),
        ("Range", f"bytes={'9' * 5000}-", 416),
        ("Range", f"bytes=-{'9' * 5000}", 416),
        ("Kinwatch-Device", "\xff" * 20, 206),
        ("Accept-Encoding", "gzip;q=" + DIGITS, 206),
    ]
    for name, value, status in headers:
        assert relay.get(path, {"Range": "bytes=5-", name: value})[0] == status, name
    assert relay.get(path)[1] == HEADS[1]
    assert not any("Traceback" in line for line in relay.lines)


def test_signed_metadata_with_absurd_numbers_costs_a_refresh_and_what_is_here_is_served(
    site: SiteBuilder, server: SiteServer, embedded_broker: Broker, relay: RelayProcess
) -> None:
    relay.start().wait_for("version=1")
    relay.wait_for("broker.connected")
    timestamp = site.folder / "metadata" / "timestamp.json"
    good = timestamp.read_bytes()
    document = json.loads(good)
    document["signed"]["version"] = int(DIGITS)
    timestamp.write_bytes(json.dumps(document).encode())
    notify(embedded_broker, ReleaseNotice(2).encode())
    relay.wait_for("site.failed")
    assert relay.get(content_path(sha256(HEADS[1])))[1] == HEADS[1]
    site.publish(2, {"head.tflite": HEADS[2]})
    relay.wait_for("release.announced model=household channel=stable version=2")
    assert not any("Traceback" in line for line in relay.lines)
