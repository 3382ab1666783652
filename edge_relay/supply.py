"""Owns how an object gets from the site to a device: cache, else one fetch that everyone waits for, else memory.

Refuses to give bytes whose SHA-256 was not compared with signed metadata. A corrupt cache entry is a miss; a disk
that refuses makes a pass-through, checked in memory.
"""

import asyncio
import contextlib
import errno
import hashlib
import io
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from contract.errors import (
    InputError,
    KinwatchError,
    PeerError,
    StorageError,
    TrustError,
    describe_os_error,
    one_line,
)
from contract.events import log_event
from edge_relay.cache import DiskCache
from edge_relay.catalog import Item
from edge_relay.counters import CacheUse
from edge_relay.upstream import Upstream

logger = logging.getLogger("edge_relay.supply")
FETCHES_AT_ONCE = 4  # more share the same link, and each holds a part open
MEMORY_BYTES = 32 << 20  # all that passes through while the disk refuses; one object may take half
REST_S = 0.75  # after a failed fetch: a thousand devices that ask on must not become a thousand requests
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class CheckedBytes:
    """Bytes of an item that have its digest: a file, or (when the disk refused) memory."""

    path: Path | None = None
    data: bytes = b""


class Supply:
    """Gives items, each fetched from the site at most once however many ask at the same time."""

    def __init__(self, cache: DiskCache, upstream: Upstream, use: CacheUse, *, rest_s: float = REST_S) -> None:
        self._cache = cache
        self._upstream = upstream
        self._use = use
        self._rest_s = rest_s
        self._flights: dict[str, asyncio.Task[CheckedBytes | KinwatchError]] = {}
        self._failed: dict[str, tuple[float, KinwatchError]] = {}
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._slots = asyncio.Semaphore(FETCHES_AT_ONCE)

    @contextlib.asynccontextmanager
    async def hold(self, item: Item, wait_s: float | None = None) -> AsyncIterator[CheckedBytes]:
        """Return the checked bytes of ``item``, safe from eviction inside the block.

        A fetch goes on when a waiter leaves, so that its next request finds more.

        Raises:
            PeerError: the site did not give them. TrustError: it gave other bytes than were signed.
            StorageError: no room on disk nor in memory.
            TimeoutError: not there after ``wait_s`` seconds.
        """
        with self._cache.pinned(item.sha256):
            async with asyncio.timeout(wait_s):
                held = await self._get(item)
            yield held

    async def ensure(self, item: Item) -> None:
        """Have ``item`` here before anybody asks. Raises: as ``hold``."""
        if not self._cache.usable(item):
            async with self.hold(item):
                pass

    def forget_parts(self, wanted: set[str]) -> None:
        """Remove unfinished fetches of what no verified release names any more."""
        self._cache.forget_parts(wanted)

    async def close(self) -> None:
        """End the fetches under way; what they have stays on disk for the next start."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _get(self, item: Item) -> CheckedBytes:
        if self._cache.usable(item):
            self._use.hits += 1
            return CheckedBytes(self._cache.path(item.sha256))
        if item.sha256 in self._memory:
            self._use.hits += 1
            return CheckedBytes(data=self._memory[item.sha256])
        outcome = await asyncio.shield(self._flight(item))
        if isinstance(outcome, KinwatchError):
            # A fresh one for each waiter: a raised exception collects the traceback of everyone who raises it.
            raise type(outcome)(str(outcome)) from outcome
        return outcome

    def _flight(self, item: Item) -> "asyncio.Task[CheckedBytes | KinwatchError]":
        if item.sha256 in self._flights:
            self._use.joined += 1
        else:
            self._flights[item.sha256] = asyncio.create_task(self._fly(item), name=f"fetch {item.path}")
        return self._flights[item.sha256]

    async def _fly(self, item: Item) -> CheckedBytes | KinwatchError:
        try:
            return await self._obtain(item)
        except OSError as error:
            return StorageError(describe_os_error(error))
        except KinwatchError as error:
            return error
        except Exception as error:  # a fault of ours in one fetch must not end whoever waits for it
            logger.exception("supply.fault path=%s", item.path)
            return PeerError(f"{item.path}: {type(error).__name__}: {one_line(error)}")
        finally:
            del self._flights[item.sha256]

    async def _obtain(self, item: Item) -> CheckedBytes:
        if self._cache.has(item.sha256):
            if await asyncio.to_thread(self._cache.check, item):
                self._use.hits += 1
                return CheckedBytes(self._cache.path(item.sha256))
            self._cache.drop_corrupt(item)
        failed_s, failure = self._failed.get(item.sha256, (0.0, None))
        if failure and time.monotonic() - failed_s < self._rest_s:
            raise type(failure)(str(failure))
        self._use.misses += 1
        try:
            async with self._slots:
                held = await self._fetch(item)
        except KinwatchError as error:
            self._failed[item.sha256] = (time.monotonic(), error)
            log_event(logger, "supply.failed", logging.WARNING, path=item.path, error=error)
            raise
        self._failed.pop(item.sha256, None)
        return held

    async def _fetch(self, item: Item) -> CheckedBytes:
        try:
            return await self._to_disk(item)
        except (OSError, StorageError) as error:
            reason = one_line(error)
            log_event(logger, "supply.disk_refused", logging.WARNING, path=item.path, error=reason)
        return CheckedBytes(data=await self._to_memory(item))

    async def _to_disk(self, item: Item) -> CheckedBytes:
        with self._cache.room_for(item):
            try:
                await self._to_part(item)
            except OSError as error:
                self._cache.part(item.sha256).unlink(missing_ok=True)
                if error.errno not in _DISK_FULL or not self._cache.evict(item.size):
                    raise
                await self._to_part(item)  # somebody else filled the disk: our older entries made room
        self._cache.admit(item)
        return CheckedBytes(self._cache.path(item.sha256))

    async def _to_part(self, item: Item) -> None:
        """Fetch into the part and return it its name. A resumed part may be damaged: it gets one try from zero."""
        part = self._cache.part(item.sha256)
        resumed = part.exists()
        while True:
            try:
                with part.open("ab", buffering=0) as sink:
                    await self._upstream.fetch(item, sink)
                await asyncio.to_thread(self._cache.commit, item)
                return
            except (InputError, TrustError) as error:
                part.unlink(missing_ok=True)
                if not resumed:
                    raise TrustError(f"{item.path}: the site gave other bytes than were signed") from error
                resumed = False

    async def _to_memory(self, item: Item) -> bytes:
        if item.size > MEMORY_BYTES // 2:
            raise StorageError(f"{item.path}: no room on disk, and its {item.size} bytes are too many for memory")
        sink: BinaryIO = io.BytesIO()
        await self._upstream.fetch(item, sink)
        sink.seek(0)
        data = sink.read()
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise TrustError(f"{item.path}: the site gave other bytes than were signed")
        self._memory[item.sha256] = data
        while sum(map(len, self._memory.values())) > MEMORY_BYTES:
            self._memory.popitem(last=False)
        return data
