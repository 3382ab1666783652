"""Owns the relay's HTTP: what devices may ask for, in what form they get it, and that each byte is counted.

    /metadata/<name>     the mirror: versioned names never change, timestamp.json does
    /targets/<path>      manifests and channel pointers    /content/<sha256>   files and patches
    /stats, /health      JSON

Refuses everything that verified metadata does not name (404), and to serve bytes that were not checked.
"""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from typing import IO, Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError

from contract.errors import KinwatchError, PeerError, StorageError, TrustError, one_line
from contract.events import log_event
from contract.files import json_bytes
from contract.http.client import DEFAULT_LIMITS
from contract.http.compression import GZIP, packed
from edge_relay.catalog import Catalog
from edge_relay.counters import Counters, Traffic, device_name, head_bytes, kind_of
from edge_relay.mirror import TIMESTAMP, Mirror
from edge_relay.supply import Supply

logger = logging.getLogger("edge_relay.server")
IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable", "Content-Type": "application/octet-stream"}
CHANGING = {"Cache-Control": "no-cache", "Content-Type": "application/json"}
VERSIONED = {**IMMUTABLE, "Content-Type": "application/json"}
WAIT_S = 30.0  # for a fetch in progress; then 503, and the device's next request finds more of it here
RETRY_AFTER_S = "5"
_TRAFFIC = web.RequestKey("traffic", Traffic)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
http_logger = logging.getLogger("edge_relay.http")  # for aiohttp's own lines


class CountedFile(web.FileResponse):
    """A file whose sent bytes are counted as the kernel took them, also when the device leaves in the middle."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the file, once: aiohttp calls this again after a handler that sent the answer itself."""
        return None if self.prepared else await super().prepare(request)

    async def _sendfile(
        self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int
    ) -> AbstractStreamWriter:
        # asyncio moves the file's position by exactly what was sent, after an error too.
        os.lseek(fobj.fileno(), offset, os.SEEK_SET)
        descriptor = os.dup(fobj.fileno())
        try:
            return await super()._sendfile(request, fobj, offset, count)
        finally:
            request[_TRAFFIC].body_bytes += os.lseek(descriptor, 0, os.SEEK_CUR) - offset
            os.close(descriptor)


