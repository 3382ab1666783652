"""Compressed JSON on its way: the same bytes come out, however it is cut, and never more at once than the limit."""

import gzip
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.http.compression import packed, unpacked

MOST_AT_ONCE = 65_536


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@given(st.binary(max_size=5000), st.integers(1, 600))
def test_what_went_in_comes_out_however_it_is_cut(data: bytes, size: int) -> None:
    assert b"".join(unpacked(cut(packed(data), size))) == data


def test_the_same_bytes_are_packed_the_same_way() -> None:
    data = b'{"a":1}' * 100
    packed.cache_clear()
    first = packed(data)
    packed.cache_clear()
    assert packed(data) == first
    assert gzip.decompress(first) == data


def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(50 << 20), 9)
    taken = 0
    for piece in unpacked(iter([bomb])):
        assert len(piece) <= MOST_AT_ONCE
        taken += len(piece)
        if taken > 200_000:  # whoever reads stops at the signed length
            break
    assert taken < 300_000


@pytest.mark.parametrize("data", [b"", b"{}", packed(b"abc" * 500)[:-9], packed(b"abc")[:5], zlib.compress(b"abc")])
def test_what_is_no_whole_gzip_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="gzip"):
        b"".join(unpacked(cut(data, 7)))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_unpacked_and_nothing_else(data: bytes) -> None:
    try:
        assert b"".join(unpacked(cut(data, 50))) == gzip.decompress(data)
    except ValueError:
        return
    except EOFError:
        pytest.fail("taken for whole, and it is not")
