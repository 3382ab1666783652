"""Owns turning a base stream and a patch stream into a target stream, with bounded memory.

Refuses everything that is not exactly right: limits are checked before work, the base's digest before the first
byte is written, the target's length and digest after the last. It writes to the stream that it is given and
gives nothing a name: `files.py` does.
"""

import hashlib
from typing import BinaryIO, NamedTuple

from modelpatch.errors import BaseMismatchError, PatchFormatError, PatchLimitError, TargetMismatchError
from modelpatch.format.coders import Coder, LzmaReader
from modelpatch.format.engine import STANDARD, Engine, check_supported
from modelpatch.format.frames import (
    FrameType,
    Op,
    OpKind,
    OpsFrame,
    memory_for_frame,
    read_frame_type,
    read_ops_frame,
    read_stream_info,
)
from modelpatch.format.header import DEFAULT_MEMORY_BYTES, PatchHeader, PatchKind, decode_header
from modelpatch.format.lane import WITHOUT_BASE
from modelpatch.format.reading import PatchReader
from modelpatch.format.transforms import Delta

# Copies and digests move this many bytes at a time.
COPY_BYTES = 256 << 10
_FEED_BYTES = 64 << 10


class Applied(NamedTuple):
    """What an apply did. Digests are SHA-256 in hex (of a folder: tree digests), lengths in bytes."""

    kind: PatchKind
    base_sha256: str
    target_sha256: str
    target_length: int
    patch_bytes: int


def apply_stream(
    base: BinaryIO | None,
    patch: BinaryIO,
    target: BinaryIO,
    *,
    max_target_bytes: int | None = None,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
    engine: Engine = STANDARD,
) -> Applied:
    """Write to `target` what `patch` makes of `base`, with the means of `engine`; see `modelpatch.apply_stream`.

    Memory stays below 2 * `COPY_BYTES` plus what the header declares, whatever the sizes of the files.
    """
    reader = PatchReader(patch)
    header = decode_header(reader)
    if header.kind is PatchKind.FOLDER:
        raise PatchFormatError("it is a patch of a folder, not of a file")
    check_supported(header, engine)
    check_limits(header, max_target_bytes, max_memory_bytes)
    if header.kind is PatchKind.FILE:
        check_base(base, header)
    reader.enter_section(header.body_length)
    return _decode(base, header, reader, _Target(target, header.target_length), engine)


def check_limits(header: PatchHeader, max_target_bytes: int | None, max_memory_bytes: int) -> None:
    """Refuse a patch that declares more than is allowed. Raises PatchLimitError."""
    if max_target_bytes is not None and header.target_length > max_target_bytes:
        raise PatchLimitError(f"the target would have {header.target_length} bytes, {max_target_bytes} are allowed")
    if header.memory_bytes > max_memory_bytes:
        raise PatchLimitError(
            f"the patch needs {header.memory_bytes} bytes of memory, {max_memory_bytes} are allowed"
        )


def check_base(base: BinaryIO | None, header: PatchHeader) -> None:
    """Refuse a base whose length or digest is not the declared one.

    Raises:
        BaseMismatchError: it is not, or there is no base.
    """
    if base is None:
        raise BaseMismatchError("the patch needs a base and none was given")
    length = base.seek(0, 2)
    if length != header.base_length:
        raise BaseMismatchError(f"the patch is for a base of {header.base_length} bytes, this one has {length}")
    digest = digest_stream(base)
    if digest != header.base_sha256:
        raise BaseMismatchError(f"the patch is for base {header.base_sha256[:12]}, this one is {digest[:12]}")


