"""Owns serving a publish site over plain HTTP, for the demo and small houses; any web server can take its place.

Refuses to know which file a request means (``site_answer``), and to verify anything: clients do.
"""

import contextlib
import http.server
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from cloud_tools.publishing.site_answer import Answer, answer
from contract import sd_notify
from contract.errors import InputError, PeerError
from contract.events import log_event

logger = logging.getLogger("cloud_tools.site_server")
IDLE_LIMIT_S = 30.0  # a client that says nothing, or reads nothing, for so long is dropped


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
        with answer(self.server.site, self.path, self.headers) as found:
            self._start(found)
            if not body:
                return
            if found.file is None:
                self.wfile.write(found.text)
            elif found.length:
                self.connection.sendfile(found.file, found.start, found.length)

    def _start(self, found: Answer) -> None:
        self.send_response(found.status)
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.access_log:
            log_event(
                logger,
                "site.request",
                path=self.path,
                status=found.status.value,
                bytes=found.length or len(found.text),
            )


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
