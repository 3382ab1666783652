"""Owns requests for contents to the publish site: resume, length cap, timeouts, finite retries.

Refuses to say whether bytes are right (the caller hashes them) and to take more of them than were signed.
"""

import asyncio
import io
import logging
import random
from types import TracebackType
from typing import BinaryIO, Self

import aiohttp

from contract.errors import PeerError, TrustError, one_line
from contract.events import log_event
from contract.http.client import DEFAULT_LIMITS
from contract.http.headers import sent_from
from edge_relay.catalog import Item
from edge_relay.counters import UpstreamTraffic

logger = logging.getLogger("edge_relay.upstream")
CHUNK_BYTES = 1 << 18
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class Upstream:
    """The site's contents over HTTP. Use as a context manager.

    ``attempts`` are made for one fetch, with pauses that double from ``pause_s`` seconds.
    """

    def __init__(
        self, url: str, traffic: UpstreamTraffic, *, attempts: int = 4, pause_s: float = 0.2, read_s: float = 15.0
    ) -> None:
        self._url = url.rstrip("/")
        self._traffic = traffic
        self._attempts = attempts
        self._pause_s = pause_s
        self._timeout = aiohttp.ClientTimeout(total=None, connect=10.0, sock_connect=10.0, sock_read=read_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Identity: a transfer encoding would make Range and the length cap count other bytes than the signed ones.
        self._session = aiohttp.ClientSession(
            timeout=self._timeout, auto_decompress=False, headers={"Accept-Encoding": "identity"}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def fetch(self, item: Item, sink: BinaryIO) -> None:
        """Bring ``sink`` (unbuffered, seekable) to the length of ``item``, going on after what it holds already.

        Raises:
            PeerError: the site did not give the bytes, after all attempts or with an answer that says not to ask on.
            TrustError: the site gave more bytes than were signed.
            OSError: the sink refused.
        """
        failure = "no attempt"
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(self._pause_s * 2 ** (attempt - 1) * random.uniform(0.7, 1.3))
            try:
                failure = await self._attempt(item, sink)
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = one_line(error)
            if not failure:
                return
            self._traffic.failures += 1
            log_event(logger, "upstream.retry", logging.DEBUG, path=item.path, attempt=attempt + 1, error=failure)
        raise PeerError(f"{self._url}/{item.path}: {failure}")

    async def _attempt(self, item: Item, sink: BinaryIO) -> str:
        """Ask once; return why to ask again, or nothing when the sink is full."""
        have = sink.seek(0, io.SEEK_END)
        if have > item.size:
            have = _restart(sink)
        if have == item.size:
            return ""
        assert self._session is not None, "Upstream is used as a context manager"
        headers = {"Range": f"bytes={have}-"} if have else {}
        self._traffic.fetches += 1
        async with (
            asyncio.timeout(DEFAULT_LIMITS.body_s(item.size)),
            self._session.get(f"{self._url}/{item.path}", headers=headers, allow_redirects=False) as response,
        ):
            again = self._unusable(item, response, sink, have)
            return again or await self._copy(item, response, sink)

    def _unusable(self, item: Item, response: aiohttp.ClientResponse, sink: BinaryIO, have: int) -> str:
        """Return why this answer has no bytes that go on where the sink ends; PeerError when asking on is useless."""
        if response.status == 416 and have:
            _restart(sink)
            return "HTTP 416"
        if response.status in _AGAIN:
            return f"HTTP {response.status}"
        if response.status == 206 and have:
            if sent_from(response.headers.get("Content-Range")) != have:
                _restart(sink)
                return "HTTP 206 with another range than asked for"
            return ""
        if response.status != 200:
            self._traffic.failures += 1
            raise PeerError(f"{self._url}/{item.path}: HTTP {response.status}")
        if have:
            _restart(sink)  # the site does not resume: it sends everything again
        return ""

    async def _copy(self, item: Item, response: aiohttp.ClientResponse, sink: BinaryIO) -> str:
        room = item.size - sink.seek(0, io.SEEK_END)
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            self._traffic.bytes += len(chunk)
            room -= len(chunk)
            if room < 0:
                self._traffic.failures += 1
                raise TrustError(f"{self._url}/{item.path}: more than the {item.size} bytes that are signed")
            _write_all(sink, chunk)
        return f"the body ended {room} bytes early" if room else ""


def _restart(sink: BinaryIO) -> int:
    sink.seek(0)
    sink.truncate()
    return 0


def _write_all(sink: BinaryIO, data: bytes) -> None:
    """Write ``data`` whole: on a disk that fills up, an unbuffered file writes a part and says so by the count."""
    rest = memoryview(data)
    while rest:
        rest = rest[sink.write(rest) :]
