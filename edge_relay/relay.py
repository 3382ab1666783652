"""Owns the life of the relay: builds its parts, runs them together, ends them. Refuses to do any of their work."""

import asyncio
import contextlib
import fcntl
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from contract.errors import StorageError
from contract.events import log_event
from contract.sd_notify import notify, watchdog_interval_s
from contract.trust import TrustedSite
from edge_relay.cache import DiskCache
from edge_relay.config import RelayConfig
from edge_relay.counters import Counters
from edge_relay.mirror import Mirror
from edge_relay.notices import Notices
from edge_relay.server import Server, http_logger
from edge_relay.supervision import supervised
from edge_relay.supply import Supply
from edge_relay.updates import Updates
from edge_relay.upstream import Upstream

logger = logging.getLogger("edge_relay.relay")
STOP_S = 1.0  # for answers under way when we are told to end; a device resumes with Range
IDLE_S = 30.0  # a connection without requests is closed after this
BACKLOG = 1024  # a fleet that was told of a release connects at once


def _end(stop: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    if not stop.done():
        stop.set_result(number)


class Relay:
    """One relay. ``run`` serves until SIGTERM or SIGINT."""

    def __init__(self, config: RelayConfig) -> None:
        """Build the parts; OSError when the data folder cannot be used."""
        self._config = config
        self._counters = Counters()
        site = TrustedSite(config.site.url, config.site.root, config.data / "trusted")
        self._mirror = Mirror(site, config.data / "mirror", config.site.models, config.site.channels)
        self._mirror.sweep()
        self._cache = DiskCache(config.data, config.cache.bytes, self._counters.cache)

    async def run(self) -> signal.Signals:
        """Serve until a signal says to end; return it.

        Raises:
            OSError: the address cannot be listened on.
            KinwatchError: a part failed again and again.
        """
        loop = asyncio.get_running_loop()
        stop: asyncio.Future[signal.Signals] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _end, stop, number)
        async with Upstream(self._config.site.url, self._counters.upstream) as upstream:
            supply = Supply(self._cache, upstream, self._counters.cache)
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(supply.close)
                await self._serve(supply, stack, stop)
        log_event(logger, "relay.stopped")
        return stop.result()

    async def _serve(
        self, supply: Supply, stack: contextlib.AsyncExitStack, stop: asyncio.Future[signal.Signals]
    ) -> None:
        updates = Updates(self._config, self._mirror, supply)
        site = self._config.site
        subscriptions = [(model, channel) for model in site.models for channel in site.channels]
        notices = Notices(self._config.mqtt.address(), self._config.name, subscriptions, updates.hint)
        server = Server(
            self._mirror, supply, self._counters, lambda: updates.catalog, lambda: self._state(updates, notices)
        )
        await updates.adopt_earlier()
        await self._listen(server, stack)
        works = {"updates": lambda: updates.run(notices), "notices": notices.run, "watchdog": _feed_watchdog}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(supervised(name, work), name=name) for name, work in works.items()]
                await stop
                notify("STOPPING=1")
                for task in tasks:
                    task.cancel()
        except ExceptionGroup as failures:  # of one task: the group cancels the others
            raise failures.exceptions[0] from failures

    async def _listen(self, server: Server, stack: contextlib.AsyncExitStack) -> None:
        runner = web.AppRunner(
            server.application(),
            access_log=None,
            logger=http_logger,
            keepalive_timeout=IDLE_S,
            shutdown_timeout=STOP_S,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        http = self._config.http
        await web.TCPSite(runner, http.listen, http.port, backlog=BACKLOG).start()
        log_event(logger, "http.listening", host=runner.addresses[0][0], port=runner.addresses[0][1])
        notify("READY=1")

    def _state(self, updates: Updates, notices: Notices) -> dict[str, Any]:
        """Return what /stats and /health say beside the counters."""
        return {
            "relay": self._config.name,
            "site": "verified" if updates.site_reached else "not reached",
            "broker": "connected" if notices.connected else "not connected",
            "announced": updates.announced,
            "metadata_bytes_received": self._mirror.bytes_received,
            "cache_entries": len(self._cache),
            "cache_used_bytes": self._cache.used_bytes(),
            "cache_limit_bytes": self._config.cache.bytes,
        }


async def _feed_watchdog() -> None:
    """Tell systemd that the event loop turns."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold the data folder for this process: two relays in one would evict each other's files.

    Raises:
        StorageError: another process holds it.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"{folder} is in use by another edge_relay") from error
        yield