class Server:
    """The HTTP application; ``catalog`` gives what may be asked for now, ``state`` adds to /stats and /health."""

    def __init__(
        self,
        mirror: Mirror,
        supply: Supply,
        counters: Counters,
        catalog: Callable[[], Catalog],
        state: Callable[[], dict[str, Any]],
    ) -> None:
        self._mirror = mirror
        self._supply = supply
        self._counters = counters
        self._catalog = catalog
        self._state = state

    def application(self) -> web.Application:
        """Return the application, ready to run."""
        # No route takes a body: 1 KiB is room for what a client may send by mistake.
        application = web.Application(middlewares=[self._account], client_max_size=1024)
        application.on_response_prepare.append(_count_head)
        application.add_routes(
            [
                web.get("/metadata/{name}", self._metadata),
                web.get("/targets/{path:.+}", self._object),
                web.get("/content/{path:.+}", self._object),
                web.get("/stats", self._stats),
                web.get("/health", self._health),
            ]
        )
        return application

    @web.middleware
    async def _account(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        traffic = self._counters.traffic(device_name(request.headers, request.remote), kind_of(request.path))
        traffic.requests += 1
        request[_TRAFFIC] = traffic
        try:
            return await handler(request)
        except web.HTTPException as error:
            # One plain line, never a page: a device must not take HTML for metadata.
            return _refusal(error.status, error.reason)
        except Exception:  # a fault of ours in one request; aiohttp would answer with a page
            logger.exception("request.fault path=%s", ascii(request.path[:200]))
            return _refusal(500, "the relay failed at this request")

    async def _metadata(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = self._mirror.served(name)
        if path is None:
            return _refusal(404, "no such metadata here")
        headers = CHANGING if name == TIMESTAMP else VERSIONED
        try:
            return _json_file(request, path.read_bytes(), headers)
        except OSError:
            return _refusal(404, "no such metadata here")  # a newer one took its place just now

    async def _object(self, request: web.Request) -> web.StreamResponse:
        item = self._catalog().items.get(request.path.lstrip("/"))
        if item is None:
            return _refusal(404, "not named by verified metadata")
        try:
            async with self._supply.hold(item, WAIT_S) as held:
                if request.path.endswith(".json"):
                    return _json_file(request, held.data if held.path is None else held.path.read_bytes(), VERSIONED)
                if held.path is None:
                    return web.Response(body=held.data, headers=IMMUTABLE)
                return await _send(request, CountedFile(held.path, headers=IMMUTABLE), item.size)
        except TimeoutError:
            return _refusal(503, "still being fetched")
        except OverflowError:  # aiohttp, at a date of hundreds of digits in If-Modified-Since and the like
            return _refusal(400, "a date in this request is none")
        except OSError:
            return _refusal(503, "this object cannot be read now")
        except KinwatchError as error:
            return _failure(error)

    async def _stats(self, request: web.Request) -> web.StreamResponse:
        return _json({"v": 1, **self._counters.snapshot(), **self._state()})

    async def _health(self, request: web.Request) -> web.StreamResponse:
        state = self._state()
        return _json({"v": 1, "status": "serving", **{key: state[key] for key in ("site", "broker", "announced")}})


def _malformed_in_one_line(record: logging.LogRecord) -> bool:
    """Take aiohttp's traceback off what is no HTTP: anybody near a relay may send that, as often as he likes."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "request.malformed error=%s", (json.dumps(one_line(error)),)
    return True


http_logger.addFilter(_malformed_in_one_line)


def _json_file(request: web.Request, data: bytes, headers: dict[str, str]) -> web.Response:
    """Answer with a manifest or metadata, as gzip for who takes it: half the bytes of an update are these."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    short = packed(data) if GZIP in request.headers.get("Accept-Encoding", "") else data
    if len(short) >= len(data):
        return web.Response(body=data, headers=headers)
    return web.Response(body=short, headers={**headers, "Content-Encoding": GZIP})


async def _send(request: web.Request, response: CountedFile, size: int) -> web.StreamResponse:
    """Send the file now, inside the caller's hold; return up on a device that does not read."""
    try:
        async with asyncio.timeout(DEFAULT_LIMITS.body_s(size)):
            await response.prepare(request)
    except ConnectionError:
        log_event(logger, "device.left", logging.DEBUG, peer=request.remote, path=request.path)
    except TimeoutError:
        log_event(logger, "device.stalled", logging.WARNING, peer=request.remote, path=request.path)
        if request.transport is not None:
            request.transport.abort()
    return response


async def _count_head(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)  # 38 bytes of every answer that help nobody
    traffic = request[_TRAFFIC]
    traffic.header_bytes += head_bytes(response.status, response.reason or "", response.headers)
    if isinstance(response, web.Response) and request.method != "HEAD":
        traffic.body_bytes += response.content_length or 0


def _failure(error: KinwatchError) -> web.Response:
    """Say who is at fault: the site's bytes (502), our disk (507), or a site that may answer later (503)."""
    if isinstance(error, TrustError):
        return _refusal(502, "the site's bytes did not verify")
    if isinstance(error, StorageError):
        return _refusal(507, "no room for this object")
    assert isinstance(error, PeerError), f"unexpected {error!r}"
    return _refusal(503, "the site does not give this object now")


def _refusal(status: int, reason: str) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if status >= 500:
        headers["Retry-After"] = RETRY_AFTER_S
    return web.Response(status=status, text=f"{reason}\n", headers=headers)


def _json(value: dict[str, Any]) -> web.Response:
    return web.Response(body=json_bytes(value), headers=CHANGING)
