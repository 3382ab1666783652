"""Owns the header that every patch starts with: what it is for, what it makes, what a decoder needs.

Refuses other magic numbers, newer versions, unknown flags and features, and numbers out of range. The layout is
docs/patch-format.md, "Header"; it has not changed since version 1 and must not.
"""

import enum
import io
from typing import BinaryIO, NamedTuple

from modelpatch.errors import PatchFormatError, UnsupportedPatchError
from modelpatch.format import varint
from modelpatch.format.reading import PatchReader

MAGIC = b"\x89KMP"
VERSION = 1
# An ops frame of 1 MiB needs 18 MiB (frames.memory_for_frame); 64 MiB leaves a small board most of its memory.
DEFAULT_MEMORY_BYTES = 64 << 20
# A patch of a few bytes may declare a target of any length; an inspection with a base makes each file in memory.
INSPECTED_TARGET_BYTES = 4 << 30
MAX_EXTENSION_BYTES = 4096
DIGEST_BYTES = 32
NO_DIGEST = "0" * 64
_KIND_MASK = 0x07


class PatchKind(enum.IntEnum):
    """What a patch turns into what."""

    FILE = 0  # one exact base file into one exact target file
    WHOLE = 1  # nothing into one exact target file
    FOLDER = 2  # one exact folder into another


class DecoderFeatures(enum.IntFlag):
    """What a decoder has beyond the required part of the format. Bits are fixed for good."""

    NONE = 0
    LZMA = 1 << 0
    GRID = 1 << 1
    SORTED = 1 << 2
    ZSTD = 1 << 3
    RESCALE = 1 << 4
    NIBBLE = 1 << 5
    DEFLATE = 1 << 6
    CRUMB = 1 << 7


# What a decoder can do with Python's standard library alone.
DEFAULT_FEATURES = ~DecoderFeatures.ZSTD


class PatchHeader(NamedTuple):
    """The decoded header of a patch. Digests are SHA-256 as 64 lower-case hex digits; lengths are in bytes.

    For a whole-file patch `base_sha256` is 64 zeros and `base_length` 0. For a folder the digests are tree
    digests (docs/patch-format.md, "Folder") and the lengths are sums over the files.
    """

    kind: PatchKind
    features: DecoderFeatures
    memory_bytes: int
    base_sha256: str
    base_length: int
    target_sha256: str
    target_length: int
    body_length: int
    version: int = VERSION

    def encode(self) -> bytes:
        """Return the header as bytes; the body of `body_length` bytes must follow."""
        base = varint.encode(self.base_length) + bytes.fromhex(self.base_sha256)
        return b"".join(
            (
                MAGIC,
                bytes((self.version, self.kind)),
                varint.encode(self.features),
                varint.encode(-(-self.memory_bytes // 1024)),
                b"" if self.kind is PatchKind.WHOLE else base,
                varint.encode(self.target_length),
                bytes.fromhex(self.target_sha256),
                varint.encode(0),  # no extensions
                varint.encode(self.body_length),
            )
        )


def read_header(patch: BinaryIO | bytes) -> PatchHeader:
    """Return the header of `patch`; a stream is left at the first byte of the body.

    Raises:
        PatchFormatError: these are not the bytes of a patch, or the header is damaged.
        UnsupportedPatchError: the patch is of a newer version or kind.
    """
    stream: BinaryIO = io.BytesIO(patch) if isinstance(patch, bytes) else patch
    return decode_header(PatchReader(stream))


def decode_header(reader: PatchReader) -> PatchHeader:
    """Return the header at `reader`, which is left at the first byte of the body. Raises as `read_header`."""
    kind = _decode_prefix(reader)
    features = DecoderFeatures(_bounded(reader, 1 << 32, "feature bits"))
    memory = _bounded(reader, 1 << 32, "memory") * 1024
    base_length, base_sha256 = (0, NO_DIGEST) if kind is PatchKind.WHOLE else _decode_identity(reader)
    target_length, target_sha256 = _decode_identity(reader)
    # Extensions carry nothing that a decoder must know, so that old decoders can step over them.
    reader.read(_bounded(reader, MAX_EXTENSION_BYTES, "extension length"))
    return PatchHeader(
        kind=kind,
        features=features,
        memory_bytes=memory,
        base_sha256=base_sha256,
        base_length=base_length,
        target_sha256=target_sha256,
        target_length=target_length,
        body_length=reader.varint(),
    )


def _decode_prefix(reader: PatchReader) -> PatchKind:
    if reader.read(len(MAGIC)) != MAGIC:
        raise PatchFormatError("it is not a patch (wrong magic number)")
    version, kind = reader.byte(), reader.byte()
    if version != VERSION:
        raise UnsupportedPatchError(f"the patch has format version {version}, this decoder reads {VERSION}")
    if kind & ~_KIND_MASK or kind not in PatchKind.__members__.values():
        raise UnsupportedPatchError(f"the patch is of an unknown kind ({kind})")
    return PatchKind(kind)


def _decode_identity(reader: PatchReader) -> tuple[int, str]:
    length = reader.varint()
    return length, reader.read(DIGEST_BYTES).hex()


def _bounded(reader: PatchReader, limit: int, name: str) -> int:
    value = reader.varint()
    if value > limit:
        raise PatchFormatError(f"the {name} in the header is out of range ({value})")
    return value
