"""Owns reading a TOML file into frozen dataclasses, strictly; refuses unknown keys, wrong types and guessing.

A key that is not known stops the start, naming it and the nearest known one: a misspelt option that is ignored
is found months later.
"""

import dataclasses
import difflib
import sys
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from contract.errors import ConfigError, InputError, one_line

T = TypeVar("T")


def load_config(path: Path, kind: type[T]) -> T:
    """Read ``path`` into ``kind``, a frozen dataclass whose fields may be dataclasses (TOML tables) themselves.

    Fields of type ``Path`` that are relative are taken from the folder of the file.

    Raises:
        ConfigError: no such file, no TOML, an unknown or missing key, a value of the wrong type or out of range
            (a ``ValueError`` or ``InputError`` of ``__post_init__`` is reported as that).
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    # ValueError: no UTF-8, no TOML, a number of thousands of digits; RecursionError: tables in tables without end.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {one_line(error)}") from error
    try:
        return _build(kind, table, "", path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _build(kind: type[T], table: dict[str, Any], where: str, folder: Path) -> T:
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in fields:
            raise ConfigError(f"unknown key {where}{key[:80]}{_nearest(key, list(fields))}")
    values = {key: _value(hints[key], value, f"{where}{key}", folder) for key, value in table.items()}
    for name, field in fields.items():
        if name in values:
            continue
        if dataclasses.is_dataclass(hints[name]) and field.default is dataclasses.MISSING:
            values[name] = _build(typing.cast("type[Any]", hints[name]), {}, f"{where}{name}.", folder)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing key {where}{name}")
    try:
        return kind(**values)
    except (ValueError, InputError) as error:
        raise ConfigError(f"{where.rstrip('.') + ': ' if where else ''}{error}") from error


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(sorted(known))})"


def _value(hint: Any, value: Any, where: str, folder: Path) -> Any:
    if isinstance(hint, types.UnionType):
        choices = [choice for choice in typing.get_args(hint) if choice is not type(None)]
        return _value(choices[0], value, where, folder)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a table")
        return _build(typing.cast("type[Any]", hint), value, f"{where}.", folder)
    if hint is Path:
        hint_name, ok = "a path", isinstance(value, str) and value != "" and "\0" not in value
        value = folder / value if ok else value
    elif hint is float:
        hint_name, ok = "a number", isinstance(value, int | float) and not isinstance(value, bool)
        # TOML has nan and inf, which pass or fail comparisons by chance, and whole numbers that no float holds.
        ok = ok and abs(value) <= sys.float_info.max
        value = float(value) if ok else value
    elif typing.get_origin(hint) is tuple:
        hint_name, ok = "a list", isinstance(value, list)
        inner = typing.get_args(hint)[0]
        value = tuple(_value(inner, item, f"{where}[]", folder) for item in value) if ok else value
    else:
        names = {int: "a whole number", str: "a string", bool: "true or false"}
        hint_name, ok = names.get(hint, str(hint)), type(value) is hint
    if not ok:
        raise ConfigError(f"{where} must be {hint_name}, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """Return a value as an error shows it."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits: TOML writes it in hexadecimal, Python not in decimal
        return "a number that is far too large"
    return text if len(text) <= 200 else text[:197] + "..."
