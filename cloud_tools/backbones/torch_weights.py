"""Owns reading a PyTorch ``.pth`` of tensors by name, without PyTorch. Refuses to run anything that is in the file.

A pickle is a program. This one is not run by ``pickle``: its opcodes are read one by one, and only those that build
tensors' descriptions are known here. Four names are known besides; each is answered with data of ours, none is ever
imported. Every length is checked against the file before a byte is taken.

The form is that of PyTorch before 1.6: a magic number, a protocol number, facts about the machine, the tensors'
descriptions, the storages' keys (five pickles), then each storage as its length (int64) and its values.
"""

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError, one_line

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "HalfStorage": np.dtype("<f2"), "LongStorage": np.dtype("<i8")}
MOST_OPCODES = 1_000_000  # EfficientNet-Lite0 has 11,000
MOST_AXES = 8

# What genops and struct raise for bytes that are no pickle, and our table for a program that makes no sense.
_NONSENSE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    struct.error,
)

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Storage:
    """A run of ``count`` values that follows the pickles."""

    dtype: np.dtype[Any]
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # values, not bytes


class _Dict(dict[Any, Any]):
    """An OrderedDict of the file: its attributes (BUILD) are dropped."""


def read_pth(file: BinaryIO) -> Arrays:
    """Read the tensors of a ``.pth``, by name.

    Raises:
        InputError: another form, an opcode or name that no file of tensors needs, or a damaged file.
    """
    try:
        return _read(file)
    except _NONSENSE as error:
        raise InputError(f"weights: not a .pth of tensors that is read here: {one_line(error)}") from error


def _read(file: BinaryIO) -> Arrays:
    if _unpickle(file) != MAGIC or _unpickle(file) != PROTOCOL:
        raise ValueError("no PyTorch file of the form before 1.6")
    _unpickle(file)  # facts about the machine that wrote it
    tensors, keys = _unpickle(file), _unpickle(file)
    if not isinstance(tensors, _Dict) or not isinstance(keys, list):
        raise ValueError("it is no dictionary of tensors")
    values = {key: _values(file, storage) for key, storage in _storages(tensors, keys)}
    return {str(name): _array(t, values) for name, t in tensors.items() if isinstance(t, _Tensor)}


def _storages(tensors: _Dict, keys: list[Any]) -> list[tuple[str, _Storage]]:
    """Return the storages in the order of the file; two tensors must not describe the same one differently."""
    said: dict[str, _Storage] = {}
    for tensor in tensors.values():
        if isinstance(tensor, _Tensor) and said.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise ValueError(f"storage {tensor.storage.key} is described in two ways")
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("a storage without a name")
    return [(key, said[key]) for key in keys]


def _values(file: BinaryIO, storage: _Storage) -> NDArray[Any]:
    (count,) = struct.unpack("<q", file.read(8))
    if count != storage.count:
        raise ValueError(f"storage {storage.key} has {count} values, not {storage.count}")
    data = file.read(count * storage.dtype.itemsize)
    if len(data) != count * storage.dtype.itemsize:
        raise ValueError("it ends too early")
    return np.frombuffer(data, storage.dtype)


