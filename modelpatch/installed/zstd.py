"""Owns the use of zstd where a module for it is installed: Python 3.14's own, or the package `zstandard`.

Refuses to need one: without a module nothing is opened and nothing is compressed.
"""

import io
import sys
from types import ModuleType
from typing import Any

from modelpatch.errors import PatchFormatError
from modelpatch.format.coders import StreamReader, check_dictionary


def module() -> ModuleType | None:
    """Return the module that can decode zstd; None without one."""
    if sys.version_info >= (3, 14):
        try:
            from compression import zstd

            return zstd
        except ImportError:
            pass  # this Python was built without it
    try:
        import zstandard
    except ImportError:
        return None
    found: ModuleType = zstandard
    return found


def open_payload(payload: bytes, dict_log2: int) -> StreamReader | None:
    """Return a reader of one zstd frame whose window is at most 2^`dict_log2` bytes; None without a module.

    Raises:
        PatchFormatError: the dictionary is outside the limits of the format.
    """
    check_dictionary(dict_log2)
    zstd: Any = module()
    if zstd is None:
        return None
    source = io.BytesIO(payload)
    if zstd.__name__ == "zstandard":
        opened = zstd.ZstdDecompressor(max_window_size=1 << dict_log2).stream_reader(source)
    else:
        opened = zstd.ZstdFile(source, options={zstd.DecompressionParameter.window_log_max: dict_log2})
    return _ZstdReader(opened, zstd.ZstdError)


def compress(data: bytes, level: int) -> bytes | None:
    """Return `data` as one zstd frame; None without a module."""
    zstd: Any = module()
    if zstd is None:
        return None
    if zstd.__name__ == "zstandard":
        return bytes(zstd.ZstdCompressor(level=level, write_content_size=False).compress(data))
    return bytes(zstd.compress(data, level))


class _ZstdReader:
    """Decodes one zstd frame (RFC 8878) through a file-like reader of whatever module there is."""

    def __init__(self, stream: Any, errors: type[Exception]) -> None:
        self._stream, self._errors = stream, errors

    def read_exactly(self, count: int) -> bytes:
        parts = []
        while count:
            try:
                part = self._stream.read(count)
            except (self._errors, EOFError) as e:
                raise PatchFormatError("a zstd stream is damaged") from e
            if not part:
                raise PatchFormatError("a zstd stream ends too early")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