def digest_stream(stream: BinaryIO) -> str:
    """Return the SHA-256 of `stream`, read from its start, as hex."""
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(COPY_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _decode(
    base: BinaryIO | None, header: PatchHeader, reader: PatchReader, out: "_Target", engine: Engine
) -> Applied:
    frames = _FrameDecoder(base, header.base_length, out, engine)
    while out.left:
        frame_type, dict_log2 = read_frame_type(reader)
        if frame_type is FrameType.SOLID:
            _decode_solid(reader, dict_log2, header.memory_bytes, out)
        else:
            frames.run(read_ops_frame(reader, dict_log2, header.memory_bytes, engine))
    reader.expect_end()
    if out.digest() != header.target_sha256:
        raise TargetMismatchError(
            f"the result is {out.digest()[:12]}, the patch declares {header.target_sha256[:12]}"
        )
    return Applied(
        header.kind, header.base_sha256, header.target_sha256, header.target_length, patch_bytes=reader.consumed
    )


class _Target:
    """Writes, counts and digests the target, and lets no byte too many through."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream, self.left, self._digest = stream, length, hashlib.sha256()

    def write(self, data: bytes) -> None:
        if len(data) > self.left:
            raise PatchFormatError("it makes more bytes than it declares")
        self.left -= len(data)
        self._digest.update(data)
        self._stream.write(data)

    def digest(self) -> str:
        return self._digest.hexdigest()


class _FrameDecoder:
    """Runs the operations of frames, over the base, into the target."""

    def __init__(self, base: BinaryIO | None, base_length: int, out: _Target, engine: Engine) -> None:
        self._base, self._base_length, self._out, self._engine = base, base_length, out, engine

    def run(self, frame: OpsFrame) -> None:
        literal_at, element_at = 0, [0] * len(frame.lanes)
        for op in frame.ops():
            if op.length > self._out.left:
                raise PatchFormatError("it makes more bytes than it declares")
            if op.kind is OpKind.COPY:
                self._copy(op)
            elif op.kind is OpKind.LITERAL:
                self._out.write(frame.literals[literal_at : literal_at + op.length])
                literal_at += op.length
            else:
                self._delta(op, frame, element_at[op.lane])
                element_at[op.lane] += op.length // frame.lanes[op.lane].width

    def _copy(self, op: Op) -> None:
        base = self._seek_base(op)
        left = op.length
        while left:
            chunk = base.read(min(left, COPY_BYTES))
            if not chunk:
                raise BaseMismatchError("the base became shorter while it was read")
            self._out.write(chunk)
            left -= len(chunk)

    def _delta(self, op: Op, frame: OpsFrame, first: int) -> None:
        lane = frame.lanes[op.lane]
        end = first + op.length // lane.width
        planes = [plane[first:end] for plane in frame.planes[op.lane]]
        base = b"" if lane.transform in WITHOUT_BASE else self._read_base(op)
        self._out.write(self._engine.undo(Delta(lane, planes, base, op.base)))

    def _seek_base(self, op: Op) -> BinaryIO:
        if self._base is None or op.base + op.length > self._base_length:
            raise PatchFormatError("an operation reads behind the end of the base")
        self._base.seek(op.base)
        return self._base

    def _read_base(self, op: Op) -> bytes:
        data = self._seek_base(op).read(op.length)
        if len(data) != op.length:
            raise BaseMismatchError("the base became shorter while it was read")
        return data


def _decode_solid(reader: PatchReader, dict_log2: int, memory_bytes: int, out: _Target) -> None:
    info = read_stream_info(reader)
    length = reader.varint()
    if not 0 < length <= out.left or memory_for_frame(0, dict_log2) > memory_bytes:
        raise PatchFormatError("a frame is larger than the header declares")
    if info.coder is Coder.STORED:
        _copy_stored(reader, length, out)
    elif info.coder is Coder.LZMA:
        _copy_lzma(reader, LzmaReader(info.value, dict_log2), info.coded_length, length, out)
    else:
        raise PatchFormatError("a solid frame must be stored or LZMA")


def _copy_stored(reader: PatchReader, length: int, out: _Target) -> None:
    while length:
        chunk = reader.read(min(length, COPY_BYTES))
        out.write(chunk)
        length -= len(chunk)


def _copy_lzma(reader: PatchReader, decoder: LzmaReader, coded: int, length: int, out: _Target) -> None:
    fed = False
    while not fed:  # once at least: zeros alone may be coded as a payload of nothing
        piece = reader.read(min(coded, _FEED_BYTES))
        coded -= len(piece)
        fed = coded == 0
        if not length:
            continue  # what follows the last byte that is taken means nothing, and must not pile up
        decoder.feed(piece, last=fed)
        while length and (data := decoder.read(min(length, COPY_BYTES))):
            out.write(data)
            length -= len(data)
    if length:
        raise PatchFormatError("an LZMA stream ends too early")
