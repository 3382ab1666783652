"""Owns the peers that are programs of the command line: xdelta3 and `zstd --patch-from`.

Refuses to wait for ever: a program that takes longer than `TIMEOUT_S` has failed. CPU is that of the child process,
its start and its reading and writing of files included.
"""

import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from modelpatch.peers.base import Peer, PeerError, find_module

TIMEOUT_S = 3600
# xdelta3 takes windows of 16 KiB to 16 MiB, and a source buffer of at least 512 KiB.
_XDELTA_WINDOW = (16 << 10, 16 << 20)
_XDELTA_SOURCE = 512 << 10
_ZSTD_WINDOW_LOG2 = (10, 31)


class _ProgramPeer(Peer):
    """A peer that reads and writes files, in a temporary folder of its own for each call."""

    program: ClassVar[str]
    version_option: ClassVar[str]
    measured = "child process"

    def version(self) -> str | None:
        path = shutil.which(self.program)
        if path is None:
            return None
        done = subprocess.run([path, self.version_option], capture_output=True, text=True, check=False, timeout=60)
        found = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
        return found.group() if found else "unknown version"

    def _timed(self, run: Callable[[], bytes]) -> tuple[bytes, float]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        made, _ = super()._timed(run)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return made, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def _run(self, files: dict[str, bytes], arguments: Sequence[str]) -> bytes:
        """Run the program where `files` are; return the file `out` that it made."""
        with tempfile.TemporaryDirectory(prefix="modelpatch-peer-") as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            command = [self.program, *arguments]
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=TIMEOUT_S, check=False)
            if done.returncode:
                last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
                raise PeerError(f"exit code {done.returncode} {' '.join(last)}".strip())
            return (Path(folder) / "out").read_bytes()


class Xdelta3(_ProgramPeer):
    """xdelta3 (VCDIFF), best level, each secondary compression; its buffers hold the whole base."""

    name = "xdelta3"
    program, version_option = "xdelta3", "-V"
    all_settings = ("none-1", "none-9", "djw-1", "djw-9", "fgk-9", "lzma-9")
    slow_settings = frozenset({"fgk-9"})

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        secondary, level = setting.split("-")
        options = ["-e", "-f", f"-{level}", "-S", secondary, *self._buffers(old, new)]
        return self._run({"old": old, "new": new}, [*options, "-s", "old", "new", "out"])

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        return self._run(
            {"old": old, "patch": patch}, ["-d", "-f", *self._buffers(old, b""), "-s", "old", "patch", "out"]
        )

    def _buffers(self, old: bytes, new: bytes) -> list[str]:
        window = min(max(len(new), _XDELTA_WINDOW[0]), _XDELTA_WINDOW[1])
        return ["-B", str(max(_XDELTA_SOURCE, len(old))), "-W", str(window)]


class ZstdProgram(_ProgramPeer):
    """`zstd --patch-from` with a window that holds base and target."""

    name = "zstd --patch-from"
    program, version_option = "zstd", "--version"
    all_settings = ("3", "19", "22")
    slow_settings = frozenset({"19"})

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        long = f"--long={_window_log2(old, new)}"
        options = ["-q", "-f", "--ultra", f"-{setting}", long, "--patch-from=old"]
        return self._run({"old": old, "new": new}, [*options, "new", "-o", "out"])

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        options = ["-q", "-f", "-d", f"--long={_ZSTD_WINDOW_LOG2[1]}", "--patch-from=old"]
        return self._run({"old": old, "patch": patch}, [*options, "patch", "-o", "out"])


class ZstdPackage(Peer):
    """The same as `zstd --patch-from` by the PyPI package zstandard: the base is the dictionary."""

    name = "zstd --patch-from"
    all_settings = ZstdProgram.all_settings
    slow_settings = ZstdProgram.slow_settings

    def version(self) -> str | None:
        zstd = find_module("zstandard")
        return None if zstd is None else ".".join(map(str, zstd.ZSTD_VERSION)) + " (package zstandard)"

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        zstd = find_module("zstandard")
        parameters = zstd.ZstdCompressionParameters.from_level(
            int(setting), window_log=_window_log2(old, new), enable_ldm=True, source_size=len(new)
        )
        base = zstd.ZstdCompressionDict(old, dict_type=zstd.DICT_TYPE_RAWCONTENT)
        return bytes(zstd.ZstdCompressor(dict_data=base, compression_params=parameters).compress(new))

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        zstd = find_module("zstandard")
        base = zstd.ZstdCompressionDict(old, dict_type=zstd.DICT_TYPE_RAWCONTENT)
        limit = 1 << _ZSTD_WINDOW_LOG2[1]
        return bytes(zstd.ZstdDecompressor(dict_data=base, max_window_size=limit).decompress(patch))


def _window_log2(old: bytes, new: bytes) -> int:
    return min(max((len(old) + len(new)).bit_length(), _ZSTD_WINDOW_LOG2[0]), _ZSTD_WINDOW_LOG2[1])
