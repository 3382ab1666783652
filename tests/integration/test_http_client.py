"""A peer that keeps a connection alive and never comes to an end: every part of an answer has a limit."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contract.errors import PeerError
from contract.http.client import HttpClient, HttpLimits, NoAnswerError
from contract.trust import TrustedSite
from tests.site_builder import SiteBuilder

SHORT = HttpLimits(wait_s=1.0, header_s=0.3, grace_s=0.3, slowest_bytes_s=1e12)
LIMIT_S = 5.0
BODY = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def dripping(first: bytes, then: bytes) -> Iterator[str]:
    """Answer any request with ``first``, and with ``then`` every 10 ms: no wait is long, and the whole is endless."""
    ending = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, contextlib.suppress(OSError):
                    peer.recv(65_536)
                    peer.sendall(first)
                    while not ending.wait(0.01):
                        peer.sendall(then)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ending.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def fetched(url: str, limits: HttpLimits = SHORT) -> bytes:
    """Return the body at ``url``."""
    with HttpClient(limits, {}).get(url) as answer:
        return b"".join(answer.pieces())


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"HTTP/1.1 ", b"2"),
        (BODY, b"A: b\r\n"),
        (BODY + b"A: ", b"b"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (BODY + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (BODY + b"\r\n", b"x"),
        (BODY + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (BODY + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
    ],
    ids=["status", "headers", "one header", "continue", "body", "body without length", "chunk size", "trailers"],
)
def test_an_answer_that_drips_is_given_up_whatever_part_of_it_does(first: bytes, then: bytes) -> None:
    begin = time.monotonic()
    with dripping(first, then) as url, pytest.raises(NoAnswerError, match=r"not complete after|headers"):
        fetched(url)
    assert time.monotonic() - begin < LIMIT_S


def test_a_body_that_keeps_the_pace_may_take_longer_than_the_grace() -> None:
    # 1,000 bytes every 10 ms at most, against a pace of 10,000 a second.
    limits = HttpLimits(wait_s=1.0, header_s=1.0, grace_s=0.1, slowest_bytes_s=10_000)
    with dripping(BODY + b"Content-Length: 60000\r\n\r\n", bytes(1000)) as url:
        begin = time.monotonic()
        assert len(fetched(url, limits)) == 60_000
        assert time.monotonic() - begin > 2 * limits.grace_s


def test_a_relay_whose_headers_drip_is_a_peer_that_does_not_answer(tmp_path: Path) -> None:
    site = TrustedSite("", SiteBuilder(tmp_path / "site").root, tmp_path / "trust", limits=SHORT)
    with dripping(BODY, b"A: b\r\n") as site.url, pytest.raises(PeerError):
        site.refresh()


def test_a_connection_is_used_again_after_a_body_that_was_read_to_its_end() -> None:
    peers = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            peers.add(self.client_address)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = HttpClient(SHORT, {})
        for _ in range(3):
            with client.get(f"http://127.0.0.1:{server.server_port}") as answer:
                assert b"".join(answer.pieces()) == b"ok"
        server.shutdown()
    assert (len(peers), client.bytes_received) == (1, 6)
