"""What a mad server, a mad device or a mad signer says on the wire: errors of ours, never another kind."""

import asyncio
import io
import itertools
import json
import random
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from securesystemslib.formats import encode_canonical

from agent.updates.download import Downloads
from contract.errors import TrustError
from contract.http.client import HttpLimits
from contract.trust import FlooredUpdater, HttpFetcher, TrustedSite
from edge_relay.cache import DiskCache
from edge_relay.catalog import Catalog, Item
from edge_relay.counters import CacheUse, Counters, UpstreamTraffic
from edge_relay.mirror import Mirror
from edge_relay.server import Server, http_logger
from edge_relay.supply import Supply
from edge_relay.upstream import Upstream
from tests.foreign_input import ABSURD_VALUES, mad_answers, only_ours, places, replaced
from tests.site_builder import SiteBuilder, frozen, sha256
from tests.site_server import serving

BODY = frozen("a file", 3000)
DIGEST = sha256(BODY)


class MadServer:
    """Answers each connection with the next of ``answers``, whatever it is asked."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = itertools.cycle(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return  # closed: the test is over
            with client:
                try:
                    client.recv(65_536)
                    client.sendall(next(self._answers))
                except OSError:
                    continue  # the other side had enough

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


ANSWERS = list(mad_answers(BODY))


@pytest.fixture
def mad() -> Iterator[MadServer]:
    """It, with all of its answers in turn."""
    server = MadServer(ANSWERS)
    yield server
    server.close()


def test_no_answer_to_a_device_is_anything_but_an_error_of_ours(tmp_path: Path, mad: MadServer) -> None:
    downloads = Downloads(tmp_path, mad.url, wait=lambda seconds: True, limits=HttpLimits(2.0))
    part = tmp_path / f"{DIGEST}.part"
    for _ in ANSWERS:
        part.write_bytes(BODY[:1000])
        only_ours(lambda: downloads.fetch(DIGEST, len(BODY)))
        (tmp_path / DIGEST).unlink(missing_ok=True)


def test_no_answer_to_a_relay_is_anything_but_an_error_of_ours(mad: MadServer) -> None:
    async def scene() -> None:
        async with Upstream(mad.url, UpstreamTraffic(), attempts=1, read_s=2.0) as upstream:
            for have in (b"", BODY[:1000]):
                for _ in ANSWERS:
                    await fetch(upstream, io.BytesIO(have))

    async def fetch(upstream: Upstream, sink: io.BytesIO) -> None:
        try:
            await upstream.fetch(Item(f"content/{DIGEST}", DIGEST, len(BODY)), sink)
        except Exception as error:  # noqa: BLE001 - judged on the next line
            only_ours(partial(raised, error))

    asyncio.run(scene())


def raised(error: Exception) -> None:
    """Raise it."""
    raise error


def test_no_answer_of_a_site_is_anything_but_an_error_of_ours(tmp_path: Path, mad: MadServer) -> None:
    root = SiteBuilder(tmp_path / "site").root
    for number, _ in enumerate(ANSWERS):
        only_ours(TrustedSite(mad.url, root, tmp_path / str(number), limits=HttpLimits(2.0)).refresh)


def test_a_document_without_an_end_is_given_up(tmp_path: Path) -> None:
    endless = MadServer([b"HTTP/1.1 200 OK\r\n\r\n" + bytes(3_000_000)])
    try:
        with pytest.raises(Exception, match="longer than 2000000 bytes"):
            HttpFetcher(HttpLimits(2.0)).download_bytes(f"{endless.url}/x", 10**400)
    finally:
        endless.close()


# --- a signer whose keys are right and whose metadata is absurd -----------------------------------------------------


def signed_anew(site: SiteBuilder, role: str, signed: Any) -> bytes:
    """Return metadata with the body ``signed``, signed with the role's own key; unsigned where it cannot be."""
    try:
        signature = site.signers[role].sign(encode_canonical(signed).encode()).to_dict()
    except Exception:  # noqa: BLE001 - a float, or half a character: what cannot be signed is sent unsigned
        signature = {"keyid": site.signers[role].public_key.keyid, "sig": "00"}
    return json.dumps({"signatures": [signature], "signed": signed}).encode()


def look(url: str, site: SiteBuilder, folder: Path) -> None:
    """Do what relay and device do."""
    view = TrustedSite(url, site.root, folder).refresh()
    view.release("household", view.newest("household", "stable") or 1)


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "household"])
def test_signed_metadata_of_any_values_is_an_error_of_ours(tmp_path: Path, role: str) -> None:
    site = SiteBuilder(tmp_path / "site")
    site.publish(1, {"head.tflite": b"one"}, [("head.tflite", "a" * 64, b"patch")])
    document = site.documents[role]
    valid = document.signed.to_dict()
    if role == "root":
        valid["version"] = 2
    name = "timestamp.json" if role == "timestamp" else f"{valid['version']}.{role}.json"
    cases = [(place, value) for place in places(valid) for value in ABSURD_VALUES]
    chosen = random.Random(role).sample(cases, min(len(cases), 25))
    with serving(site.folder) as server:
        look(server.url, site, tmp_path / "good")
        for number, (place, value) in enumerate(chosen):
            data = signed_anew(site, role, replaced(valid, place, value))
            (site.folder / "metadata" / name).write_bytes(data)
            only_ours(lambda number=number: look(server.url, site, tmp_path / str(number)))  # type: ignore[misc]


