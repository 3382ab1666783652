"""A task of the relay that dies: seen, restarted within its budget, and at last the end of the process."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from contract.broker import BrokerAddress
from contract.errors import KinwatchError
from edge_relay import supervision, updates
from edge_relay.cache import DiskCache
from edge_relay.catalog import Catalog, Item
from edge_relay.config import HttpSettings, RelayConfig, SiteSettings
from edge_relay.counters import CacheUse
from edge_relay.notices import Notices
from edge_relay.relay import Relay
from edge_relay.supervision import MOST_RESTARTS, supervised
from edge_relay.supply import Supply
from edge_relay.updates import Updates


class Failing:
    """Work that fails ``times`` times with a fault of ours, and then ends."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        if self.left:
            self.left -= 1
            raise OverflowError("int too large to convert to float")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits in a test."""
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 0.0)


def test_a_task_that_dies_is_told_with_its_traceback_and_runs_again(caplog: pytest.LogCaptureFixture) -> None:
    work = Failing(1)
    asyncio.run(supervised("notices", work))
    assert work.runs == 2
    (told,) = caplog.records
    assert told.getMessage() == "task.failed name=notices"
    assert told.exc_info is not None
    assert told.exc_info[0] is OverflowError


def test_a_spent_budget_is_an_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    work = Failing(100)
    with pytest.raises(KinwatchError, match="the task notices failed 6 times: OverflowError: int too large"):
        asyncio.run(supervised("notices", work))
    assert work.runs == MOST_RESTARTS + 1


def test_restarts_of_long_ago_do_not_count(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(supervision, "WITHIN_S", -1.0)
    work = Failing(3 * MOST_RESTARTS)
    asyncio.run(supervised("notices", work))
    assert work.runs == 3 * MOST_RESTARTS + 1


def test_a_task_that_is_cancelled_ends() -> None:
    async def scene() -> None:
        task = asyncio.create_task(supervised("updates", asyncio.Event().wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())


def test_a_spent_budget_ends_the_relay_with_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: Notices) -> None:
        raise ZeroDivisionError

    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(Notices, "run", fail)
    with pytest.raises(KinwatchError, match="the task notices failed 6 times: ZeroDivisionError"):
        asyncio.run(Relay(_config(tmp_path)).run())


def _config(folder: Path) -> RelayConfig:
    site = SiteSettings("http://127.0.0.1:9", folder / "root.json", ("household",))
    return RelayConfig("home", folder, site, HttpSettings("127.0.0.1", 0))


class FaultyMirror:
    """A mirror whose first refresh meets a fault of ours."""

    bytes_received = 0

    def __init__(self) -> None:
        self.refreshes = 0

    def refresh(self) -> Catalog:
        self.refreshes += 1
        if self.refreshes == 1:
            raise ZeroDivisionError
        return Catalog()


def test_a_fault_in_a_refresh_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(updates, "FIRST_RETRY_S", 0.0)
    monkeypatch.setattr(updates, "LEAST_GAP_S", 0.0)
    mirror, use = FaultyMirror(), CacheUse()

    async def scene() -> None:
        supply = Supply(DiskCache(tmp_path, 1 << 20, use), FaultyUpstream(), use)  # type: ignore[arg-type]
        works = Updates(_config(tmp_path), mirror, supply)  # type: ignore[arg-type]
        task = asyncio.create_task(works.run(Notices(BrokerAddress("127.0.0.1", 9), "home", [], lambda *hint: None)))
        async with asyncio.timeout(20):
            while not works.site_reached:
                await asyncio.sleep(0)
        task.cancel()

    asyncio.run(scene())
    assert mirror.refreshes == 2
    assert [r.getMessage() for r in caplog.records if r.exc_info] == ["site.fault url=http://127.0.0.1:9"]


class HangingMirror:
    """A mirror whose refresh ends when the test does."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def refresh(self) -> Catalog:
        self.free.wait(30)
        return Catalog()


def test_a_refresh_that_hangs_for_good_ends_the_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "REFRESH_LIMIT_S", 0.05)
    mirror, use = HangingMirror(), CacheUse()

    async def scene() -> None:
        supply = Supply(DiskCache(tmp_path, 1 << 20, use), FaultyUpstream(), use)  # type: ignore[arg-type]
        works = Updates(_config(tmp_path), mirror, supply)  # type: ignore[arg-type]
        notices = Notices(BrokerAddress("127.0.0.1", 9), "home", [], lambda *hint: None)
        await supervised("updates", lambda: works.run(notices))

    try:
        with pytest.raises(KinwatchError, match="a refresh has not ended"):
            asyncio.run(scene())
    finally:
        mirror.free.set()


class FaultyUpstream:
    """An upstream with a fault of ours in it."""

    async def fetch(self, item: Item, sink: object) -> None:
        raise ZeroDivisionError


def test_a_fault_in_a_fetch_is_an_error_of_ours_for_whoever_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        use = CacheUse()
        supply = Supply(DiskCache(tmp_path, 1 << 20, use), FaultyUpstream(), use)  # type: ignore[arg-type]
        with pytest.raises(KinwatchError, match="ZeroDivisionError"):
            await supply.ensure(Item("content/x", "a" * 64, 5))

    asyncio.run(scene())
    assert [record.getMessage() for record in caplog.records] == ["supply.fault path=content/x"]
