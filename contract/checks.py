"""Owns the checks of JSON that came over a wire or from a bundle: types, ranges, safe names. Refuses to interpret.

Unknown fields pass (an older program must read what a newer one wrote); known fields of a wrong type do not. Whatever
the bytes are, nothing but ``InputError`` comes out of here, and no value goes on that a later step could stumble on:
no number over what a float holds, no text that is no UTF-8.
"""

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn
from urllib.parse import urlsplit

from contract.errors import InputError, one_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON escapes it; a pair is one character, half of one is none
_MOST_DIGITS = 300  # of a whole number: a float holds it, so that no later arithmetic overflows
_SHOWN = 80  # characters of a foreign text in an error


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """Read ``data`` as one JSON object.

    Raises:
        InputError: no UTF-8, no JSON (NaN and Infinity are none), nested too deep, a key twice in one object, a
            number too large, or no object; ``what`` names it.
    """
    try:
        text = data.decode("utf-8-sig")  # an editor's mark at the start of a file is no error
        value = json.loads(
            text,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # the cheapest walk over every text
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: not JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{what}: not a JSON object")
    return value


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number too large: {text[:_SHOWN]}")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice[:_SHOWN]!r} stands twice in one object")
    return value


def whole_number(text: str, most: int = 10**18) -> int | None:
    """Return the number that ``text`` writes in ASCII digits, or None when it writes none from 0 to ``most``."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most))):
        return None
    value = int(text)
    return value if value <= most else None


class Fields:
    """A JSON object whose members are taken out with a check each; ``where`` names it in errors."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{where}: must be an object")
        self.value: dict[str, Any] = value
        self.where = where

    def _get(self, key: str, kinds: type | tuple[type, ...], expected: str) -> Any:
        value = self.value.get(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise InputError(f"{self.where}: {key} must be {expected}")
        return value

    def text(self, key: str, longest: int = 200) -> str:
        """Return the string ``key`` of at most ``longest`` characters."""
        value: str = self._get(key, str, "a string")
        if len(value) > longest:
            raise InputError(f"{self.where}: {key} is longer than {longest} characters")
        return value

    def name(self, key: str) -> str:
        """Return ``key`` as a name that is safe as a file, topic and URL part."""
        return safe_name(self.text(key), f"{self.where}: {key}")

    def sha256(self, key: str) -> str:
        """Return ``key`` as a SHA-256 in lower-case hexadecimal."""
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            raise InputError(f"{self.where}: {key} must be a SHA-256 in hexadecimal")
        return value

    def integer(self, key: str, least: int = 0, most: int = 2**53) -> int:
        """Return the whole number ``key`` from ``least`` to ``most``."""
        value: int = self._get(key, int, "a whole number")
        if not least <= value <= most:
            raise InputError(f"{self.where}: {key} must be from {least} to {most}")
        return value

    def number(self, key: str, least: float = -1e30, most: float = 1e30) -> float:
        """Return the finite number ``key`` from ``least`` to ``most``."""
        value = self._get(key, (int, float), "a number")
        if not least <= value <= most:  # before float(), which raises for whole numbers over its range; NaN fails too
            raise InputError(f"{self.where}: {key} must be from {least:g} to {most:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        """Return ``key``, true or false."""
        return bool(self._get(key, bool, "true or false"))

    def items(self, key: str, most: int = 1000) -> list[Any]:
        """Return the list ``key`` of at most ``most`` items."""
        value: list[Any] = self._get(key, list, "a list")
        if len(value) > most:
            raise InputError(f"{self.where}: {key} has more than {most} items")
        return value

    def object(self, key: str) -> "Fields":
        """Return the object ``key``."""
        return Fields(self.value.get(key), f"{self.where}: {key}")

    def free(self, key: str, deepest: int = 32) -> dict[str, Any]:
        """Return the object ``key``, whose members are nobody's to check, nested at most ``deepest`` times."""
        value = self.object(key).value
        level: list[Any] = [value]
        for _ in range(deepest):
            level = [inner for outer in level for inner in _members(outer)]
        if level:
            raise InputError(f"{self.where}: {key} is nested more than {deepest} times")
        return value


def _members(value: Any) -> list[Any]:
    """Return what is in an object or a list of JSON; nothing else has members."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def check_http_url(url: str) -> None:
    """Refuse what is no http:// or https:// address of a host; ValueError says so."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # its text may hold a part of a password
        raise ValueError(f"url {_without_account(url)!r} is not http://host:port or https://host") from error
    if not good:
        raise ValueError(f"url {_without_account(url)!r} is not http://host:port or https://host")


def _without_account(url: str) -> str:
    """Return a URL as an error shows it: without user and password, and not too long."""
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"[:200]


def check_poll(poll_s: float) -> None:
    """Refuse a pause between two looks at a site that is none, or longer than a week; ValueError says so."""
    if not 0.05 <= poll_s <= 604_800:
        raise ValueError("poll_s must be from 0.05 to 604800 (a week)")


def is_plain(value: str) -> bool:
    """Return whether ``value`` is safe as one part of a path, topic or URL."""
    return _NAME.fullmatch(value) is not None


def safe_name(value: str, where: str) -> str:
    """Return ``value`` if it is safe as one part of a path, topic or URL; InputError otherwise."""
    if not is_plain(value):
        raise InputError(
            f"{where}: {value[:_SHOWN]!r} is not a plain name (letters, digits, '.', '_', '-'; at most 64)"
        )
    return value
