"""Owns how tests spoil what a peer sends: absurd values in documents, damaged bytes, answers of a mad server."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from contract.errors import KinwatchError

DEEP = 100_000
# Written as JSON, because Python's own writer refuses half of them.
ABSURD = (
    "9" * 400,
    "-" + "9" * 400,
    "9" * 5000,
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "1e308",
    "0.5",
    "-1",
    "true",
    "null",
    "[]",
    "{}",
    '""',
    '"\\ud800"',
    '"\\u0000"',
    '"' + "9" * 5000 + '"',
    '"../../x"',
    '{"a": 1, "a": 2}',
    "[" * DEEP + "]" * DEEP,
    '{"a":' * 50 + "1" + "}" * 50,
)
# The same as values, for what is read by another JSON parser than ours (python-tuf's).
ABSURD_VALUES: tuple[Any, ...] = (
    10**400,
    -(10**400),
    float("inf"),
    float("nan"),
    0.5,
    -1,
    0,
    True,
    None,
    [],
    {},
    [[]],
    "",
    "\ud800",
    "\0",
    "9" * 5000,
    "9999-12-31T23:59:59Z",
    "0000-00-00T00:00:00Z",
)
_HERE = "@here@"


def only_ours(call: Callable[[], object]) -> None:
    """Run ``call``; nothing but an error of ours may come out of it."""
    text = ""
    try:
        call()
    except KinwatchError as error:
        text = str(error)
    assert "\n" not in text, "an error is one line"
    assert len(text) < 2000, "a peer does not choose how much is logged"


def spoilt_json(valid: bytes) -> Iterator[bytes]:
    """Return ``valid`` with each member in turn replaced by each absurd value, and its bytes damaged."""
    top = json.loads(valid)
    yield from (text.encode() for text in ABSURD)
    for place in places(top):
        text = json.dumps(replaced(top, place, _HERE))
        yield from (text.replace(f'"{_HERE}"', absurd).encode() for absurd in ABSURD)
    yield from damaged(valid)


def damaged(valid: bytes, count: int = 100) -> Iterator[bytes]:
    """Return ``valid`` cut short, with bytes changed, and with bytes put in: the same ones each time."""
    chance = random.Random(len(valid))
    yield from (
        b"",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        valid + valid,
        b"\xef\xbb\xbf" + valid,
        valid.decode().encode("utf-16"),
    )
    for _ in range(count):
        at = chance.randrange(len(valid))
        yield valid[:at]
        yield valid[:at] + chance.randbytes(1) + valid[at + 1 :]
        yield valid[:at] + chance.randbytes(3) + valid[at:]


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Return the path of every member of a JSON value, at all depths."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield (key,)
        yield from ((key, *rest) for rest in places(inner))


def replaced(value: Any, place: tuple[str | int, ...], by: Any) -> Any:
    """Return a copy of a JSON value with the member at ``place`` replaced."""
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    key, *rest = place
    copy[key] = replaced(copy[key], tuple(rest), by) if rest else by
    return copy


def mad_answers(body: bytes) -> Iterator[bytes]:
    """Return what a mad HTTP server answers, head and body, to who asked for ``body``."""
    length = f"Content-Length: {len(body)}\r\n"
    for head in (*_ABSURD_HEADS, *(line + length for line in _ABSURD_HEADERS)):
        yield f"HTTP/1.1 {head}\r\n".encode("latin-1") + body
    yield from (b"", b"\r\n\r\n", b"\xff" * 1000, b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000)


_DIGITS = "9" * 400
_ABSURD_HEADS = (
    f"{'9' * 5000} OK\r\n",
    "99 OK\r\n",
    "\xb2\xb2\xb2 OK\r\n",
    f"200 OK\r\nContent-Length: {_DIGITS}\r\n",
    f"200 OK\r\nContent-Length: {'9' * 5000}\r\n",
    "200 OK\r\nContent-Length: -5\r\n",
    "200 OK\r\nContent-Length: \xb2\r\n",
    "200 OK\r\nContent-Length: 1.5\r\n",
    f"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{'f' * 400}\r\n",
    "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nab\r\n",
    "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "200 OK\r\nno colon at all\r\n",
    "200 OK\r\n" + "A: b\r\n" * 300,
    "204 No Content\r\n",
    "304 Not Modified\r\n",
    f"503 Busy\r\nRetry-After: {'9' * 5000}\r\nContent-Length: 0\r\n",
    f"429 Slow\r\nRetry-After: Mon, 01 Jan {_DIGITS} 00:00:00 GMT\r\nContent-Length: 0\r\n",
)
_ABSURD_HEADERS = (
    *(
        f"206 Partial\r\nContent-Range: bytes {start}-{end}/{whole}\r\n"
        for start, end, whole in (
            ("9" * 5000, "9", "10"),
            (_DIGITS, _DIGITS, _DIGITS),
            ("-1", "5", "6"),
            ("\xb2", "5", "6"),
            ("", "", ""),
            ("0", "9" * 5000, "*"),
        )
    ),
    "206 Partial\r\n",
    f"200 OK\r\nDate: Mon, 01 Jan {_DIGITS} 00:00:00 GMT\r\n",
    f"200 OK\r\nSet-Cookie: a=b; Max-Age={_DIGITS}; Expires=Mon, 01 Jan {_DIGITS} 00:00:00 GMT\r\n",
    "200 OK\r\nContent-Encoding: gzip\r\n",
    "200 OK\r\nContent-Encoding: \xff\xfe\r\n",
    f"200 OK\r\nLast-Modified: {_DIGITS}\r\nETag: {'x' * 5000}\r\n",
    "302 Found\r\nLocation: http://[::\r\n",
)
