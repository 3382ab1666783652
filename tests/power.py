"""Owns a model of power cuts: what of a folder is on the disk when the power goes before a given operation.

A name counts as kept when its folder was synced after it was made, bytes when their file was synced. Everything
else may be there or not: ``keep`` (all of it is), ``drop`` (none of it is), or a seed that tosses a coin for each.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPERATIONS = ("fsync", "replace", "unlink")


class PowerCut(BaseException):
    """The power is gone: nothing of the program runs on, no cleaning up either."""


class Disk:
    """Watches the operations of ``os`` below ``folder``; the one with number ``cut_at`` (from 0) never happens."""

    def __init__(self, folder: Path, cut_at: int | None = None) -> None:
        self.folder = folder
        self.count = 0
        self.cut = False
        self._cut_at = cut_at
        self._names: dict[Path, dict[str, int]] = {}
        self._bytes: dict[int, bytes] = {}
        self._held: list[int] = []
        for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            self._sync_folder(path)
        for path in folder.rglob("*"):
            if path.is_file():
                self._synced(path)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch inside the block; a power cut leaves it quietly."""
        real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in OPERATIONS}
        with pytest.MonkeyPatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(os, name, self._watched(name, real[name]))
            try:
                yield
            except PowerCut:
                self.cut = True
            finally:
                for descriptor in self._held:
                    os.close(descriptor)
                self._held.clear()

    def _watched(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def watched(first: Any, *rest: Any, **options: Any) -> Any:
            path = Path(f"/proc/self/fd/{first}").readlink() if name == "fsync" else Path(first)
            if not path.is_relative_to(self.folder):
                return operation(first, *rest, **options)
            if self._cut_at is not None and self.count >= self._cut_at:
                raise PowerCut(f"{name} {path}")
            self.count += 1
            self._hold(path, *(Path(other) for other in rest))
            if name == "fsync":
                return self._synced(path)  # the model is the disk here; waiting for the real one proves nothing
            return operation(first, *rest, **options)

        return watched

    def _hold(self, *paths: Path) -> None:
        """Keep files open, so that the number of one that goes is not given to another."""
        self._held += [os.open(path, os.O_RDONLY) for path in paths if path.is_file()]

    def _synced(self, path: Path) -> None:
        if path.is_dir():
            self._sync_folder(path)
        else:
            self._bytes[path.stat().st_ino] = path.read_bytes()

    def _sync_folder(self, folder: Path) -> None:
        self._names[folder] = {path.name: path.lstat().st_ino for path in folder.iterdir() if path.is_file()}
        for path in folder.iterdir():
            if path.is_dir():
                self._names.setdefault(path, {})

    def come_back(self, fate: str | int) -> None:
        """Make the folder what it is after the power has come back."""
        if fate == "keep":
            return
        coin = random.Random(fate)
        for folder, names in self._names.items():
            now = {path.name: path for path in folder.iterdir() if path.is_file() or path.is_symlink()}
            for name in sorted({*now, *names}):
                if fate == "drop" or coin.random() < 0.5:
                    self._restore(folder / name, names.get(name))

    def _restore(self, path: Path, inode: int | None) -> None:
        """Put back what the name stood for when its folder was synced; bytes that were never synced are gone."""
        if inode is None:
            path.unlink(missing_ok=True)
        else:
            path.unlink(missing_ok=True)
            path.write_bytes(self._bytes.get(inode, b""))
