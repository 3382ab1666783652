"""Owns what a publish site answers to a request for one of its files, whichever server asks. Refuses to send it.

Whatever is no file below metadata/, targets/ or content/ is not there: no listing, no way out, no dotfile.
Names below content/ are digests, so that a response may be kept for ever.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Protocol

from cloud_tools.publishing.site_folder import SERVED
from contract.http.headers import asked_range, is_range

_PATH = re.compile(rf"/({'|'.join(SERVED)})((?:/[A-Za-z0-9][A-Za-z0-9._-]*)+)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Headers(Protocol):
    """The headers of a request, by name."""

    def get(self, name: str, /) -> str | None:
        """Return the header ``name``, or None."""


@dataclass(frozen=True)
class Answer:
    """What to send: ``length`` bytes of ``file`` from ``start``, or ``text`` where there is no file."""

    status: HTTPStatus
    headers: Mapping[str, str]
    text: bytes = b""
    file: BinaryIO | None = None
    start: int = 0
    length: int = 0


def is_of_site(path: str) -> bool:
    """Return whether a request's path is one of a site, be there such a file or not."""
    return path.split("/", 2)[1:2] != [] and path.split("/", 2)[1] in SERVED


@contextmanager
def answer(site: Path, path: str, headers: Headers) -> Iterator[Answer]:
    """Return what to send for ``path`` with the request's ``headers``; the file is open within."""
    place = find_file(site, path)
    try:
        file = place.open("rb") if place else None
    except OSError:
        file = None  # vanished, a folder, or not readable: for a client it is not there
    if place is None or file is None:
        yield _refusal(HTTPStatus.NOT_FOUND)
        return
    with file:
        yield _of_file(file, os.fstat(file.fileno()).st_size, _headers_of(place.name), headers)


def _of_file(file: BinaryIO, size: int, own: dict[str, str], asked: Headers) -> Answer:
    etag = own.get("ETag")
    if etag and asked.get("If-None-Match") == etag:
        return Answer(HTTPStatus.NOT_MODIFIED, own)
    condition = asked.get("If-Range")
    wanted = asked.get("Range") if condition in (None, etag) else None
    span = asked_range(wanted, size)
    if span is None:
        return _refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
    start, length = span
    own = {**own, "Content-Length": str(length)}
    if not is_range(wanted):
        return Answer(HTTPStatus.OK, own, file=file, length=length)
    own["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    return Answer(HTTPStatus.PARTIAL_CONTENT, own, file=file, start=start, length=length)


def _refusal(status: HTTPStatus, more: Mapping[str, str] | None = None) -> Answer:
    text = f"{status.value} {status.phrase}\n".encode()
    return Answer(status, {"Content-Type": "text/plain", "Content-Length": str(len(text)), **(more or {})}, text)


def _headers_of(name: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json" if name.endswith(".json") else "application/octet-stream"}
    if _DIGEST.fullmatch(name):
        headers["ETag"] = f'"{name}"'
    # All names but this one are versioned or digests: their bytes never change.
    fresh = "no-cache" if name == "timestamp.json" else "max-age=31536000, immutable"
    return {**headers, "Cache-Control": fresh, "Accept-Ranges": "bytes"}


def find_file(site: Path, path: str) -> Path | None:
    """Return the file that a request's path names, or None when it names nothing that is served."""
    match = _PATH.fullmatch(path.split("?", 1)[0])
    if match is None:
        return None
    try:
        found = (site / match[1] / match[2][1:]).resolve()
        return found if found.is_relative_to(site / match[1]) and found.is_file() else None
    except (OSError, RuntimeError):  # a name longer than any file's; links that lead in a circle
        return None
