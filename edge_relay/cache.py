"""Owns the content files on the relay's disk: their names, their limit, their eviction. Refuses unchecked bytes.

    content/<sha256>      whole and checked; the name is given after the check
    parts/<sha256>.part   what a fetch has so far; survives retries, restarts and power cuts

Refuses to fetch. State is kept by the event loop; the methods marked blocking do file work only, for a thread.
"""

import contextlib
import logging
import os
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path

from contract.errors import InputError, StorageError
from contract.events import log_event
from contract.files import fsync_folder
from contract.manifest import FileEntry, check_file
from edge_relay.catalog import Item
from edge_relay.counters import CacheUse

logger = logging.getLogger("edge_relay.cache")
CHECK_AGAIN_S = 600.0  # a card's silent bit rot changes no time stamp: hash every entry in use this often
TOUCH_AGAIN_S = 60.0  # a write to the card for every request would wear it, and costs a tenth of the answer
_DIGEST = re.compile(r"[0-9a-f]{64}")
_Stamp = tuple[int, int, int]


class DiskCache:
    """Contents below ``folder``, at most ``limit_bytes`` with what is being fetched; least recently used go first."""

    def __init__(self, folder: Path, limit_bytes: int, use: CacheUse) -> None:
        """Take up what an earlier run left; OSError when the folder cannot be used."""
        self._content, self._parts = folder / "content", folder / "parts"
        for path in (self._content, self._parts):
            path.mkdir(parents=True, exist_ok=True)
        self._limit = limit_bytes
        self._use = use
        self._entries = _scan(self._content)
        self._checked: dict[str, tuple[_Stamp, float]] = {}
        self._touched_s: dict[str, float] = {}
        self._pins: Counter[str] = Counter()
        self._fetching: Counter[str] = Counter()

    def path(self, sha256: str) -> Path:
        """Return where the entry is, or would be."""
        return self._content / sha256

    def part(self, sha256: str) -> Path:
        """Return where the unfinished entry is, or would be."""
        return self._parts / f"{sha256}.part"

    def has(self, sha256: str) -> bool:
        """Return whether there is an entry; it may be corrupt."""
        return sha256 in self._entries

    def usable(self, item: Item) -> bool:
        """Return whether the entry was checked a short while ago and is unchanged since; count it as used now."""
        if item.sha256 not in self._entries:
            return False
        stamp, checked_s = self._checked.get(item.sha256, (None, 0.0))
        with contextlib.suppress(OSError):
            status = self.path(item.sha256).stat()
            if stamp == _stamp(status) and time.monotonic() - checked_s < CHECK_AGAIN_S:
                self._touch(item.sha256, status)
                return True
        return False

    def _touch(self, sha256: str, status: os.stat_result) -> None:
        """Count the entry as used now; the access time carries the order of use over a restart."""
        self._entries.move_to_end(sha256)
        now_s = time.monotonic()
        if now_s - self._touched_s.get(sha256, -TOUCH_AGAIN_S) >= TOUCH_AGAIN_S:
            self._touched_s[sha256] = now_s
            # mtime must stay: the ETag is made of it.
            os.utime(self.path(sha256), ns=(time.time_ns(), status.st_mtime_ns))

    def check(self, item: Item) -> bool:
        """Compare the entry with its signed digest and length. Blocking."""
        path = self.path(item.sha256)
        try:
            stamp = _stamp(path.stat())
            check_file(path, FileEntry(item.sha256, item.size))
        except (InputError, OSError):
            return False
        self._checked[item.sha256] = (stamp, time.monotonic())
        return True

    def drop_corrupt(self, item: Item) -> None:
        """Take a corrupt entry out: it is a miss."""
        self._use.corrupt += 1
        log_event(logger, "cache.corrupt", logging.WARNING, sha256=item.sha256)
        self._drop(item.sha256)

    def commit(self, item: Item) -> None:
        """Check the part's length and digest, make it durable, and return it its name. Blocking.

        Raises:
            InputError: the bytes are not those that were signed.
            OSError: the disk refused.
        """
        part, path = self.part(item.sha256), self.path(item.sha256)
        check_file(part, FileEntry(item.sha256, item.size))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)  # the one rename outside contract.files: the temporary must survive to be resumed
        fsync_folder(self._content)
        self._checked[item.sha256] = (_stamp(path.stat()), time.monotonic())

    def admit(self, item: Item) -> None:
        """Take a committed entry into the order of use."""
        self._entries[item.sha256] = item.size
        self._entries.move_to_end(item.sha256)

    @contextlib.contextmanager
    def pinned(self, sha256: str) -> Iterator[None]:
        """Keep an entry from eviction while it is being served."""
        self._pins[sha256] += 1
        try:
            yield
        finally:
            _decrease(self._pins, sha256)

    @contextlib.contextmanager
    def room_for(self, item: Item) -> Iterator[None]:
        """Hold room for ``item`` during a fetch, evicting others; StorageError when there cannot be enough."""
        self._fetching[item.sha256] = item.size
        try:
            self._make_room(item.size)
            yield
        finally:
            del self._fetching[item.sha256]

    def evict(self, needed_bytes: int) -> int:
        """Remove least recently used entries that nobody is being served, until ``needed_bytes`` are free."""
        freed = 0
        for sha256, size in list(self._entries.items()):
            if freed >= needed_bytes:
                break
            if not self._pins[sha256]:
                self._drop(sha256)
                self._use.evictions += 1
                freed += size
        return freed

    def forget_parts(self, wanted: set[str]) -> None:
        """Remove unfinished entries that no verified release names any more."""
        for path in self._parts.iterdir():
            if path.stem not in wanted and path.stem not in self._fetching:
                path.unlink(missing_ok=True)

    def used_bytes(self) -> int:
        """Return the bytes of entries, of fetches under way and of unfinished parts."""
        waiting = sum(path.stat().st_size for path in self._parts.iterdir() if path.stem not in self._fetching)
        return sum(self._entries.values()) + sum(self._fetching.values()) + waiting

    def __len__(self) -> int:
        return len(self._entries)

    def _make_room(self, size: int) -> None:
        excess = self.used_bytes() - self._limit
        if excess > 0 and (size > self._limit or self.evict(excess) < excess):
            raise StorageError(f"the cache of {self._limit} bytes has no room for {size} more")

    def _drop(self, sha256: str) -> None:
        with contextlib.suppress(OSError):  # a card that turned read-only: forgotten all the same, never served
            self.path(sha256).unlink(missing_ok=True)
        self._entries.pop(sha256, None)
        self._checked.pop(sha256, None)
        self._touched_s.pop(sha256, None)


def _scan(folder: Path) -> OrderedDict[str, int]:
    """Return the entries of an earlier run, least recently used first."""
    found = []
    for path in folder.iterdir():
        if _DIGEST.fullmatch(path.name) and path.is_file():
            status = path.stat()
            found.append((status.st_atime_ns, path.name, status.st_size))
    return OrderedDict((name, size) for _, name, size in sorted(found))


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
