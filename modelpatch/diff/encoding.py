"""Owns coding the streams of a frame: which coder with which properties, and which streams share one payload.

Refuses to code what would grow: stored is always there. The decoding side is `format/coders.py`. Needs numpy.

A decoder takes up to 80 ns for a byte of a long LZMA stream and 6 ns for one of a deflate stream, and patches are
applied on slow boards: on long streams LZMA has to save more than the time is worth.
"""

import lzma
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelpatch.diff.inputs import DiffSettings
from modelpatch.errors import PatchFormatError
from modelpatch.format import varint
from modelpatch.format.coders import (
    MAX_DICT_LOG2,
    MIN_DICT_LOG2,
    PACKED_BITS,
    Coder,
    LzmaReader,
    lzma_filters,
)
from modelpatch.format.header import DecoderFeatures
from modelpatch.installed import zstd

# Bits of entropy per byte above which no coder can win what its own overhead costs.
_INCOMPRESSIBLE_BITS = 7.97
# Streams up to this size are tried with every setting and together with their neighbours.
SMALL_BYTES = 8 << 10
# fast takes only streams of these bytes for small: each try of LZMA costs it a millisecond.
_FAST_SMALL_BYTES = 512
# Frames of at most this log2 of raw bytes are searched thoroughly.
_SMALL_FRAME_LOG2 = 17
_TRIMMED_BYTES = 96 << 10
# What LZMA has to save on a stream above SMALL_BYTES: parts of its raw bytes and of its payload, as it takes time
# for both.
_LZMA_RAW_COST, _LZMA_PAYLOAD_COST = 1 / 128, 1 / 32
# LZMA is tried where a quick coder brought a long stream below this part of it: noise stays noise.
_LZMA_BELOW = {"fast": 0.88, "best": 0.96}
# Share of escapes up to which packing pays, and the features that it needs; the smallest values first.
_MOST_ESCAPES = {Coder.CRUMB: 0.1, Coder.NIBBLE: 0.2}
_FEATURE = {Coder.CRUMB: DecoderFeatures.CRUMB, Coder.NIBBLE: DecoderFeatures.NIBBLE}
_RUNS = 0.35  # share of the commonest byte from which runs are worth a look
_DEFLATE_MEMORY = 9  # the largest blocks, the fewest code tables


@dataclass(frozen=True, slots=True)
class Coded:
    """One stream as it stands in a frame: its description and its payload (empty for fill and join)."""

    info: bytes
    payload: bytes

    def __len__(self) -> int:
        return len(self.info) + len(self.payload)

    @property
    def coder(self) -> Coder:
        """The coder of the stream."""
        return Coder(self.info[0])