@pytest.mark.parametrize("value", [10**400, -1, "1", None, True, [], 32_503_680_001])
def test_a_signed_time_that_is_none_is_an_error_of_ours_and_raises_no_floor(tmp_path: Path, value: object) -> None:
    site = SiteBuilder(tmp_path / "site")
    body = {**site.documents["timestamp"].signed.to_dict(), "kinwatch_signed_at": value}
    (site.folder / "metadata" / "timestamp.json").write_bytes(signed_anew(site, "timestamp", body))
    with serving(site.folder) as server:
        client = TrustedSite(server.url, site.root, tmp_path / "device")
        with pytest.raises(TrustError, match="kinwatch_signed_at"):
            client.refresh()
        assert client.floor().year == 1970


def test_the_private_parts_of_python_tuf_that_we_reach_into_are_where_they_were(tmp_path: Path) -> None:
    import datetime as dt

    from tuf.api.metadata import Timestamp
    from tuf.ngclient import Updater

    site = SiteBuilder(tmp_path / "site")
    (tmp_path / "metadata").mkdir()
    with serving(site.folder) as server:
        plain = Updater(
            metadata_dir=str(tmp_path / "metadata"),
            metadata_base_url=f"{server.url}/metadata/",
            bootstrap=site.root.read_bytes(),
        )
        moved = "python-tuf has moved {}: contract.trust.FlooredUpdater must follow, or the clock's floor is gone"
        assert hasattr(plain, "_trusted_set"), moved.format("Updater._trusted_set")
        found = getattr(plain._trusted_set, "reference_time", None)
        assert isinstance(found, dt.datetime), moved.format("reference_time")
        assert found.tzinfo is not None, moved.format("reference_time (it has no time zone)")
        plain.refresh()
        found = getattr(plain._trusted_set, "timestamp", None)
        assert isinstance(found, Timestamp), moved.format("timestamp")
        later = FlooredUpdater(
            dt.datetime.now(dt.UTC) + 2 * site.expires,
            metadata_dir=str(tmp_path / "metadata"),
            metadata_base_url=f"{server.url}/metadata/",
            bootstrap=site.root.read_bytes(),
        )
        with pytest.raises(Exception, match="expired"):
            later.refresh()  # that expiries are compared with it still


# --- a device's requests --------------------------------------------------------------------------------------------

NAMES = (
    "Range",
    "If-Range",
    "If-Modified-Since",
    "If-None-Match",
    "Kinwatch-Device",
    "Accept-Encoding",
    "Cookie",
)
VALUES = (
    "9" * 400,
    "bytes=" + "9" * 5000 + "-",
    "bytes=-" + "9" * 400,
    "bytes=5-1",
    "bytes=0-0,2-2",
    "Mon, 01 Jan " + "9" * 400 + " 00:00:00 GMT",
    '"' + "x" * 4000 + '"',
    "\xff\xfe",
    "a=b; Max-Age=" + "9" * 400,
    "",
)
PATHS = (
    f"/content/{DIGEST}",
    "/stats",
    "/metadata/timestamp.json",
    "/metadata/%00",
    "/content/%ff%fe",
    "/%2e%2e/x",
    "*",
)


def test_no_request_is_a_fault_of_the_relay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    requests = [
        f"GET {path} HTTP/1.1\r\nConnection: close\r\nHost: relay\r\n{name}: {value}\r\n\r\n".encode("latin-1")
        for path, name, value in itertools.product(PATHS, NAMES, VALUES)
    ]

    async def scene() -> list[bytes]:
        use = CacheUse()
        cache = DiskCache(tmp_path, 1 << 20, use)
        item = Item(f"content/{DIGEST}", DIGEST, len(BODY))
        cache.part(DIGEST).write_bytes(BODY)
        cache.commit(item)
        cache.admit(item)
        site = TrustedSite("http://127.0.0.1:9", tmp_path / "root.json", tmp_path / "trusted")
        async with Upstream("http://127.0.0.1:9", UpstreamTraffic()) as upstream:
            supply = Supply(cache, upstream, use)
            mirror = Mirror(site, tmp_path / "mirror", ["household"], ["stable"])
            server = Server(mirror, supply, Counters(), lambda: Catalog({item.path: item}), dict)
            runner = web.AppRunner(server.application(), access_log=None, logger=http_logger)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            answers = [await answer(port, request) for request in requests]
            await runner.cleanup()
        return answers

    async def answer(port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        line = await reader.readline()
        writer.close()
        return line

    statuses = {line.split()[1] for line in asyncio.run(scene())}
    assert statuses <= {b"200", b"206", b"304", b"400", b"404", b"416"}
    assert {b"200", b"206", b"416"} <= statuses
    assert not [record for record in caplog.records if record.exc_info]
