"""Owns an HTTP server for tests that serves a folder with Range, counts requests, and misbehaves on demand."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from contract.release import DEVICE_HEADER


class SiteServer:
    """Serves ``folder`` on loopback. ``requests`` counts by URL path; ``ranges`` lists the Range headers it saw,
    ``askers`` the first part of a path with the device that asked for it.

    ``break_after``: path -> bytes of body after which the connection is cut, once each; ``stall_after``: after which
    nothing more comes until ``stalled`` is set. ``bodies``: path -> bytes to send instead of the file. ``status``:
    path -> status to answer with. ``content_ranges``: what the next answers 206 say.
    ``gate``: cleared, requests for contents wait. ``resumes``: whether Range works.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.askers: set[tuple[str, str | None]] = set()
        self.break_after: dict[str, int] = {}
        self.bodies: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.content_ranges: list[str] = []
        self.stall_after: dict[str, int] = {}
        self.stalled = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.resumes = True
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Root of the site."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> "SiteServer":
        """Start, on the same port as before if there was one."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            disable_nagle_algorithm = True  # head and body are two writes: without it each answer waits 40 ms

            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # cut connections are what these tests are about

        self._server = Listener(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening; the site is down."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one GET."""
        path = request.path.lstrip("/")
        self.requests[path] += 1
        self.askers.add((path.split("/")[0], request.headers.get(DEVICE_HEADER)))
        if self._server is None:
            request.close_connection = True  # a kept-alive connection does not outlive the site
            return
        if path.startswith("content/"):
            self.gate.wait(30)
        if path in self.status:
            _send(request, self.status[path], b"no\n")
            return
        file = self.folder / path
        if path not in self.bodies and not file.is_file():
            _send(request, 404, b"not found\n")
            return
        self._send_object(request, path, self.bodies[path] if path in self.bodies else file.read_bytes())

    def _send_object(self, request: BaseHTTPRequestHandler, path: str, data: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if asked:
            self.ranges.append(request.headers["Range"])
        start = int(asked[1]) if asked and self.resumes else 0
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if start and self.content_ranges:
            headers = {"Content-Range": self.content_ranges.pop(0)}
        body = data[start:]
        if path in self.break_after:
            _send(request, 206 if start else 200, body, headers, cut=self.break_after.pop(path))
        elif path in self.stall_after:
            _send(request, 200, body, headers, cut=self.stall_after.pop(path), stall=self.stalled)
        else:
            _send(request, 206 if start else 200, body, headers)


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    *,
    cut: int | None = None,
    stall: threading.Event | None = None,
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    for key, value in (headers or {}).items():
        request.send_header(key, value)
    request.end_headers()
    request.wfile.write(body[:cut])
    request.wfile.flush()
    if cut is not None:
        if stall is not None:
            stall.wait(30)
        request.close_connection = True


@contextmanager
def serving(folder: Path) -> Iterator[SiteServer]:
    """Serve ``folder`` inside the block."""
    server = SiteServer(folder).start()
    try:
        yield server
    finally:
        server.stalled.set()
        server.gate.set()
        server.stop()
