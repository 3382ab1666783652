"""Owns data/downloads: content-addressed files fetched from the relay, resumed across restarts.

Refuses to believe the sender: the length is capped by signed metadata, and a file gets its digest as its name only
after its bytes had that digest. A failed fetch keeps what it has in ``<digest>.part``; the next one goes on there.
"""

import http
import logging
import os
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from agent.updates.disk import disk_errors
from contract.errors import PeerError, TrustError
from contract.events import log_event
from contract.files import atomic_rename, sha256_file
from contract.http.client import DEFAULT_LIMITS, Answer, HttpClient, HttpLimits, NoAnswerError
from contract.http.headers import sent_from
from contract.release import content_path

logger = logging.getLogger("agent.download")
MOST_TRIES = 6  # with the waits below about 15 s; after that the next poll goes on where this one stopped
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
_PART = ".part"


class Downloads:
    """The folder of fetched files. Blocking, for one thread.

    ``wait`` waits between tries, and returns True when the program is to end (``threading.Event.wait``).
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        wait: Callable[[float], bool],
        headers: Mapping[str, str] | None = None,
        limits: HttpLimits = DEFAULT_LIMITS,
    ) -> None:
        self.folder = folder
        self._url = url.rstrip("/")
        self._wait = wait
        self._client = HttpClient(limits, {"Accept-Encoding": "identity", **(headers or {})})
        with disk_errors():
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def bytes_received(self) -> int:
        """Bytes of contents received since the start."""
        return self._client.bytes_received

    def fetch(self, sha256: str, size: int, on_bytes: Callable[[int], None] = lambda count: None) -> Path:
        """Return the file with digest ``sha256``, fetched where it is not there already.

        Args:
            size: its signed length in bytes; a sender that gives more is cut off.
            on_bytes: called with the count of each piece received.

        Raises:
            PeerError: no answer or an HTTP error, after the last try; an answer of 4xx at once.
            TrustError: what came is not the signed file.
            StorageError: the disk refused; what was fetched stays.
        """
        path = self.folder / sha256
        if self._complete(path, sha256, size):
            return path
        for attempt in range(MOST_TRIES):
            try:
                from_zero = self._receive(sha256, size, on_bytes)
                return self._name(sha256, size, from_zero)
            except _TryAgainError as error:
                last = error
            log_event(logger, "download.retry", logging.WARNING, sha256=sha256[:12], reason=last, attempt=attempt + 1)
            if attempt + 1 < MOST_TRIES and self._wait(backoff_s(attempt)):
                break
        raise PeerError(str(last)) from last

    def inventory(self) -> dict[str, Path]:
        """Return the complete files by digest, read now; a file whose bytes changed is removed."""
        found = {}
        with disk_errors():
            for path in self.folder.iterdir():
                if path.suffix == _PART or path.name.startswith("."):
                    continue
                if sha256_file(path) == path.name:
                    found[path.name] = path
                else:
                    path.unlink()
        return found

    def path_for(self, sha256: str) -> Path:
        """Return where a file of that digest belongs, for one that is made here by a patch."""
        return self.folder / sha256

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove everything that is not, and is not a part of, one of ``digests``."""
        with disk_errors():
            for path in self.folder.iterdir():
                if path.name.removesuffix(_PART) not in digests:
                    path.unlink()

    def _complete(self, path: Path, sha256: str, size: int) -> bool:
        with disk_errors():
            return path.is_file() and path.stat().st_size == size and sha256_file(path) == sha256

    def _name(self, sha256: str, size: int, from_zero: bool) -> Path:
        """Check the part and return it its name; a wrong one is thrown away."""
        part, path = self._part(sha256), self.folder / sha256
        with disk_errors():
            length = part.stat().st_size
            if length < size:
                raise _TryAgainError(f"{self._url}: the connection ended at {length} of {size} bytes")
            if sha256_file(part) != sha256:
                part.unlink()
                text = f"{self._url}: content {sha256[:12]} is not what was signed"
                # A part from before a power cut may hold zeros; one fetched from 0 is the sender's.
                raise TrustError(text) if from_zero else _TryAgainError(text)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            atomic_rename(part, path)
        return path

    def _receive(self, sha256: str, size: int, on_bytes: Callable[[int], None]) -> bool:
        """Fetch what the part lacks; return whether all of it came now."""
        part = self._part(sha256)
        with disk_errors():
            start = part.stat().st_size if part.exists() else 0
        if start >= size:
            return False
        asked = {"Range": f"bytes={start}-"} if start else {}
        try:
            with self._client.get(f"{self._url}/{content_path(sha256)}", asked) as answer:
                start = self._accepted_start(answer, start, part)
                self._write(sha256, start, size, answer.pieces(), on_bytes)
        except NoAnswerError as error:
            raise _TryAgainError(f"{self._url}: {error}") from error
        return start == 0

    def _write(
        self, sha256: str, start: int, size: int, pieces: Iterator[bytes], on_bytes: Callable[[int], None]
    ) -> None:
        """Add ``pieces`` to the part, from ``start`` on, and not one byte over the signed ``size``."""
        part = self._part(sha256)
        with disk_errors(), part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            for piece in pieces:
                if file.tell() + len(piece) > size:
                    file.truncate(0)
                    raise TrustError(f"{self._url}: content {sha256[:12]} is longer than the signed {size} bytes")
                file.write(piece)
                on_bytes(len(piece))

    def _accepted_start(self, answer: Answer, start: int, part: Path) -> int:
        """Return where the body begins: a sender may ignore the range and answer 200 with everything."""
        if answer.status == http.HTTPStatus.OK:
            return 0
        begins = sent_from(answer.header("Content-Range"))
        if answer.status == http.HTTPStatus.PARTIAL_CONTENT and begins == start:
            return start
        text = f"{self._url}: HTTP {answer.status} for content"
        if answer.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            with disk_errors():
                part.unlink(missing_ok=True)  # the part is longer than what is there: it is none of it
            raise _TryAgainError(text)
        if 400 <= answer.status < 500:
            raise PeerError(text)
        raise _TryAgainError(text)

    def _part(self, sha256: str) -> Path:
        return self.folder / f"{sha256}{_PART}"


class _TryAgainError(Exception):
    """This try failed, another may not."""


def backoff_s(attempt: int) -> float:
    """Return the wait after try number ``attempt`` (from 0): doubled each time; jittered to spread a fleet."""
    wait_s: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)
    return wait_s * random.uniform(0.5, 1.5)
