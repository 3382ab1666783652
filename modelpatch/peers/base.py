"""Owns what a peer is: a tool with settings, measured one by one; and which of its results count.

Refuses to let a peer's own errors through: they become `PeerError`.
"""

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

# A faster setting compares with a peer's best when its patch is at most this much larger: the same that our own
# `fast` effort is held to.
COMPARABLE = 1.05


class PeerError(Exception):
    """An installed peer could not do what it was asked; says what it said."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One patch that a peer made: with which setting, the patch, and CPU seconds that it took."""

    setting: str
    patch: bytes
    diff_cpu_s: float


def smallest(found: Iterable[Measurement]) -> Measurement:
    """Return the one with the smallest patch; of equal ones the one that took the least CPU."""
    return min(found, key=lambda one: (len(one.patch), one.diff_cpu_s))


def fastest_comparable(found: Sequence[Measurement]) -> Measurement:
    """Return the one with the least CPU among those at most `COMPARABLE` times as large as the smallest."""
    limit = COMPARABLE * len(smallest(found).patch)
    return min((one for one in found if len(one.patch) <= limit), key=lambda one: one.diff_cpu_s)


class Peer(ABC):
    """A tool that makes and applies binary patches, with the settings worth trying.

    Args:
        settings: a selection of the class's `all_settings`; all of them by default.

    Raises:
        ValueError: a setting does not exist.
    """

    name: ClassVar[str]
    all_settings: ClassVar[tuple[str, ...]]
    # Those of the settings that are left out where time matters: CPU seconds per megabyte for the last percent.
    slow_settings: ClassVar[frozenset[str]] = frozenset()
    # How CPU is measured: `in process`, or `child process` where a program is started for each call.
    measured: ClassVar[str] = "in process"

    def __init__(self, settings: Sequence[str] | None = None) -> None:
        self.settings = self.all_settings if settings is None else tuple(settings)
        if wrong := [s for s in self.settings if s not in self.all_settings]:
            raise ValueError(f"{self.name} has no setting {wrong[0]!r}, but {', '.join(self.all_settings)}")

    @abstractmethod
    def version(self) -> str | None:
        """Return the version installed, None where the peer is not installed."""

    def available(self) -> bool:
        """Return whether the peer is installed and works in this Python."""
        return self.version() is not None

    def usable_settings(self) -> tuple[str, ...]:
        """Return those of its settings that work with what is installed."""
        return self.settings

    def measure(self, old: bytes, new: bytes) -> Iterator[Measurement]:
        """Return the patch of every setting, as each is made; `diff_cpu_s` as if it were the only one.

        Raises:
            PeerError: the peer failed.
        """
        for setting in self.usable_settings():
            patch, cpu_s = self._timed(partial(self._diff, old, new, setting))
            yield Measurement(setting, patch, cpu_s)

    def diff(self, old: bytes, new: bytes) -> bytes:
        """Return the smallest patch of all settings. Raises PeerError: the peer failed."""
        return smallest(self.measure(old, new)).patch

    def apply(self, old: bytes, patch: bytes) -> bytes:
        """Return what `patch` makes of `old`. Raises PeerError: the peer failed."""
        return self.timed_apply(old, patch)[0]

    def timed_apply(self, old: bytes, patch: bytes) -> tuple[bytes, float]:
        """Return what `patch` makes of `old` and the CPU seconds that it took. Raises PeerError: the peer failed."""
        return self._timed(lambda: self._apply(old, patch))

    def _timed(self, run: Callable[[], bytes]) -> tuple[bytes, float]:
        start = time.process_time()
        try:
            made = run()
        except Exception as e:  # foreign code: each peer has errors of its own, and none of them is ours
            raise PeerError(f"{self.name}: {e or type(e).__name__}") from e
        return made, time.process_time() - start

    @abstractmethod
    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        """Return the patch of one setting; any exception is the peer's failure."""

    @abstractmethod
    def _apply(self, old: bytes, patch: bytes) -> bytes:
        """Return what `patch` makes of `old`; any exception is the peer's failure."""


def find_module(name: str) -> Any:
    """Return the module `name`, or None where it is not installed or does not load in this Python."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # OSError: its shared library is for another system
        return None
