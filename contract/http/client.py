"""Owns fetching over HTTP from a peer that may be hostile: no wait without an end, however the bytes come.

Refuses redirects, and to believe what is sent. urllib3's timeout is for each piece that the kernel hands over: a peer
that drips a byte of its headers now and then would hold a device's update for ever. So every read of the connection
looks at the whole answer's time: headers must be there after ``header_s``, and a body keeps up ``slowest_bytes_s``.
"""

import contextlib
import http.client
import io
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import urllib3
from urllib3.connectionpool import HTTPConnectionPool

from contract.errors import PeerError, one_line

PIECE_BYTES = 65_536


@dataclass(frozen=True)
class HttpLimits:
    """How long a peer is waited for."""

    wait_s: float = 10.0  # to connect, and for each next piece
    header_s: float = 20.0  # for the status and all headers, from the request on
    grace_s: float = 60.0  # for a body ...
    slowest_bytes_s: float = 8192.0  # ... and a second more for so many bytes that came

    def body_s(self, size: int) -> float:
        """Return how long a body may have taken when ``size`` bytes of it are there."""
        return self.grace_s + size / self.slowest_bytes_s


DEFAULT_LIMITS = HttpLimits()


class NoAnswerError(PeerError):
    """No answer came, or not all of it, or too slowly; the text does not name the peer."""


class HttpClient:
    """Fetches; for one thread. ``headers`` go with every request; ``bytes_received`` counts bytes of bodies."""

    def __init__(self, limits: HttpLimits, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self._timeout = urllib3.Timeout(connect=limits.wait_s, read=limits.wait_s)
        self._pools = _PacedPools(limits)
        self.bytes_received = 0

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator["Answer"]:
        """Ask for ``url``; the connection is let go of afterwards, read to its end or not.

        Raises:
            NoAnswerError: none came in time.
        """
        sent = {**self._headers, **(headers or {})}
        with _translated():
            response = self._pools.request(
                "GET", url, headers=sent, timeout=self._timeout, preload_content=False, redirect=False
            )
        try:
            yield Answer(self, response)
        finally:
            response.close()  # a body read to its end has given its connection back already, others must not


class Answer:
    """The status and headers of an answer; its body is still to come."""

    def __init__(self, client: HttpClient, response: urllib3.BaseHTTPResponse) -> None:
        self._client = client
        self._response = response
        self.status = response.status

    def header(self, name: str) -> str | None:
        """Return a header, None without it."""
        return self._response.headers.get(name)

    def pieces(self) -> Iterator[bytes]:
        """Return the body as it comes, not unpacked.

        Raises:
            NoAnswerError: it broke off, stalled or is too slow.
        """
        with _translated():
            # Not stream(): it waits until it has the whole piece.
            while piece := self._response.read1(PIECE_BYTES, decode_content=False):
                self._client.bytes_received += len(piece)
                yield piece


class _TooSlowError(TimeoutError):
    """The whole took too long, however short each wait was."""


class _PacedPools(urllib3.PoolManager):
    """Connections whose answers are read by ``_PacedReader``."""

    def __init__(self, limits: HttpLimits) -> None:
        super().__init__(retries=False)
        self._limits = limits

    def _new_pool(self, *arguments: Any, **options: Any) -> HTTPConnectionPool:
        """Return a pool as urllib3's own; it says that this is the place for such a change."""
        pool = super()._new_pool(*arguments, **options)
        answers = staticmethod(partial(_PacedResponse, limits=self._limits))
        kind: Any = pool.ConnectionCls
        pool.ConnectionCls = type(kind.__name__, (kind,), {"response_class": answers})
        return pool


class _PacedResponse(http.client.HTTPResponse):
    """The standard library's, on a reader that looks at the clock."""

    def __init__(self, sock: socket.socket, *arguments: Any, limits: HttpLimits, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self._reader = _PacedReader(sock, limits)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        """Read the status and the headers."""
        super().begin()
        self._reader.begin_body()


class _PacedReader(io.RawIOBase):
    """What comes on a connection, for as long as the whole of it keeps its pace."""

    def __init__(self, sock: socket.socket, limits: HttpLimits) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._limits = limits
        self._in_body = False
        self._begin_s, self._count = time.monotonic(), 0

    def begin_body(self) -> None:
        """The headers are there: from now on the pace counts."""
        self._in_body = True
        self._begin_s, self._count = time.monotonic(), 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what comes next; TimeoutError when nothing does, or when the whole has taken too long."""
        allowed_s = self._limits.body_s(self._count) if self._in_body else self._limits.header_s
        left_s = self._begin_s + allowed_s - time.monotonic()
        try:
            if left_s > 0:
                self._sock.settimeout(min(left_s, self._limits.wait_s))
                count = self._file.readinto(buffer)
                self._count += count or 0
                return count
        except TimeoutError:
            if left_s > self._limits.wait_s:
                raise
        raise _TooSlowError(f"not complete after {allowed_s:.0f} s")

    def close(self) -> None:
        """Let go of the connection; it stays open for its owner."""
        self._file.close()
        super().close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn urllib3's errors into ours; what was too slow says so."""
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        slow = error.__cause__ if isinstance(error.__cause__, _TooSlowError) else error
        raise NoAnswerError(one_line(slow)) from error
