"""The real relay program in front of a site that misbehaves: what devices get, and what the site is asked."""

import gzip
import http.client
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.release import content_path
from contract.trust import TrustedSite
from tests.relay_process import RelayProcess
from tests.site_builder import SiteBuilder, frozen, sha256
from tests.site_server import SiteServer, serving

BACKBONE = frozen("backbone", 700_000)
HEADS = [frozen(f"head {number}", 40_000) for number in range(4)]
PATCH = frozen("patch", 3_000)
MANIFEST = b'{"labels":["%s"],"release":2}' % b'","'.join(b"person_%d" % number for number in range(30))


@dataclass
class Place:
    """A site with release 1 (whole files) and release 2 (a patched head), its server, and a relay not yet started."""

    site: SiteBuilder
    server: SiteServer
    relay: RelayProcess
    folder: Path


@contextmanager
def new_place(folder: Path) -> Iterator[Place]:
    site = SiteBuilder(folder / "site")
    site.publish(1, {"backbone.tflite": BACKBONE, "head.tflite": HEADS[1]})
    second = {"backbone.tflite": BACKBONE, "head.tflite": HEADS[2]}
    site.publish(2, second, [("head.tflite", sha256(HEADS[1]), PATCH)], manifest=MANIFEST)
    with serving(folder / "site") as server:
        relay = RelayProcess(folder / "relay", server.url, site.root)
        try:
            yield Place(site, server, relay, folder)
        finally:
            relay.kill()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place of the test's own, with the relay not yet started."""
    with new_place(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place whose relay runs and has announced release 2; for tests that leave it as it was."""
    with new_place(tmp_path_factory.mktemp("running")) as made:
        made.relay.start().wait_for("release.announced")
        yield made


def url_of(data: bytes) -> str:
    return content_path(sha256(data))


def test_a_device_verifies_releases_through_the_relay_alone(place: Place) -> None:
    place.relay.start().wait_for("release.announced")
    place.server.stop()
    device = TrustedSite(place.relay.url, place.site.root, place.folder / "device")
    view = device.refresh()
    assert view.newest("household", "stable") == 2
    assert view.release("household", 2).target.patches[0].sha256 == sha256(PATCH)
    assert place.relay.get(url_of(PATCH))[1] == PATCH


def test_manifests_and_metadata_travel_compressed_to_who_takes_it_and_contents_as_they_are(running: Place) -> None:
    for path, kept in small_json(running):
        data = kept.read_bytes()
        status, plain, headers = asked(running.relay.url, path, "identity")
        assert (status, plain, headers.get("Content-Encoding")) == (200, data, None)
        status, short, headers = asked(running.relay.url, path, "br, gzip;q=0.5")
        assert (status, gzip.decompress(short), headers["Content-Encoding"]) == (200, data, "gzip")
        assert headers["Vary"] == "Accept-Encoding"
        assert len(short) < len(data)
    status, content, headers = asked(running.relay.url, url_of(PATCH), "gzip")
    assert (status, content, headers.get("Content-Encoding")) == (200, PATCH, None)


def small_json(place: Place) -> list[tuple[str, Path]]:
    """Return the path at the relay and the site's file of a manifest and of signed metadata."""
    (manifest,) = (place.folder / "site/targets/household/2").iterdir()
    return [
        (f"targets/household/2/{manifest.name}", manifest),
        ("metadata/timestamp.json", place.folder / "site/metadata/timestamp.json"),
    ]


def asked(url: str, path: str, encoding: str) -> tuple[int, bytes, Mapping[str, str]]:
    """Ask as a device does that takes ``encoding``; return status, body as it travelled, headers."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", f"/{path}", headers={"Accept-Encoding": encoding})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def test_fifty_devices_that_ask_together_cause_one_request_to_the_site(place: Place) -> None:
    place.relay.start().wait_for("release.announced")
    place.server.gate.clear()
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(place.relay.get, url_of(BACKBONE)) for _ in range(50)]
        place.relay.wait_until(lambda: place.relay.stats()["cache"]["joined"] == 49, "all fifty wait")
        place.server.gate.set()
        assert {(answer.result()[0], sha256(answer.result()[1])) for answer in answers} == {(200, sha256(BACKBONE))}
    assert place.server.requests[url_of(BACKBONE)] == 1
    assert place.relay.stats()["devices"]["127.0.0.1"]["content"]["body_bytes"] == 50 * len(BACKBONE)


def test_tampered_contents_are_never_served(place: Place) -> None:
    originals = [frozen(f"original {number}", 50_000) for number in range(5)]
    place.site.publish(3, {f"f{number}.tflite": data for number, data in enumerate(originals)})
    tampered = [bytes(50_000), originals[1][:-1], originals[2] + b"x", b"", b"<html>"]
    for original, body in zip(originals, tampered, strict=True):
        place.server.bodies[url_of(original)] = body
    place.relay.start().wait_for("prefetch.failed")
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(place.relay.get, map(url_of, originals)))
    assert all(status in (502, 503) and body.count(b"\n") == 1 for status, body, _ in answers)
    assert not any((place.relay.data / url_of(original)).exists() for original in originals)
    assert place.relay.stats()["announced"] == {}
    place.server.bodies.clear()
    place.relay.wait_for("release.announced")
    assert [place.relay.get(url_of(original))[1] for original in originals] == originals


def test_what_no_signed_metadata_names_does_not_exist(running: Place) -> None:
    (running.folder / "site" / url_of(b"unsigned")).write_bytes(b"unsigned")
    asked = dict(running.server.requests)
    for path in (
        url_of(b"unsigned"),
        f"targets/household/9/{sha256(b'x')}.release.json",
        "targets/../relay.toml",
        "metadata/2.root.json",
        "metadata/1.household.json",
        "metadata/..%2Frelay.toml",
        "metadata/root.json",
        "content/",
        "",
    ):
        status, body, headers = running.relay.get(path)
        assert (status, "html" in headers["Content-Type"]) == (404, False), path
        assert body.count(b"\n") == 1
    assert dict(running.server.requests) == asked, "an unknown path is not worth a request to the site"


def test_a_fetch_that_breaks_is_resumed_where_it_ended(place: Place) -> None:
    place.server.break_after[url_of(BACKBONE)] = 300_000
    place.relay.start().wait_for("release.announced")
    assert place.relay.get(url_of(BACKBONE))[:2] == (200, BACKBONE)
    assert len(place.server.ranges) == 1
    start = int(place.server.ranges[0].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 300_000
    assert place.relay.stats()["upstream"]["bytes"] < len(BACKBONE) + 50_000


def test_a_site_that_cannot_resume_is_read_again_from_zero(place: Place) -> None:
    place.server.resumes = False
    place.server.break_after[url_of(BACKBONE)] = 300_000
    place.relay.start().wait_for("release.announced")
    assert place.relay.get(url_of(BACKBONE))[:2] == (200, BACKBONE)
    assert place.server.requests[url_of(BACKBONE)] == 2


def test_what_is_cached_is_served_while_the_site_is_down(place: Place) -> None:
    place.relay.start().wait_for("release.announced")
    assert place.relay.get(url_of(BACKBONE))[0] == 200
    place.server.stop()
    assert place.relay.get(url_of(BACKBONE))[:2] == (200, BACKBONE)
    assert place.relay.get(url_of(PATCH))[:2] == (200, PATCH)
    assert place.relay.get("metadata/timestamp.json")[0] == 200
    status, _, headers = place.relay.get(url_of(HEADS[2]))
    assert (status, headers["Retry-After"]) == (503, "5")


def test_a_restart_keeps_cache_and_metadata_and_needs_no_site(place: Place) -> None:
    place.relay.start().wait_for("release.announced")
    assert place.relay.get(url_of(BACKBONE))[0] == 200
    timestamp = place.relay.get("metadata/timestamp.json")[1]
    assert place.relay.stop() == 0
    place.server.stop()
    place.relay.start()
    assert place.relay.get("metadata/timestamp.json")[1] == timestamp
    assert place.relay.get(url_of(BACKBONE))[:2] == (200, BACKBONE)
    assert place.relay.get(url_of(PATCH))[:2] == (200, PATCH)
    stats = place.relay.stats()
    assert stats["upstream"]["fetches"] == 0
    assert stats["site"] == "not reached"


def test_a_restart_while_the_site_is_down_announces_what_is_cached(place: Place) -> None:
    place.relay.start().wait_for("release.announced")
    place.relay.stop()
    place.server.stop()
    mark = len(place.relay.lines)
    place.relay.start()
    assert "version=2" in place.relay.wait_for("release.announced", after=mark)


def test_polling_finds_a_release_without_any_broker(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path / "site")
    site.publish(1, {"head.tflite": HEADS[1]})
    with serving(tmp_path / "site") as server:
        relay = RelayProcess(tmp_path / "relay", server.url, site.root, poll_s=0.2)
        try:
            relay.start().wait_for("release.announced")
            site.publish(2, {"head.tflite": HEADS[2]}, [("head.tflite", sha256(HEADS[1]), PATCH)])
            relay.wait_for("channel=stable version=2")
            assert relay.get(url_of(PATCH))[1] == PATCH
            site.rotate_timestamp_key()
            relay.wait_until(lambda: relay.get("metadata/2.root.json")[0] == 200, "the new root is mirrored")
            assert TrustedSite(relay.url, site.root, tmp_path / "d").refresh().newest("household", "stable") == 2
        finally:
            relay.kill()


def test_metadata_that_does_not_verify_never_reaches_a_device(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path / "site")
    site.publish(1, {"head.tflite": HEADS[1]})
    with serving(tmp_path / "site") as server:
        relay = RelayProcess(tmp_path / "relay", server.url, site.root, poll_s=0.2)
        try:
            relay.start().wait_for("release.announced")
            good = relay.get("metadata/timestamp.json")[1]
            other = SiteBuilder(tmp_path / "other")
            other.publish(1, {"head.tflite": HEADS[1]})
            other.publish(5, {"head.tflite": HEADS[2]})
            server.folder = tmp_path / "other"
            relay.wait_for("site.failed")
            assert relay.get("metadata/timestamp.json")[1] == good
            server.folder = tmp_path / "site"
            server.bodies["metadata/timestamp.json"] = b"<html>captive portal</html>"
            asked = server.requests["metadata/timestamp.json"]
            relay.wait_until(lambda: server.requests["metadata/timestamp.json"] > asked + 1, "it asked again")
            assert relay.get("metadata/timestamp.json")[1] == good
        finally:
            relay.kill()


def test_range_etag_and_head_are_answered(running: Place) -> None:
    status, body, headers = running.relay.get(url_of(PATCH), {"Range": "bytes=2990-"})
    assert (status, body, headers["Content-Range"]) == (206, PATCH[2990:], "bytes 2990-2999/3000")
    assert "immutable" in headers["Cache-Control"]
    assert running.relay.get(url_of(PATCH), {"If-None-Match": headers["Etag"]})[:2] == (304, b"")
    assert running.relay.get(url_of(PATCH), {"Range": "bytes=3000-"})[0] == 416
    assert running.relay.get("metadata/timestamp.json")[2]["Cache-Control"] == "no-cache"
    connection = http.client.HTTPConnection("127.0.0.1", running.relay.port, timeout=10)
    connection.request("HEAD", f"/{url_of(PATCH)}")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "3000", b"")
    connection.close()


def test_each_byte_that_a_device_receives_is_counted_for_it(running: Place) -> None:
    received = {"content": 0, "metadata": 0, "other": 0}
    for path, kind, extra in (
        (url_of(PATCH), "content", ""),
        (url_of(PATCH), "content", "Range: bytes=100-\r\n"),
        (url_of(b"unsigned"), "content", ""),
        ("metadata/timestamp.json", "metadata", ""),
        ("metadata/9.root.json", "metadata", ""),
        ("nothing", "other", ""),
    ):
        received[kind] += len(raw_answer(running.relay.port, path, extra))
    counted = running.relay.stats()["devices"]["porch"]
    for kind, size in received.items():
        assert counted[kind]["body_bytes"] + counted[kind]["header_bytes"] == size, kind
    assert counted["content"]["requests"] == 3


def test_a_device_that_leaves_in_the_middle_is_counted_for_what_was_sent(running: Place) -> None:
    assert running.relay.get(url_of(BACKBONE))[0] == 200
    with socket.create_connection(("127.0.0.1", running.relay.port)) as device:
        device.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        device.sendall(f"GET /{url_of(BACKBONE)} HTTP/1.1\r\nHost: x\r\nKinwatch-Device: garage\r\n\r\n".encode())
        read = len(device.recv(4096))

    def counted() -> int:
        return int(running.relay.stats()["devices"]["garage"].get("content", {}).get("body_bytes", 0))

    running.relay.wait_until(lambda: counted() > 0, "the broken answer is counted")
    assert read - 1000 <= counted() <= len(BACKBONE)
    assert not any("Traceback" in line for line in running.relay.lines)


def raw_answer(port: int, path: str, extra: str) -> bytes:
    """Return everything that the relay sends for one request, head and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as device:
        head = f"GET /{path} HTTP/1.1\r\nHost: x\r\nKinwatch-Device: porch\r\nConnection: close\r\n{extra}\r\n"
        device.sendall(head.encode())
        parts = []
        while part := device.recv(65536):
            parts.append(part)
    return b"".join(parts)
