"""The relay's disk cache: names only for checked bytes, a limit that holds, nothing evicted while it is served."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from contract.errors import InputError, StorageError
from edge_relay.cache import DiskCache
from edge_relay.catalog import Item
from edge_relay.counters import CacheUse
from tests.site_builder import sha256


def item_of(data: bytes) -> Item:
    return Item(f"content/{sha256(data)}", sha256(data), len(data))


def put(cache: DiskCache, data: bytes) -> Item:
    item = item_of(data)
    with cache.room_for(item):
        cache.part(item.sha256).write_bytes(data)
        cache.commit(item)
    cache.admit(item)
    return item


def test_other_bytes_than_signed_never_get_the_name(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000, CacheUse())
    item = item_of(b"right")
    cache.part(item.sha256).write_bytes(b"wrong")
    with pytest.raises(InputError):
        cache.commit(item)
    assert not cache.path(item.sha256).exists()


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    use = CacheUse()
    cache = DiskCache(tmp_path, 25, use)
    old, newer = put(cache, b"0123456789"), put(cache, b"abcdefghij")
    assert cache.usable(old)
    put(cache, b"ABCDEFGHIJ")
    assert cache.has(old.sha256)
    assert not cache.has(newer.sha256)
    assert not cache.path(newer.sha256).exists()
    assert use.evictions == 1


def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100, CacheUse())
    first, second = put(cache, b"0123456789"), put(cache, b"abcdefghij")
    os.utime(cache.path(second.sha256), ns=(1, cache.path(second.sha256).stat().st_mtime_ns))
    assert cache.usable(first)
    again = DiskCache(tmp_path, 25, CacheUse())
    put(again, b"ABCDEFGHIJ")
    assert again.has(first.sha256)
    assert not again.has(second.sha256)


def test_what_is_being_served_is_not_evicted(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 25, CacheUse())
    held, other = put(cache, b"0123456789"), put(cache, b"abcdefghij")
    with cache.pinned(held.sha256):
        put(cache, b"ABCDEFGHIJ")
        assert cache.has(held.sha256)
        assert not cache.has(other.sha256)
        with pytest.raises(StorageError), cache.pinned(sha256(b"ABCDEFGHIJ")):
            put(cache, b"a thing of twenty by.")
    assert cache.has(held.sha256)


def test_an_entry_is_not_usable_before_it_was_checked_nor_after_it_changed(tmp_path: Path) -> None:
    item = put(DiskCache(tmp_path, 100, CacheUse()), b"0123456789")
    cache = DiskCache(tmp_path, 100, CacheUse())
    assert cache.has(item.sha256)
    assert not cache.usable(item)
    assert cache.check(item)
    assert cache.usable(item)
    cache.path(item.sha256).write_bytes(b"9876543210")
    assert not cache.usable(item)
    assert not cache.check(item)


def test_use_leaves_the_modification_time_alone_because_the_etag_is_made_of_it(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100, CacheUse())
    item = put(cache, b"0123456789")
    before = cache.path(item.sha256).stat().st_mtime_ns
    assert cache.usable(item)
    assert cache.path(item.sha256).stat().st_mtime_ns == before


def test_parts_of_what_nothing_names_are_removed_and_others_stay(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100, CacheUse())
    wanted, unwanted = sha256(b"wanted"), sha256(b"unwanted")
    for digest in (wanted, unwanted):
        cache.part(digest).write_bytes(b"half")
    cache.forget_parts({wanted})
    assert cache.part(wanted).exists()
    assert not cache.part(unwanted).exists()
    assert cache.used_bytes() == 4


class CacheMachine(RuleBasedStateMachine):
    """Any order of fetching, using, pinning and corrupting keeps the promises of the cache."""

    folder: Path
    runs = 0
    LIMIT = 100

    def __init__(self) -> None:
        super().__init__()
        CacheMachine.runs += 1
        self.cache = DiskCache(self.folder / str(self.runs), self.LIMIT, CacheUse())
        self.pins: dict[str, ExitStack] = {}
        self.held: set[str] = set()

    @rule(seed=st.integers(0, 12))
    def fetch(self, seed: int) -> None:
        data = bytes([seed]) * (seed * 9 + 1)
        if self.cache.has(sha256(data)):
            return
        try:
            put(self.cache, data)
        except StorageError:
            pinned = sum(self.cache.path(digest).stat().st_size for digest in self.held)
            assert pinned + len(data) > self.LIMIT

    @rule(seed=st.integers(0, 12))
    def pin(self, seed: int) -> None:
        digest = sha256(bytes([seed]) * (seed * 9 + 1))
        if self.cache.has(digest) and digest not in self.held:
            self.pins[digest] = ExitStack()
            self.pins[digest].enter_context(self.cache.pinned(digest))
            self.held.add(digest)

    @rule()
    def unpin_all(self) -> None:
        for stack in self.pins.values():
            stack.close()
        self.pins.clear()
        self.held.clear()

    @rule()
    def restart(self) -> None:
        self.unpin_all()
        self.cache = DiskCache(self.folder / str(self.runs), self.LIMIT, CacheUse())

    @invariant()
    def limit_holds(self) -> None:
        assert self.cache.used_bytes() <= self.LIMIT

    @invariant()
    def pinned_entries_are_there(self) -> None:
        for digest in self.held:
            assert sha256(self.cache.path(digest).read_bytes()) == digest


@pytest.mark.slow
def test_any_order_of_work_keeps_limit_and_pins(tmp_path: Path) -> None:
    CacheMachine.folder = tmp_path
    run_state_machine_as_test(CacheMachine, settings=settings(max_examples=25))
