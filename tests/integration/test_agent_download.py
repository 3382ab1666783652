"""Fetching contents over real HTTP from a server that misbehaves: resume, caps, digests, finite tries."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError

from agent.updates import download
from agent.updates.download import MOST_TRIES, Downloads
from contract.errors import PeerError, StorageError, TrustError
from contract.http.client import PIECE_BYTES, HttpLimits
from contract.release import content_path
from contract.trust import HttpFetcher
from tests.site_builder import frozen, sha256
from tests.site_server import SiteServer, serving

DATA = frozen("a file of a release", 300_000)
DIGEST = sha256(DATA)
PATH = content_path(DIGEST)
SHORT = HttpLimits(1.0, grace_s=0.3, slowest_bytes_s=1e12)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SiteServer]:
    """A server with one content."""
    (tmp_path / "site" / "content").mkdir(parents=True)
    (tmp_path / "site" / PATH).write_bytes(DATA)
    with serving(tmp_path / "site") as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    """How long was waited between tries; nobody waits in a test."""
    return []


@pytest.fixture
def downloads(tmp_path: Path, server: SiteServer, waits: list[float]) -> Downloads:
    """Downloads from the server."""
    return make(tmp_path, server, waits)


def make(tmp_path: Path, server: SiteServer, waits: list[float]) -> Downloads:
    """Return downloads as a program makes them when it starts."""

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    return Downloads(tmp_path / "downloads", server.url, wait=wait, limits=HttpLimits(1.0))


def test_a_file_gets_its_digest_as_name(downloads: Downloads, tmp_path: Path) -> None:
    pieces: list[int] = []
    path = downloads.fetch(DIGEST, len(DATA), pieces.append)
    assert (path, path.read_bytes()) == (tmp_path / "downloads" / DIGEST, DATA)
    assert sum(pieces) == downloads.bytes_received == len(DATA)
    assert [entry.name for entry in path.parent.iterdir()] == [DIGEST]


def test_a_file_that_is_there_is_not_fetched_again(downloads: Downloads, server: SiteServer) -> None:
    downloads.fetch(DIGEST, len(DATA))
    downloads.fetch(DIGEST, len(DATA))
    assert server.requests[PATH] == 1


@pytest.mark.parametrize("cut", [1, 65_536, 150_000, 299_999])
def test_a_connection_that_breaks_is_resumed_where_it_broke(
    downloads: Downloads, server: SiteServer, cut: int
) -> None:
    server.break_after[PATH] = cut
    assert downloads.fetch(DIGEST, len(DATA)).read_bytes() == DATA
    assert server.ranges == [f"bytes={cut}-"]
    assert downloads.bytes_received == len(DATA)


def test_a_restart_goes_on_with_the_part(
    tmp_path: Path, server: SiteServer, waits: list[float], downloads: Downloads
) -> None:
    (tmp_path / "downloads" / f"{DIGEST}.part").write_bytes(DATA[:100_000])
    again = make(tmp_path, server, waits)
    assert again.fetch(DIGEST, len(DATA)).read_bytes() == DATA
    assert (server.ranges, again.bytes_received) == (["bytes=100000-"], 200_000)


def test_a_complete_part_needs_no_byte_more(downloads: Downloads, server: SiteServer, tmp_path: Path) -> None:
    (tmp_path / "downloads" / f"{DIGEST}.part").write_bytes(DATA)
    assert downloads.fetch(DIGEST, len(DATA)).read_bytes() == DATA
    assert server.requests[PATH] == 0


def test_a_server_without_ranges_sends_everything_and_that_is_right(
    downloads: Downloads, server: SiteServer, tmp_path: Path
) -> None:
    server.resumes = False
    (tmp_path / "downloads" / f"{DIGEST}.part").write_bytes(DATA[:100_000])
    assert downloads.fetch(DIGEST, len(DATA)).read_bytes() == DATA


@pytest.mark.parametrize("part", [bytes(100_000), bytes(300_000), bytes(400_000)])
def test_a_part_that_a_power_cut_spoiled_is_thrown_away_and_fetched_anew(
    downloads: Downloads, tmp_path: Path, part: bytes
) -> None:
    (tmp_path / "downloads" / f"{DIGEST}.part").write_bytes(part)
    assert downloads.fetch(DIGEST, len(DATA)).read_bytes() == DATA


def test_other_bytes_are_refused_at_once_and_nothing_of_them_stays(
    downloads: Downloads, server: SiteServer, tmp_path: Path
) -> None:
    server.bodies[PATH] = frozen("other", len(DATA))
    with pytest.raises(TrustError, match="not what was signed"):
        downloads.fetch(DIGEST, len(DATA))
    assert server.requests[PATH] == 1
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_sender_that_never_ends_is_cut_off_at_the_signed_length(
    downloads: Downloads, server: SiteServer, tmp_path: Path
) -> None:
    server.bodies[PATH] = DATA * 20
    with pytest.raises(TrustError, match="longer than the signed"):
        downloads.fetch(DIGEST, len(DATA))
    assert sum(path.stat().st_size for path in (tmp_path / "downloads").iterdir()) <= len(DATA)
    assert downloads.bytes_received < len(DATA) + 2 * PIECE_BYTES


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_an_answer_of_4xx_stops_at_once(
    downloads: Downloads, server: SiteServer, waits: list[float], status: int
) -> None:
    server.status[PATH] = status
    with pytest.raises(PeerError, match=str(status)):
        downloads.fetch(DIGEST, len(DATA))
    assert (server.requests[PATH], waits) == (1, [])


def test_a_server_that_fails_is_asked_a_finite_number_of_times_with_growing_waits(
    downloads: Downloads, server: SiteServer, waits: list[float]
) -> None:
    server.status[PATH] = 503
    with pytest.raises(PeerError, match="503"):
        downloads.fetch(DIGEST, len(DATA))
    assert server.requests[PATH] == MOST_TRIES
    assert len(waits) == MOST_TRIES - 1
    assert waits[-1] > 2 * waits[0]


def test_a_server_that_is_down_is_a_peer_error(downloads: Downloads, server: SiteServer) -> None:
    server.stop()
    with pytest.raises(PeerError, match="127.0.0.1"):
        downloads.fetch(DIGEST, len(DATA))


def test_a_connection_that_goes_silent_is_given_up_and_resumed(downloads: Downloads, server: SiteServer) -> None:
    server.stall_after[PATH] = 100_000
    assert downloads.fetch(DIGEST, len(DATA)).read_bytes() == DATA
    assert server.ranges == ["bytes=100000-"]  # not one byte is fetched twice


def test_a_sender_that_drips_is_given_up_and_what_came_is_kept(
    downloads: Downloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_TRIES", 2)
    with dripping(len(DATA)) as url:
        slow = Downloads(tmp_path / "downloads", url, wait=lambda seconds: False, limits=SHORT)
        begin = time.monotonic()
        with pytest.raises(PeerError, match="not complete after"):
            slow.fetch(DIGEST, len(DATA))
        assert time.monotonic() - begin < 5.0
    assert (tmp_path / "downloads" / f"{DIGEST}.part").stat().st_size > 0


def test_metadata_that_drips_is_given_up() -> None:
    with dripping(1000) as url:
        begin = time.monotonic()
        with pytest.raises(DownloadError, match="not complete after"):
            list(HttpFetcher(SHORT).fetch(f"{url}/metadata/timestamp.json"))
        assert time.monotonic() - begin < 5.0


@contextlib.contextmanager
def dripping(length: int) -> Iterator[str]:
    """Serve ``length`` bytes for any path, one every 20 ms: no wait is long, and the whole takes for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            with contextlib.suppress(OSError):
                while not ending.wait(0.02):
                    self.wfile.write(b"x")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    ending = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            ending.set()
            server.shutdown()


