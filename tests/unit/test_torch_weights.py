"""Reading a .pth without PyTorch: real files are read, and a hostile pickle runs nothing."""

import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_tools.backbones.torch_weights import MAGIC, PROTOCOL, read_pth
from contract.errors import InputError

FIRST = np.arange(24, dtype="<f4").reshape(2, 3, 4)
SECOND = np.array([7], dtype="<i8")


class _Storage:
    def __init__(self, key: str, values: NDArray[Any], count: int | None = None) -> None:
        self.key, self.values = key, values
        self.count = values.size if count is None else count


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, shape: Any, strides: Any) -> None:
        self.parts = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


@pytest.fixture(scope="module", autouse=True)
def torch_names() -> Iterator[None]:
    """Modules of PyTorch's names, for the writer of the tests alone."""
    torch, tools = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    tools._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", tools)
        yield


class _Writer(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Storage):
            return None
        kind = "FloatStorage" if value.values.dtype.kind == "f" else "LongStorage"
        return ("storage", getattr(sys.modules["torch"], kind), value.key, "cpu", value.count, None)


def pth(tensors: Any, *storages: _Storage) -> bytes:
    """Write a file as PyTorch before 1.6 does."""
    file = io.BytesIO()
    for value in (MAGIC, PROTOCOL, {"little_endian": True}, tensors, [storage.key for storage in storages]):
        _Writer(file, 2).dump(value)
    for storage in storages:
        file.write(struct.pack("<q", storage.values.size) + storage.values.tobytes())
    return file.getvalue()


def example() -> bytes:
    one, two = _Storage("1", FIRST), _Storage("2", SECOND)
    tensors = OrderedDict(
        rows=_Tensor(one, 0, (2, 3, 4), (12, 4, 1)),
        turned=_Tensor(one, 0, (4, 3, 2), (1, 4, 12)),
        part=_Tensor(one, 4, (4,), (1,)),
        count=_Tensor(two, 0, (), ()),
    )
    return pth(tensors, one, two)


def test_tensors_are_read_by_name_whatever_their_order_in_memory() -> None:
    found = read_pth(io.BytesIO(example()))
    assert list(found) == ["rows", "turned", "part", "count"]
    assert np.array_equal(found["rows"], FIRST)
    assert np.array_equal(found["turned"], FIRST.transpose(2, 1, 0))
    assert np.array_equal(found["part"], [4, 5, 6, 7])
    assert found["count"] == 7
    assert (found["rows"].dtype, found["count"].dtype) == (np.float32, np.int64)


def test_reading_imports_nothing_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    data = example()
    for name in ("torch", "torch._utils"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would raise
    assert len(read_pth(io.BytesIO(data))) == 4


class _Runs:
    """What an attacker pickles: calls ``function`` when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def _hostile(canary: Path) -> dict[str, bytes]:
    def pickled(value: Any, protocol: int = 2) -> bytes:
        return pickle.dumps(value, protocol)

    command = f"touch {canary}".encode()
    return {
        "os.system": pickled(_Runs(os.system, command.decode())),
        "eval": pickled(_Runs(eval, f"open({str(canary)!r}, 'w')")),
        "protocol 0": pickled(_Runs(os.system, command.decode()), 0),
        "stack_global": pickled(_Runs(os.system, command.decode()), 4),
        "inst": b"(S'" + command + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nX" + struct.pack("<I", len(command)) + command + b"o.",
        "newobj": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "extension": b"\x80\x02\x82\x01.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\n.",
        "allowed module, other name": b"\x80\x02ctorch._utils\n_rebuild_parameter\n.",
        "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x13OrderedDict.fromkeys\x93.",
        "call of a dtype": b"\x80\x02ctorch\nFloatStorage\nK\x01\x85R.",
        "arguments for OrderedDict": b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
        "attributes of a list": b"\x80\x02]}b.",
        "items of a number": b"\x80\x02K\x01K\x02K\x03s.",
        "persistent text": b"Ptext\n.",
        "persistent number": b"\x80\x02K\x01Q.",
        "buffer": b"\x80\x05\x97.",
        "empty stack": b"\x80\x02.",
        "pop without mark": b"\x80\x02t.",
        "text longer than the file": b"\x80\x02X\xff\xff\xff\x7fab.",
    }


@pytest.mark.parametrize("attack", list(_hostile(Path("x"))))
def test_a_hostile_pickle_runs_nothing(attack: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bad, good = _hostile(canary)[attack], [pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL, {}, {}, [])]
    for place in range(5):
        with pytest.raises(InputError, match=r"not a \.pth") as error:
            read_pth(io.BytesIO(b"".join([*good[:place], bad, *good[place + 1 :]])))
        assert "\n" not in str(error.value)
    assert not canary.exists()


def test_the_attack_of_the_tests_would_work_on_pickle(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(_hostile(canary)["os.system"])
    assert canary.exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (25,), (1,)),
        (24, (1,), (1,)),
        (20, (2, 3), (3, 1)),
        (0, (2,), (24,)),
        (0, (1000,), (0,)),
        (0, (2, 3), (1,)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (0, (2,), (-1,)),
        (0, [2], [1]),
        (0, (1,) * 40, (1,) * 40),
        (True, (2,), (1,)),
        (0, (1 << 62, 4), (1, 1)),
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(offset: int, shape: Any, strides: Any) -> None:
    storage = _Storage("1", FIRST)
    data = pth(OrderedDict(bad=_Tensor(storage, offset, shape, strides)), storage)
    with pytest.raises(InputError, match=r"not a \.pth"):
        read_pth(io.BytesIO(data))


def test_a_storage_described_in_two_ways_is_refused() -> None:
    small, large = _Storage("1", FIRST), _Storage("1", FIRST, count=1 << 30)
    far = _Tensor(large, 1 << 20, (2,), (1,))
    for tensors in (OrderedDict(a=far, b=_Tensor(small, 0, (2,), (1,))), OrderedDict(a=far)):
        with pytest.raises(InputError, match=r"not a \.pth"):
            read_pth(io.BytesIO(pth(tensors, small)))


def test_a_file_cut_anywhere_is_refused() -> None:
    data = example()
    for end in range(len(data)):
        with pytest.raises(InputError, match=r"not a \.pth"):
            read_pth(io.BytesIO(data[:end]))


@given(st.data())
def test_changed_bytes_give_tensors_or_one_clear_line(data: st.DataObject) -> None:
    content = bytearray(example())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    said, found = "weights: ", {}
    try:
        found = read_pth(io.BytesIO(bytes(content)))
    except InputError as error:
        said = str(error)
    assert said.startswith("weights: ")
    assert "\n" not in said
    assert all(isinstance(value, np.ndarray) for value in found.values())