def _array(tensor: _Tensor, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return a copy of the tensor; ``_make_tensor`` saw to it that every value lies in the storage."""
    flat = values[tensor.storage.key]
    strides = [step * flat.itemsize for step in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides))


def _unpickle(file: BinaryIO) -> Any:
    """Return what the pickle at the position of ``file`` describes, by the opcodes of ``_OPCODES`` alone."""
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MOST_OPCODES:
            raise ValueError("too long a pickle")
        if opcode.name == "STOP":
            return machine.pop()
        if opcode.name not in _OPCODES:
            raise ValueError(f"forbidden opcode {opcode.name}")
        _OPCODES[opcode.name](machine, argument)
    raise ValueError("it ends too early")


class _Machine:
    """The stack and the memory of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """Return all that was pushed since the last mark."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("a tuple of more than there is")
        self.stack[len(self.stack) - count :] = [tuple(self.stack[len(self.stack) - count :])]

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        # Keys of text alone: the hash of tuples in tuples may take for ever.
        if not isinstance(target, dict) or len(pairs) % 2 or not all(isinstance(key, str) for key in pairs[::2]):
            raise ValueError("items for what is no dictionary")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("values for what is no list")
        self.stack[-1].extend(values)

    def call(self) -> None:
        """REDUCE: the callable must be one of ours; a name of the file can be nothing else."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Known) or not isinstance(arguments, tuple):
            raise ValueError("forbidden call")
        self.push(function.make(*arguments))

    def build(self) -> None:
        """BUILD sets attributes of an object; only an OrderedDict may be asked for it, and they are dropped."""
        self.pop()
        if not isinstance(self.stack[-1], _Dict):
            raise ValueError("forbidden attributes")

    def load_storage(self) -> None:
        """BINPERSID: ('storage', kind, key, where, count, view)."""
        kind, storage, key, _, count, view = self.pop()
        if kind != "storage" or not isinstance(storage, np.dtype) or view is not None or not _is_size(count):
            raise ValueError("forbidden storage")
        if not isinstance(key, str):
            raise ValueError("a storage without a name")
        self.push(_Storage(storage, key, count))


@dataclass(frozen=True)
class _Known:
    """A name that a file may call, and what it makes here."""

    make: Callable[..., Any]


def _make_dict() -> _Dict:
    return _Dict()


def _make_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Stand for ``torch._utils._rebuild_tensor_v2``; no value lies outside of the storage, none is repeated."""
    if not isinstance(storage, _Storage) or not _is_size(offset) or not _are_sizes(shape) or not _are_sizes(strides):
        raise ValueError("forbidden tensor")
    reach = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if prod(shape) else 0
    if reach >= storage.count or prod(shape) > storage.count:
        raise ValueError("a tensor outside of its storage")
    return _Tensor(storage, offset, shape, strides)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= MOST_AXES and all(_is_size(n) for n in value)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 40


_NAMES: dict[str, Any] = {
    "collections OrderedDict": _Known(_make_dict),
    "torch._utils _rebuild_tensor_v2": _Known(_make_tensor),
    **{f"torch {name}": dtype for name, dtype in STORAGES.items()},
}


def _name(machine: _Machine, argument: str) -> None:
    if argument not in _NAMES:
        raise ValueError(f"forbidden name {argument[:80]!r}")
    machine.push(_NAMES[argument])


def _push(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _put(machine: _Machine, argument: int) -> None:
    machine.memory[argument] = machine.stack[-1]


def _get(machine: _Machine, argument: int) -> None:
    machine.push(machine.memory[argument])


_OPCODES: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, a: None,
    "MARK": lambda m, a: m.marks.append(len(m.stack)),
    "EMPTY_DICT": lambda m, a: m.push({}),
    "EMPTY_LIST": lambda m, a: m.push([]),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "NONE": lambda m, a: m.push(None),
    "NEWTRUE": lambda m, a: m.push(True),
    "NEWFALSE": lambda m, a: m.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), _push),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _get),
    "TUPLE": lambda m, a: m.push(tuple(m.pop_mark())),
    "TUPLE1": lambda m, a: m.tuple_of(1),
    "TUPLE2": lambda m, a: m.tuple_of(2),
    "TUPLE3": lambda m, a: m.tuple_of(3),
    "APPEND": lambda m, a: m.append([m.pop()]),
    "APPENDS": lambda m, a: m.append(m.pop_mark()),
    "SETITEM": lambda m, a: m.set_items([m.stack.pop(-2), m.pop()]),
    "SETITEMS": lambda m, a: m.set_items(m.pop_mark()),
    "GLOBAL": _name,
    "REDUCE": lambda m, a: m.call(),
    "BUILD": lambda m, a: m.build(),
    "BINPERSID": lambda m, a: m.load_storage(),
}
