"""One fetch for everybody, checked bytes only, and what happens when site or disk refuse."""

import asyncio
import errno
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from contract.errors import KinwatchError, PeerError, StorageError, TrustError
from edge_relay.cache import DiskCache
from edge_relay.catalog import Item
from edge_relay.counters import CacheUse
from edge_relay.supply import MEMORY_BYTES, CheckedBytes, Supply
from tests.site_builder import sha256
from tests.unit.test_relay_cache import item_of

DATA = b"the contents" * 100


class FakeUpstream:
    """Has ``body`` for everything; ``gate`` holds fetches back; ``failures`` are raised first, one a fetch."""

    def __init__(self, body: bytes = DATA) -> None:
        self.body = body
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.disk_error: OSError | None = None
        self.fetches = 0

    async def fetch(self, item: Item, sink: BinaryIO) -> None:
        self.fetches += 1
        await self.gate.wait()
        if self.disk_error and not isinstance(sink, io.BytesIO):
            raise self.disk_error
        if self.failures:
            raise self.failures.pop(0)
        sink.write(self.body[sink.seek(0, io.SEEK_END) :])


class Bench:
    """A supply over a real cache in ``folder`` and a fake site."""

    def __init__(self, folder: Path, rest_s: float = 0.0) -> None:
        self.use = CacheUse()
        self.cache = DiskCache(folder, 1_000_000, self.use)
        self.upstream = FakeUpstream()
        self.supply = Supply(self.cache, self.upstream, self.use, rest_s=rest_s)  # type: ignore[arg-type]

    async def read(self, item: Item) -> bytes:
        async with self.supply.hold(item) as held:
            return content(held)


def content(held: CheckedBytes) -> bytes:
    return held.data if held.path is None else held.path.read_bytes()


def run(folder: Path, work: Callable[[Bench], Awaitable[None]], rest_s: float = 0.0) -> None:
    async def main() -> None:
        await work(Bench(folder, rest_s))

    asyncio.run(main())


def test_many_who_ask_together_cause_one_fetch(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        answers = await asyncio.gather(*(bench.read(item_of(DATA)) for _ in range(50)))
        assert set(answers) == {DATA}
        assert bench.upstream.fetches == 1
        assert (bench.use.misses, bench.use.joined) == (1, 49)
        assert await bench.read(item_of(DATA)) == DATA
        assert (bench.upstream.fetches, bench.use.hits) == (1, 1)

    run(tmp_path, work)


def test_each_waiter_gets_an_exception_of_its_own(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.upstream.failures = [PeerError("the site is down")]
        results = await asyncio.gather(*(bench.read(item_of(DATA)) for _ in range(20)), return_exceptions=True)
        assert {(type(result), str(result)) for result in results} == {(PeerError, "the site is down")}
        assert len({id(result) for result in results}) == 20
        assert bench.upstream.fetches == 1

    run(tmp_path, work)


def test_a_waiter_that_leaves_does_not_end_the_fetch_of_the_others(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.upstream.gate.clear()
        first, second = (asyncio.create_task(bench.read(item_of(DATA))) for _ in range(2))
        while bench.use.joined == 0:
            await asyncio.sleep(0)
        first.cancel()
        bench.upstream.gate.set()
        assert await second == DATA
        assert first.cancelled()
        assert bench.upstream.fetches == 1

    run(tmp_path, work)


def test_after_a_failure_the_site_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.upstream.failures = [PeerError("down")]
        for _ in range(5):
            with pytest.raises(PeerError, match="down"):
                await bench.read(item_of(DATA))
        assert bench.upstream.fetches == 1

    run(tmp_path, work, rest_s=600.0)


def test_wrong_bytes_are_never_given_nor_kept(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        item = item_of(DATA)
        bench.upstream.body = bytes(len(DATA))
        with pytest.raises(TrustError):
            await bench.read(item)
        assert not bench.cache.part(item.sha256).exists()
        assert not bench.cache.path(item.sha256).exists()
        bench.upstream.body = DATA
        assert await bench.read(item) == DATA

    run(tmp_path, work)


def test_a_damaged_part_of_an_earlier_run_gets_one_try_from_zero(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        item = item_of(DATA)
        bench.cache.part(item.sha256).write_bytes(bytes(100))
        assert await bench.read(item) == DATA
        assert bench.upstream.fetches == 2

    run(tmp_path, work)


def test_a_corrupt_entry_is_a_miss_and_is_mended(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        item = item_of(DATA)
        await bench.read(item)
        bench.cache.path(item.sha256).write_bytes(bytes(len(DATA)))
        assert await bench.read(item) == DATA
        assert (bench.upstream.fetches, bench.use.corrupt) == (2, 1)

    run(tmp_path, work)


def test_a_corrupt_entry_on_a_card_that_turned_read_only_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        if not (missing_ok and not path.exists()):
            raise OSError(errno.EROFS, "Read-only file system", str(path))

    async def work(bench: Bench) -> None:
        item = item_of(DATA)
        await bench.read(item)
        bench.cache.path(item.sha256).write_bytes(bytes(len(DATA)))
        bench.upstream.disk_error = OSError(errno.EROFS, "Read-only file system")
        bench.cache.part(item.sha256).unlink(missing_ok=True)
        monkeypatch.setattr(Path, "unlink", refuse)
        monkeypatch.setattr(DiskCache, "part", lambda cache, sha256: tmp_path / "none" / sha256)
        async with bench.supply.hold(item) as held:
            assert held == CheckedBytes(None, DATA)

    run(tmp_path, work)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_makes_a_checked_pass_through(tmp_path: Path, number: int) -> None:
    async def work(bench: Bench) -> None:
        item = item_of(DATA)
        bench.upstream.disk_error = OSError(number, "refused")
        async with bench.supply.hold(item) as held:
            assert held == CheckedBytes(None, DATA)
        assert await bench.read(item) == DATA
        assert bench.upstream.fetches == 2, "disk once, memory once, then from memory"
        bench.upstream.body = bytes(5)
        other = Item("content/x", sha256(b"other"), 5)
        with pytest.raises(TrustError):
            await bench.read(other)

    run(tmp_path, work)


def test_a_full_disk_gives_up_older_entries_first(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.upstream.body = b"older"
        older, newer = item_of(b"older"), item_of(DATA)
        await bench.read(older)
        bench.upstream.body = DATA
        bench.upstream.failures = [OSError(errno.ENOSPC, "full")]
        async with bench.supply.hold(newer) as held:
            assert held.path is not None
            assert content(held) == DATA
        assert not bench.cache.has(older.sha256)

    run(tmp_path, work)


def test_what_fits_neither_disk_nor_memory_is_refused_without_a_fetch(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        with pytest.raises(StorageError):
            await bench.read(Item("content/x", sha256(b"x"), MEMORY_BYTES))
        assert bench.upstream.fetches == 0

    run(tmp_path, work)


def test_a_waiter_gives_up_after_its_limit_and_the_fetch_goes_on(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        item = item_of(DATA)
        bench.upstream.gate.clear()
        with pytest.raises(TimeoutError):
            async with bench.supply.hold(item, wait_s=0.01):
                pass
        bench.upstream.gate.set()
        assert await bench.read(item) == DATA
        assert bench.upstream.fetches == 1

    run(tmp_path, work)


def test_an_error_of_ours_keeps_its_kind_and_text(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.upstream.failures = [TrustError("more than were signed")]
        with pytest.raises(KinwatchError, match="other bytes than were signed"):
            await bench.read(item_of(DATA))

    run(tmp_path, work)
