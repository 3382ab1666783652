"""Owns when the relay looks at the site and what follows: refresh, mirror, prefetch, announce.

Refuses to announce what is not cached here, and to stop: a failure is tried again with a growing pause, and devices
are served what is here meanwhile.
"""

import asyncio
import logging
import random
import time

from contract.errors import KinwatchError, PeerError, StorageError, one_line
from contract.events import log_event
from edge_relay.catalog import Catalog, Item, Release
from edge_relay.config import RelayConfig
from edge_relay.mirror import Mirror
from edge_relay.notices import Notices
from edge_relay.prefetch import wanted
from edge_relay.supply import Supply
from edge_relay.threads import in_daemon_thread

logger = logging.getLogger("edge_relay.updates")
LEAST_GAP_S = 0.5  # between refreshes: whoever may publish to the broker must not steer us at the site
FIRST_RETRY_S = 1.0
REFRESH_LIMIT_S = 1800.0  # all of its documents at their own limits; a site that drips header lines goes on for days
HINT_TRIES = 6  # refreshes for a version that was announced but is not signed yet: a site behind a slow cache


class HungError(PeerError):
    """A refresh does not end."""


class Updates:
    """Keeps mirror and cache at the site's newest releases; ``catalog`` is what devices may ask for."""

    def __init__(self, config: RelayConfig, mirror: Mirror, supply: Supply) -> None:
        self._site = config.site
        self._prefetch_bytes = config.cache.prefetch_bytes
        self._mirror = mirror
        self._supply = supply
        self._woken = asyncio.Event()
        self._hinted: dict[tuple[str, str], int] = {}
        self._hint_tries = 0
        self._failures = 0
        self._refreshed_s = -LEAST_GAP_S
        self._announced: dict[tuple[str, str], int] = {}
        self.catalog = Catalog()
        self.site_reached = False

    def hint(self, model: str, channel: str, version: int) -> None:
        """Look at the site now: a notice says that there is a release. It is believed for nothing else."""
        if version > self.catalog.channels.get((model, channel), 0):
            self._hinted[model, channel] = version
            self._hint_tries = 0
        self._woken.set()

    @property
    def announced(self) -> dict[str, int]:
        """The version of each model/channel that devices were told of."""
        return {f"{model}/{channel}": version for (model, channel), version in self._announced.items()}

    async def run(self, notices: Notices) -> None:
        """Work until cancelled: first with what an earlier run verified, so that devices need no site.

        Raises:
            HungError: a refresh does not end; this process can make no other.
        """
        await self._offer_all(notices)
        while True:
            self._woken.clear()
            done = await self._refresh()
            done = await self._offer_all(notices) and done
            await self._wait(done)

    async def adopt_earlier(self) -> None:
        """Take up what an earlier run mirrored, so that contents are served from the first request on."""
        try:
            self.catalog = await asyncio.to_thread(self._mirror.catalog)
        except (KinwatchError, OSError) as error:
            log_event(logger, "mirror.unreadable", logging.WARNING, error=one_line(error))
        except Exception:  # a fault of ours over a damaged file: the next refresh mends it
            logger.exception("mirror.fault")

    async def _refresh(self) -> bool:
        """Refresh once; say whether it verified. One log line when an outage begins and one when it ends."""
        self._refreshed_s = time.monotonic()
        try:
            self.catalog = await self._refreshed_catalog()
        except HungError:
            raise
        except (KinwatchError, OSError) as error:
            level = logging.WARNING if self.site_reached or not self._failures else logging.DEBUG
            log_event(logger, "site.failed", level, url=self._site.url, error=one_line(error))
            self.site_reached = False
            return False
        except Exception:  # a fault of ours: what is here is served, and a later refresh may bring other bytes
            logger.exception("site.fault url=%s", self._site.url)
            self.site_reached = False
            return False
        if not self.site_reached:
            log_event(logger, "site.verified", url=self._site.url, items=len(self.catalog.items))
        self.site_reached = True
        self._supply.forget_parts(self.catalog.digests())
        return True

    async def _refreshed_catalog(self) -> Catalog:
        try:
            async with asyncio.timeout(REFRESH_LIMIT_S) as limit:
                return await in_daemon_thread(self._mirror.refresh, "site refresh")
        except TimeoutError as error:
            if not limit.expired():
                raise
            # The thread cannot be ended, and a second one must not work in its folder: only a new process can go on.
            raise HungError(f"{self._site.url}: a refresh has not ended for {REFRESH_LIMIT_S:.0f} s") from error

    async def _offer_all(self, notices: Notices) -> bool:
        """Fetch and announce the newest release of each channel; say whether all of them are offered."""
        done = True
        for (model, channel), version in sorted(self.catalog.channels.items()):
            release = self.catalog.releases.get((model, version))
            if release is None:
                log_event(logger, "release.missing", logging.WARNING, model=model, channel=channel, version=version)
                done = False
            elif await self._prefetched(release):
                notices.announce(channel, release.target)
                self._announced[model, channel] = version
            else:
                done = False
        return done

    async def _prefetched(self, release: Release) -> bool:
        """Fetch what devices will ask for first; say whether the release may be announced."""
        for item in wanted(self.catalog, release, self._prefetch_bytes):
            if not await self._fetched(item):
                return False
        return True

    async def _fetched(self, item: Item) -> bool:
        try:
            await self._supply.ensure(item)
        except StorageError as error:
            # Devices still get it, or a clear refusal, on demand: a full relay must not hold back an update.
            log_event(logger, "prefetch.no_room", logging.WARNING, path=item.path, error=error)
        except KinwatchError as error:
            log_event(logger, "prefetch.failed", logging.WARNING, path=item.path, error=error)
            return False
        return True

    async def _wait(self, done: bool) -> None:
        """Sleep until a hint or the next poll, sooner after a failure, and never less than the least gap."""
        self._failures = 0 if done else self._failures + 1
        pause_s = self._site.poll_s
        if not done:
            pause_s = min(pause_s, FIRST_RETRY_S * 2 ** min(self._failures - 1, 16))
        elif self._behind():
            pause_s = min(pause_s, FIRST_RETRY_S * 2**self._hint_tries)
            self._hint_tries += 1
        try:
            async with asyncio.timeout(pause_s * random.uniform(0.8, 1.2)):
                await self._woken.wait()
        except TimeoutError:
            log_event(logger, "site.poll", logging.DEBUG)
        await asyncio.sleep(max(0.0, self._refreshed_s + LEAST_GAP_S - time.monotonic()))

    def _behind(self) -> bool:
        """Return whether a hint named a version that the signed metadata does not have, and is worth more tries."""
        for key, version in list(self._hinted.items()):
            if self.catalog.channels.get(key, 0) >= version or self._hint_tries >= HINT_TRIES:
                del self._hinted[key]
        return bool(self._hinted)
