"""Bounds of apply that a damaged patch of the usual size does not reach: payloads behind the end, many ratios."""

import io
import os
import time
import tracemalloc

import pytest

import modelpatch
from modelpatch import DecoderFeatures
from modelpatch.diff.building import Body
from modelpatch.diff.encoding import lzma_payload
from modelpatch.diff.make import file_patch
from modelpatch.errors import PatchFormatError
from modelpatch.format import big_integers, varint
from modelpatch.format.frames import FrameType, memory_for_frame
from modelpatch.format.header import PatchKind
from modelpatch.format.lane import Scales

MIB = 1 << 20


def peak_of_applying(patch: bytes) -> int:
    """Return the most bytes that applying `patch` held, the patch and the target apart."""
    tracemalloc.start()
    try:
        modelpatch.apply_stream(None, io.BytesIO(patch), io.BytesIO())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bytes_behind_the_end_of_a_solid_payload_do_not_pile_up() -> None:
    coded = lzma_payload(b"x" * 1000, 0, 12, thorough=False)
    payload = coded.payload + os.urandom(16 * MIB)
    info = bytes((1, 0)) + varint.encode(len(payload))
    body = bytes((FrameType.SOLID | 12 << 3,)) + info + varint.encode(1000) + payload
    patch = file_patch(PatchKind.WHOLE, b"", b"x" * 1000, Body(body, memory_for_frame(0, 12), DecoderFeatures.LZMA))
    assert peak_of_applying(patch) < 3 * MIB


def test_lanes_with_too_many_ratios_are_refused_before_they_are_read() -> None:
    lane = bytes((7 << 2,)) + varint.encode(0) + varint.encode(1) + b"\x08" + varint.encode(1 << 14)
    body = bytes((FrameType.OPS,)) + varint.encode(1) + varint.encode(64) + (lane + bytes(1 << 14)) * 64
    patch = file_patch(PatchKind.FILE, b"b", b"t", Body(body, memory_for_frame(1, 0), DecoderFeatures.RESCALE))
    tracemalloc.start()
    try:
        with pytest.raises(PatchFormatError, match="number of channels"):
            modelpatch.apply_stream(io.BytesIO(b"b"), io.BytesIO(patch), io.BytesIO())
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_as_many_ratios_as_elements_are_rescaled_in_linear_time() -> None:
    scales = Scales(0, 1, 10, tuple(range(1 << 14)))
    base = os.urandom(64 << 10)
    began = time.process_time()
    made = big_integers.predict(base, 1, scales, 0)
    # A table for each ratio took 15 s; this is a bound against that, not a measurement.
    assert time.process_time() - began < 5
    signed = [b - 256 if b > 127 else b for b in base]
    meant = [max(-128, min(127, (b * (i % (1 << 14)) + 512) >> 10)) for i, b in enumerate(signed)]
    assert made == bytes(value & 255 for value in meant)
