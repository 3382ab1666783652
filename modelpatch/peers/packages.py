"""Owns the peers that are Python packages: HDiffPatch, bsdiff, detools, and plain compression of the whole file.

Refuses to import any of them before it is used. CPU is measured in this process, all threads.
"""

import importlib
import importlib.metadata
import io
import lzma
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from modelpatch.peers.base import Measurement, Peer, find_module

_XZ_MAGIC = b"\xfd7zXZ\0"


class _PackagePeer(Peer):
    """A peer that is a Python package of the same name as on PyPI."""

    package: ClassVar[str]

    def version(self) -> str | None:
        return importlib.metadata.version(self.package) if find_module(self.package) else None

    @property
    def module(self) -> Any:
        """The package."""
        return importlib.import_module(self.package)


class HDiffPatch(_PackagePeer):
    """HDiffPatch by its PyPI package, in the format of its program hdiffz.

    The search is done once with the package's match cache (the same bytes in a third of the time) and
    compressed again with each setting, which gives the same bytes as a diff with that setting; the CPU of a setting
    is that of the search and of its own compression. The package offers no stream or window matching.
    """

    name = "HDiffPatch"
    package = "hdiffpatch"
    all_settings = (
        "none",
        "zlib-1",
        "zlib-9",
        "zstd-1",
        "zstd-3",
        "zstd-22",
        "bz2-9",
        "lzma-9",
        "lzma2-9",
        "brotli-11",
    )
    slow_settings = frozenset({"brotli-11"})
    _formats: ClassVar[tuple[str, str, str]] = ("diff", "recompress", "apply")

    def measure(self, old: bytes, new: bytes) -> Iterator[Measurement]:
        found, search_s = self._timed(partial(self._search, old, new))
        for setting in self.settings:
            made, cpu_s = self._timed(partial(self._compressed, found, setting))
            yield Measurement(setting, made, search_s + cpu_s)

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        return self._compressed(self._search(old, new), setting)

    def _search(self, old: bytes, new: bytes) -> bytes:
        diff = getattr(self.module, self._formats[0])
        return bytes(diff(old, new, compression="none", validate=False, big_cache_match=True))

    def _compressed(self, found: bytes, setting: str) -> bytes:
        if setting == "none":
            return found
        return bytes(getattr(self.module, self._formats[1])(found, self._config(setting)))

    def _config(self, setting: str) -> Any:
        # Windows as in the package's own `best_compression`; one thread, so that CPU is not spent on sharing work.
        h, level = self.module, int(setting.split("-")[1])
        make = {
            "zlib": lambda: h.ZlibConfig(level=level),
            "zstd": lambda: h.ZStdConfig(level=level, window=27, threads=1),
            "bz2": lambda: h.BZip2Config(level=level),
            "lzma": lambda: h.LzmaConfig(level=level, window=25, threads=1),
            "lzma2": lambda: h.Lzma2Config(level=level, window=25, threads=1),
            "brotli": lambda: h.BrotliConfig(level=level, window=24),
        }
        return make[setting.split("-")[0]]()

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        return bytes(getattr(self.module, self._formats[2])(old, patch))


class HPatchLite(HDiffPatch):
    """HPatchLite, HDiffPatch's format for small devices, by the same package: smaller headers, no checksum."""

    name = "HPatchLite"
    _formats = ("diff_lite", "recompress_lite", "apply_lite")


class Bsdiff(_PackagePeer):
    """bsdiff in Colin Percival's format, by the PyPI package bsdiff4. Has no settings."""

    name = "bsdiff4"
    package = "bsdiff4"
    all_settings = ("bz2",)

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        return bytes(self.module.diff(old, new))

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        return bytes(self.module.patch(old, patch))


class Detools(_PackagePeer):
    """detools by its PyPI package: patch type, algorithm and compression."""

    name = "detools"
    package = "detools"
    # The other compressions (bz2, zstd, lz4) never came out smallest; crle and none win on very small patches.
    all_settings = (
        "sequential/bsdiff/none",
        "sequential/bsdiff/crle",
        "sequential/bsdiff/heatshrink",
        "sequential/bsdiff/lzma",
        "sequential/match-blocks/crle",
        "sequential/match-blocks/lzma",
        "hdiffpatch/hdiffpatch/none",
        "hdiffpatch/hdiffpatch/crle",
        "hdiffpatch/hdiffpatch/heatshrink",
        "hdiffpatch/hdiffpatch/lzma",
        "hdiffpatch/match-blocks/crle",
        "hdiffpatch/match-blocks/lzma",
    )
    # Each repeats the search, and crle, heatshrink are written for patches of a few kilobytes.
    slow_settings = frozenset(s for s in all_settings if not s.endswith("/lzma") or s.startswith("sequential/bsdiff"))

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        kind, algorithm, compression = setting.split("/")
        out = io.BytesIO()
        self.module.create_patch(
            io.BytesIO(old),
            io.BytesIO(new),
            out,
            compression=compression,
            patch_type=kind,
            algorithm=algorithm,
            use_mmap=False,
        )
        return out.getvalue()

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        out = io.BytesIO()
        self.module.apply_patch(io.BytesIO(old), io.BytesIO(patch), out)
        return out.getvalue()


class CompressedWhole(Peer):
    """No patch: the whole file, compressed. Always there, by Python's own lzma; zstd where zstandard is installed."""

    name = "compressed whole file"
    all_settings = ("xz-9e", "zstd-19", "zstd-22")
    slow_settings = frozenset({"zstd-19"})

    def version(self) -> str | None:
        zstd = find_module("zstandard")
        return "Python's lzma" + (f", zstd {'.'.join(map(str, zstd.ZSTD_VERSION))}" if zstd else "")

    def usable_settings(self) -> tuple[str, ...]:
        return self.settings if find_module("zstandard") else tuple(s for s in self.settings if s == "xz-9e")

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        if setting == "xz-9e":
            return lzma.compress(new, preset=9 | lzma.PRESET_EXTREME)
        level = int(setting.removeprefix("zstd-"))
        return bytes(importlib.import_module("zstandard").ZstdCompressor(level=level).compress(new))

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        if patch.startswith(_XZ_MAGIC):
            return lzma.decompress(patch)
        return bytes(importlib.import_module("zstandard").ZstdDecompressor().decompress(patch))