@dataclass(frozen=True, slots=True)
class Encoder:
    """How streams are coded: the log2 of the dictionary, and the settings of the diff."""

    dict_log2: int
    settings: DiffSettings

    def streams(self, streams: list[bytes]) -> list[Coded]:
        """Return the streams coded, each on its own or joined to an earlier one, whatever is smallest."""
        out: list[Coded] = []
        group: list[int] = []  # indexes of the streams of the last payload that can be joined
        for index, stream in enumerate(streams):
            alone = self.stream(stream)
            joined = self._try_join(streams, group, index)
            if joined is not None and len(joined) + 1 < len(out[group[0]]) + len(alone):
                out[group[0]] = joined
                out.append(Coded(bytes((Coder.JOIN,)), b""))
                group.append(index)
                continue
            out.append(alone)
            if alone.coder in (Coder.LZMA, Coder.DEFLATE, Coder.ZSTD):
                group = [index]
        return out

    def trimmed(self, coded: Coded, data: bytes) -> Coded:
        """Return `coded`, without the last bytes of an LZMA payload that a decoder of `data` does not need."""
        if coded.coder is not Coder.LZMA or len(data) > _TRIMMED_BYTES or self.settings.fast:
            return coded
        payload, props = coded.payload, coded.info[1]
        while payload and _decodes(payload[:-1], data, props, self.dict_log2):
            payload = payload[:-1]
        return lzma_coded(props, payload)

    def stream(self, data: bytes) -> Coded:
        """Return `data` in the coder that makes it smallest, decoding time taken into account."""
        if data and data.count(data[0]) == len(data):
            return Coded(bytes((Coder.FILL, data[0])), b"")
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        if len(data) < 8 or entropy_bytes(counts) * 8 > _INCOMPRESSIBLE_BITS * len(data):
            return _stored(data)
        found = [_stored(data), *self._quick(data, counts)]
        for coder, most in _MOST_ESCAPES.items():
            escape = (1 << PACKED_BITS[coder]) - 1
            if self.settings.has(_FEATURE[coder]) and counts[escape:].sum() <= most * len(data):
                found.append(self._packed(data, coder))
                if self.settings.fast and len(data) > SMALL_BYTES:
                    return self._best(found, data)  # LZMA has been tried on fewer bytes
        return self._best([*found, *self._lzma(data, min(found, key=len))], data)

    def _best(self, found: list[Coded], data: bytes) -> Coded:
        return self.trimmed(min(found, key=lambda coded: len(coded) + self._penalty(coded, data)), data)

    def _penalty(self, coded: Coded, data: bytes) -> float:
        slow = coded.coder is Coder.LZMA and len(data) > SMALL_BYTES and self.settings.has(DecoderFeatures.DEFLATE)
        return len(data) * _LZMA_RAW_COST + len(coded.payload) * _LZMA_PAYLOAD_COST if slow else 0.0

    def _quick(self, data: bytes, counts: Any) -> list[Coded]:
        """Return `data` in the coders that decode fast."""
        out = []
        if self.settings.has(DecoderFeatures.DEFLATE):
            out = [_deflate(data, *how) for how in self._strategies(data, counts)]
        if self.settings.has(DecoderFeatures.ZSTD):
            payload = zstd.compress(data, 3 if self.settings.fast else 19)
            out += [] if payload is None else [_coded(Coder.ZSTD, payload)]
        return out

    def _strategies(self, data: bytes, counts: Any) -> list[tuple[int, int]]:
        """Return (strategy, level) pairs to try. Lazy matching takes for ever on planes of few values."""
        runs = counts.max() > _RUNS * len(data)
        if len(data) <= SMALL_BYTES:
            return [(zlib.Z_DEFAULT_STRATEGY, 9)]
        if self._thorough:
            return [(zlib.Z_HUFFMAN_ONLY, 9), (zlib.Z_RLE, 9), (zlib.Z_DEFAULT_STRATEGY, 5)]
        return [(zlib.Z_HUFFMAN_ONLY, 9), (zlib.Z_RLE, 9)][: 2 if runs else 1]

    def _lzma(self, data: bytes, quick: Coded) -> list[Coded]:
        if not self.settings.has(DecoderFeatures.LZMA):
            return []
        hopeless = len(quick) > _LZMA_BELOW[self.settings.effort] * len(data) and self.settings.has(
            DecoderFeatures.DEFLATE
        )
        if len(data) > self._small and hopeless and not self._thorough:
            return []
        return [self._lzma_payload(data, p) for p in self._props(len(data))]

    def _props(self, length: int) -> list[int]:
        """Return LZMA properties bytes (pb*5 + lp)*9 + lc: byte planes want lc 0, text and tables lc 3 or 4."""
        if not self._thorough:
            return [0]
        return [0, 3] if length > SMALL_BYTES else [0, 1, 3, 4]

    @property
    def _small(self) -> int:
        return _FAST_SMALL_BYTES if self.settings.fast else SMALL_BYTES

    @property
    def _thorough(self) -> bool:
        # Beside large streams what a search of every setting finds is not worth its time.
        return not self.settings.fast and self.dict_log2 <= _SMALL_FRAME_LOG2

    def _lzma_payload(self, data: bytes, props: int) -> Coded:
        return lzma_payload(data, props, self.dict_log2, thorough=self._thorough)

    def _packed(self, data: bytes, coder: Coder) -> Coded:
        bits, values = PACKED_BITS[coder], np.frombuffer(data, np.uint8)
        places, escape = 8 // bits, (1 << bits) - 1
        low = np.minimum(values, escape)
        rows = np.append(low, np.zeros(-len(low) % places, np.uint8)).reshape(-1, places)
        joined = (rows << np.arange(0, 8, bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
        packed, escapes = self._part(joined.tobytes()), self._part(values[values >= escape].tobytes())
        return Coded(bytes((coder,)) + packed.info + escapes.info, packed.payload + escapes.payload)

    def _part(self, data: bytes) -> Coded:
        """Return `data` coded for one of the two streams of packed values."""
        if not data or data.count(data[0]) == len(data):
            return Coded(bytes((Coder.FILL, data[0] if data else 0)), b"")
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        found = [_stored(data), *self._quick(data, counts)]
        return self._best([*found, *self._lzma(data, min(found, key=len))], data)

    def _try_join(self, streams: list[bytes], group: list[int], index: int) -> Coded | None:
        """Return the payload of the last group with this stream added, None where that is not worth trying."""
        if not streams[index] or not group or not self.settings.has(DecoderFeatures.LZMA):
            return None
        data = b"".join(streams[i] for i in (*group, index))
        if len(data) > 4 * self._small or len(streams[index]) > self._small:
            return None
        tried = (self._lzma_payload(data, p) for p in self._props(len(data)))
        return self.trimmed(min(tried, key=len), data)


def dict_log2_for(length: int) -> int:
    """Return the log2 of the least LZMA dictionary that covers `length` bytes."""
    return min(MAX_DICT_LOG2, max(MIN_DICT_LOG2, (max(1, length) - 1).bit_length()))


def entropy_bytes(counts: Any) -> float:
    """Return the order-0 entropy, in bytes, of a stream whose byte values occur `counts` times."""
    used = counts[counts > 0]
    return float(used.sum() * np.log2(used.sum()) - (used * np.log2(used)).sum()) / 8 if len(used) else 0.0


def lzma_payload(data: bytes, props: int, dict_log2: int, *, thorough: bool) -> Coded:
    """Return `data` in one LZMA payload; `thorough` searches for matches as well as liblzma can."""
    filters: list[dict[str, int]] = [dict(f) for f in lzma_filters(props, dict_log2)]
    if thorough:
        filters[0] |= {"preset": 9 | lzma.PRESET_EXTREME}
    else:
        # The search of the better presets, given up soon: as small on byte planes, in half the time.
        filters[0] |= {"preset": 4, "mf": lzma.MF_BT4, "mode": lzma.MODE_NORMAL, "nice_len": 273, "depth": 4}
    filters[0] |= {"dict_size": 1 << dict_log2}
    return lzma_coded(props, lzma.compress(data, lzma.FORMAT_RAW, filters=filters)[1:])


def lzma_coded(props: int, payload: bytes) -> Coded:
    """Return the stream of an LZMA `payload` with the properties byte `props`."""
    return Coded(bytes((Coder.LZMA, props)) + varint.encode(len(payload)), payload)


def _stored(data: bytes) -> Coded:
    return Coded(bytes((Coder.STORED,)), data)


def _deflate(data: bytes, strategy: int, level: int) -> Coded:
    encoder = zlib.compressobj(level, zlib.DEFLATED, -15, _DEFLATE_MEMORY, strategy)
    return _coded(Coder.DEFLATE, encoder.compress(data) + encoder.flush())


def _coded(coder: Coder, payload: bytes) -> Coded:
    return Coded(bytes((coder,)) + varint.encode(len(payload)), payload)


def _decodes(payload: bytes, data: bytes, props: int, dict_log2: int) -> bool:
    reader = LzmaReader(props, dict_log2)
    reader.feed(payload, last=True)
    try:
        return reader.read_exactly(len(data)) == data
    except PatchFormatError:
        return False
