"""Owns what HTTP headers of a peer say about byte ranges; refuses numbers that are longer than any file.

A header is up to 64 KiB of whatever the other side likes: ``int()`` raises over 4300 digits, and takes digits of
every script. What is read here is ASCII and at most 18 digits long, or it says nothing.
"""

import re

_SENT = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)", re.ASCII)
_ASKED = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def sent_from(content_range: str | None) -> int | None:
    """Return the offset at which the body of a 206 begins, by its ``Content-Range``; None when it does not say."""
    match = _SENT.fullmatch(content_range or "")
    return int(match[1]) if match else None


def is_range(header: str | None) -> bool:
    """Return whether a ``Range`` header is one that ``asked_range`` understands."""
    match = _ASKED.fullmatch(header or "")
    return match is not None and match.groups() != ("", "")


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (start, length) of the bytes to send of a file of ``size`` bytes, by a request's ``Range``.

    No header, several ranges, and what is not understood give the whole file, as RFC 9110 (14.2) asks. None means
    that the range lies outside of the file.
    """
    match = _ASKED.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if first == "":
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return 0, size
    return (start, end - start + 1) if start <= end else None
