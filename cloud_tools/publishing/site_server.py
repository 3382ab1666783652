"""Owns serving a publish site over plain HTTP, for the demo and small houses; any web server can take its place.

Refuses whatever is no file below metadata/, targets/ or content/: no listing, no way out of the folder, no dotfile.
It verifies nothing: clients do. Names below content/ are digests, so that a response may be kept for ever.
"""

import contextlib
import http.server
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from cloud_tools.publishing.site_folder import SERVED
from contract import sd_notify
from contract.errors import InputError, PeerError
from contract.events import log_event
from contract.headers import asked_range, is_range

logger = logging.getLogger("cloud_tools.site_server")
IDLE_LIMIT_S = 30.0  # a client that says nothing, or reads nothing, for so long is dropped
_PATH = re.compile(rf"/({'|'.join(SERVED)})((?:/[A-Za-z0-9][A-Za-z0-9._-]*)+)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class SiteServer(http.server.ThreadingHTTPServer):
    """A thread for each connection; ``port`` 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, site: Path, listen: str, port: int, *, access_log: bool = False) -> None:
        if not (site / "metadata").is_dir():
            raise InputError(f"{site} is no publish site (make one: cloud_tools keys init)")
        self.site = site.resolve()
        self.access_log = access_log
        self.address_family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        try:
            super().__init__((listen, port), SiteRequestHandler)
        except OSError as error:
            raise PeerError(f"cannot listen on {listen}:{port}: {error.strerror or error}") from error

    @property
    def url(self) -> str:
        """Where the site is served."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a broken connection in one line; clients come and go. Anything else is a fault of ours."""
        if isinstance(sys.exception(), OSError):
            log_event(logger, "site.connection_broken", logging.DEBUG, client=client_address)
        else:
            logger.exception("site.fault client=%s", client_address)


class SiteRequestHandler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD of single files, with one byte range."""

    protocol_version = "HTTP/1.1"
    server_version = "kinwatch-site"
    sys_version = ""
    timeout = IDLE_LIMIT_S
    server: SiteServer

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer HEAD."""
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: ``_log`` writes the lines."""

    def _answer(self, *, body: bool) -> None:
        path = find_file(self.server.site, self.path)
        try:
            file = path.open("rb") if path else None
        except OSError:
            file = None  # vanished, a folder, or not readable: for a client it is not there
        if file is None:
            return self._refuse(HTTPStatus.NOT_FOUND, body=body)
        with file:
            size = os.fstat(file.fileno()).st_size
            self._send_file(file, size, self._headers_of(path), body=body)

    def _send_file(self, file: BinaryIO, size: int, headers: dict[str, str], *, body: bool) -> None:
        etag = headers.get("ETag")
        if etag and self.headers.get("If-None-Match") == etag:
            return self._start(HTTPStatus.NOT_MODIFIED, 0, headers)
        condition = self.headers.get("If-Range")
        wanted = self.headers.get("Range") if condition in (None, etag) else None
        span = asked_range(wanted, size)
        if span is None:
            return self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, body=body, size=size)
        start, length = span
        status = HTTPStatus.OK
        if is_range(wanted):
            status = HTTPStatus.PARTIAL_CONTENT
            headers = {**headers, "Content-Range": f"bytes {start}-{start + length - 1}/{size}"}
        self._start(status, length, headers)
        if body and length:
            self.connection.sendfile(file, start, length)

    def _headers_of(self, path: Path | None) -> dict[str, str]:
        name = path.name if path else ""
        headers = {"Content-Type": "application/json" if name.endswith(".json") else "application/octet-stream"}
        if _DIGEST.fullmatch(name):
            headers["ETag"] = f'"{name}"'
        # All names but this one are versioned or digests: their bytes never change.
        fresh = "no-cache" if name == "timestamp.json" else "max-age=31536000, immutable"
        return {**headers, "Cache-Control": fresh, "Accept-Ranges": "bytes"}

    def _refuse(self, status: HTTPStatus, *, body: bool, size: int | None = None) -> None:
        text = f"{status.value} {status.phrase}\n".encode()
        headers = {"Content-Type": "text/plain"}
        if size is not None:
            headers["Content-Range"] = f"bytes */{size}"
        self._start(status, len(text), headers)
        if body:
            self.wfile.write(text)

    def _start(self, status: HTTPStatus, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.server.access_log:
            log_event(logger, "site.request", path=self.path, status=status.value, bytes=length)


def find_file(site: Path, path: str) -> Path | None:
    """Return the file that a request's path names, or None when it names nothing that is served."""
    match = _PATH.fullmatch(path.split("?", 1)[0])
    if match is None:
        return None
    try:
        found = (site / match[1] / match[2][1:]).resolve()
        return found if found.is_relative_to(site / match[1]) and found.is_file() else None
    except (OSError, RuntimeError):  # a name longer than any file's; links that lead in a circle
        return None


def serve(site: Path, listen: str, port: int, *, access_log: bool, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` gets the URL once connections are accepted.

    Raises:
        InputError: ``site`` is no publish site.
        PeerError: the address cannot be listened on.
        KeyboardInterrupt: it was SIGINT; everything ended in order all the same.
    """
    with SiteServer(site, listen, port, access_log=access_log) as server, _stopped_by_signals(server):
        ready(server.url)
        sd_notify.notify("READY=1")
        server.serve_forever(poll_interval=0.1)


@contextlib.contextmanager
def _stopped_by_signals(server: SiteServer) -> Iterator[None]:
    ended_by: set[int] = set()

    def stop(number: int, frame: FrameType | None) -> None:
        ended_by.add(number)
        # shutdown() waits for the loop that this handler interrupted: it needs a thread of its own.
        threading.Thread(target=server.shutdown, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in ended_by:
        raise KeyboardInterrupt