def test_the_end_of_the_program_ends_the_waiting(tmp_path: Path, server: SiteServer) -> None:
    server.status[PATH] = 503
    ending = Downloads(tmp_path / "downloads", server.url, wait=lambda seconds: True)
    with pytest.raises(PeerError):
        ending.fetch(DIGEST, len(DATA))
    assert server.requests[PATH] == 1


def test_a_full_disk_keeps_the_part_and_a_later_try_completes_it(
    downloads: Downloads, server: SiteServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(count: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="disk is full"):
        downloads.fetch(DIGEST, len(DATA), full)
    kept = (tmp_path / "downloads" / f"{DIGEST}.part").stat().st_size
    assert kept > 0
    assert downloads.fetch(DIGEST, len(DATA)).read_bytes() == DATA
    assert server.ranges == [f"bytes={kept}-"]


def test_a_file_whose_bytes_turned_is_no_longer_there(downloads: Downloads, tmp_path: Path) -> None:
    path = downloads.fetch(DIGEST, len(DATA))
    path.write_bytes(DATA[:-1] + b"x")
    assert downloads.inventory() == {}
    assert downloads.fetch(DIGEST, len(DATA)).read_bytes() == DATA


def test_what_no_release_needs_is_removed(downloads: Downloads, tmp_path: Path) -> None:
    downloads.fetch(DIGEST, len(DATA))
    (tmp_path / "downloads" / f"{'a' * 64}.part").write_bytes(b"old")
    downloads.keep_only({DIGEST})
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [DIGEST]
