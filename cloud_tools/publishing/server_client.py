"""Owns publishing a bundle through a publish server: sending its files, asking for the job, waiting for its end.

Refuses to judge the bundle: the server does, and its one reason becomes the error. What a broken connection or
a killed server interrupts goes on from the byte where it stopped; what the server has already is not sent.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import urllib3

from cloud_tools.progress import Progress, Say, Ticks, no_progress, say_nothing, ticks_of
from cloud_tools.setting_errors import Sentence
from contract.checks import Fields, check_http_url, parse_object
from contract.errors import InputError, PeerError, describe_os_error, one_line
from contract.files import read_capped
from contract.manifest import FileEntry, read_bundle

CHUNK_BYTES = 1 << 16
PIECE_BYTES = 8 << 20  # of one request: what a cut costs at most, besides what arrived
TRIES = 8  # in a row without a byte of progress
PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
POLL_S = 0.3
ANSWER_MOST_BYTES = 4 << 20
TOKEN_MOST_BYTES = 1000
TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


@dataclass(frozen=True, kw_only=True)
class ServerOrder:
    """What a person asked for: as ``publish.Order``, of the server at ``url``."""

    bundle: Path
    url: str
    token: str = field(repr=False)
    channel: str = "stable"
    rollout_percent: int = 100
    jitter_s: int = 0
    patches_from: int = 5
    margin_points: float = 2.0
    accept_regression: bool = False


@dataclass(frozen=True)
class Answered:
    """What the server says of the job that is done; ``seconds`` is how long it took there."""

    outcome: str
    result: dict[str, Any]
    steps: tuple[tuple[float, str], ...]
    seconds: float


def read_token(path: Path) -> str:
    """Read a token from a file; InputError when there is none in it."""
    try:
        text = read_capped(path, TOKEN_MOST_BYTES).decode("ascii").strip()
    except OSError as error:
        raise InputError(f"no token: {describe_os_error(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} holds no token") from error
    if not text or any(character.isspace() for character in text):
        raise InputError(f"{path} holds no token")
    return text


def publish_to_server(
    order: ServerOrder, progress: Progress = no_progress, say: Say = say_nothing, limit_s: float = 3600.0
) -> Answered:
    """Send what the server has not, let it publish, and wait for that.

    Raises:
        InputError: the bundle is damaged, or the server refused it or the token; the text is its reason.
        PeerError: the server does not answer, or does not end within ``limit_s`` seconds.
    """
    manifest, data = read_bundle(order.bundle)
    server = Server(order.url, order.token)
    for name, entry in manifest.files().items():
        _send(server, order.bundle / name, entry, ticks_of(progress, name))
    body = {
        "manifest": data.decode(),
        "channel": order.channel,
        "rollout_percent": order.rollout_percent,
        "jitter_s": order.jitter_s,
        "patches_from": order.patches_from,
        "margin_points": order.margin_points,
        "accept_regression": order.accept_regression,
    }
    job = server.patiently(lambda: server.ask("POST", "/api/releases", body))
    return _wait(server, job, say, limit_s)


class Server:
    """The API of one server; every wait has a limit."""

    def __init__(self, url: str, token: str) -> None:
        try:
            check_http_url(url)
        except ValueError as error:
            raise InputError(str(error)) from error
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(retries=False, timeout=TIMEOUT)

    def ask(self, method: str, path: str, body: object = None) -> Fields:
        """Send JSON, and return the object that is answered.

        Raises:
            InputError: the server refuses; the text is its reason.
            PeerError: it does not answer as it should.
        """
        data = None if body is None else json.dumps(body).encode()
        return self._answer(method, path, data, {"Content-Type": "application/json"})

    def add(self, upload: str, offset: int, length: int, body: Iterable[bytes]) -> Fields:
        """Send ``length`` bytes of a file; raises as ``ask``."""
        headers = {"Upload-Offset": str(offset), "Content-Length": str(length)}
        headers["Content-Type"] = "application/octet-stream"
        return self._answer("PATCH", f"/api/uploads/{upload}", body, headers)

    def _answer(
        self, method: str, path: str, body: Iterable[bytes] | bytes | None, headers: dict[str, str]
    ) -> Fields:
        try:
            response = self._pool.request(
                method, self.url + path, body=body, headers={**self._headers, **headers},
                preload_content=False, redirect=False,
            )  # fmt: skip
            data = response.read(ANSWER_MOST_BYTES)
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise PeerError(f"{self.url}: {one_line(error.__cause__ or error)}") from error
        return _understood(self.url, response.status, response.headers.get("Location", ""), data)

    def patiently(self, errand: Callable[[], Fields]) -> Fields:
        """Run ``errand`` until the server answers, a few times, with longer and longer pauses; raises as ``ask``."""
        pause_s = PAUSE_S
        for _ in range(TRIES - 1):
            try:
                return errand()
            except PeerError:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return errand()


def _pieces(file: BinaryIO, left: int, tell: Callable[[int], None]) -> Iterator[bytes]:
    """Return the next ``left`` bytes of ``file``, as they are sent."""
    while left and (data := file.read(min(left, CHUNK_BYTES))):
        left -= len(data)
        yield data
        tell(file.tell())


def _understood(url: str, status: int, location: str, data: bytes) -> Fields:
    if 300 <= status < 400:
        raise InputError(f"{url} leads to {location[:200]}: give that address")
    try:
        answer = Fields(parse_object(data, url), url)
    except InputError as error:
        raise PeerError(f"{url}: HTTP {status}, and no answer of a publish server") from error
    if status < 300:
        return answer
    detail = " ".join(str(answer.value.get("detail", ""))[:2000].split()) or f"HTTP {status}"
    if status < 500 and status != 409:
        raise InputError(f"{url}: {detail}")
    raise PeerError(f"{url}: {detail}")


def _send(server: Server, path: Path, entry: FileEntry, tell: Ticks) -> None:
    """Send one file; a try that brought a byte further begins the count anew."""
    there, tries = -1, TRIES
    while True:
        upload = server.patiently(
            lambda: server.ask("POST", "/api/uploads", {"sha256": entry.sha256, "size": entry.size})
        )
        if upload.boolean("complete"):
            return tell(entry.size, entry.size)
        offset = upload.integer("offset", 0, entry.size)
        there, tries = offset, (TRIES if offset > there else tries - 1)
        try:
            _send_from(server, path, entry, upload.text("id"), offset, tell)
        except PeerError:
            if tries <= 0:
                raise
            time.sleep(PAUSE_S)


def _send_from(server: Server, path: Path, entry: FileEntry, upload: str, offset: int, tell: Ticks) -> None:
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            length = min(PIECE_BYTES, entry.size - offset)
            body = _pieces(file, length, lambda done: tell(done, entry.size))
            answer = server.add(upload, offset, length, body)
            offset = answer.integer("offset", 0, entry.size)
            if answer.boolean("complete"):
                return


def _wait(server: Server, job: Fields, say: Say, limit_s: float) -> Answered:
    until_s, number, told = time.monotonic() + limit_s, job.integer("id", 1), 0
    while True:
        steps = [Fields(step, "step") for step in job.items("steps")]
        for step in steps[told:]:
            say(Sentence(step.text("text", 1000)))
        told = max(told, len(steps))
        state = job.text("state")
        if state == "failed":
            raise InputError(f"{server.url}: {job.text('error', 4000)}")
        if state == "done":
            return _answered(job, steps)
        if time.monotonic() > until_s:
            raise PeerError(f"{server.url}: job {number} is not over after {limit_s:.0f} s; ask again for its end")
        time.sleep(POLL_S)
        job = server.patiently(lambda: server.ask("GET", f"/api/jobs/{number}"))


def _answered(job: Fields, steps: list[Fields]) -> Answered:
    result = job.object("result")
    said = tuple((step.number("s", 0), step.text("text", 1000)) for step in steps)
    return Answered(result.text("outcome"), result.value, said, job.number("seconds", 0))
