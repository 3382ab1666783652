"""Owns what may be believed about releases: a python-tuf client for relay and device, with a floor under the clock.

Refuses to download contents (files and patches): it gives their signed digests and lengths. A relay can only deny
service; everything here is verified from the root that was installed with the program (TUF specification, section 5).
"""

import contextlib
import datetime as dt
import hashlib
import http
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Timestamp
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from contract.checks import Fields, parse_object
from contract.errors import InputError, PeerError, TrustError, one_line
from contract.events import log_event
from contract.files import atomic_write, json_bytes, read_capped
from contract.http.client import DEFAULT_LIMITS, HttpClient, HttpLimits, NoAnswerError
from contract.http.compression import GZIP, unpacked
from contract.release import (
    ReleaseTarget,
    channel_path,
    parse_channel_pointer,
    parse_release_target,
    release_path,
)

logger = logging.getLogger("contract.trust")
MANIFEST_MOST_BYTES = 1 << 20
DOCUMENT_MOST_BYTES = 2_000_000  # of metadata and manifests, whatever length some metadata may name
SIGNED_AT = "kinwatch_signed_at"  # a field of our timestamp metadata: seconds since 1970, signed
LAST_SECOND = 32_503_680_000  # of the year 2999: later times are no times, and datetime ends in the year 9999
# What python-tuf lets out besides its own errors, for metadata of types and sizes that nobody expected.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class VerifiedRelease:
    """A release whose target data and manifest bytes have verified."""

    target: ReleaseTarget
    manifest: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of release.json: the identity of the release."""
        return hashlib.sha256(self.manifest).hexdigest()


class TrustedSite:
    """A publish site, or a relay in front of one, seen through verified metadata only.

    ``folder`` keeps the verified metadata and the time floor between runs; ``root`` is the trusted root metadata
    that came with the device. One user of a folder at a time. Blocking: call it from a thread of its own.
    ``headers`` go with every request (a device says who it is, so that its relay can count), ``limits`` say how long
    the site is waited for.
    """

    def __init__(
        self,
        url: str,
        root: Path,
        folder: Path,
        *,
        limits: HttpLimits = DEFAULT_LIMITS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._root = root
        self.folder = folder
        self._fetcher = HttpFetcher(limits, headers)

    def refresh(self) -> "SiteView":
        """Fetch and verify the top-level metadata: root, timestamp, snapshot, targets.

        Raises:
            PeerError: no answer, or an HTTP error.
            TrustError: the answer did not verify, or is expired.
            OSError: the folder cannot be written, or the trusted root cannot be read.
        """
        (self.folder / "metadata").mkdir(parents=True, exist_ok=True)
        with self._translated():
            updater = FlooredUpdater(
                self.floor(),
                metadata_dir=str(self.folder / "metadata"),
                metadata_base_url=f"{self.url}/metadata/",
                target_dir=str(self.folder),
                target_base_url=f"{self.url}/targets/",
                fetcher=self._fetcher,
                config=UpdaterConfig(targets_max_length=DOCUMENT_MOST_BYTES),
                bootstrap=self._root.read_bytes(),
            )
            updater.refresh()
            self._raise_floor(signed_at(updater.timestamp))
        return SiteView(self, updater)

    @property
    def bytes_received(self) -> int:
        """Body bytes of metadata and manifests received since the start, as they travelled."""
        return self._fetcher.bytes_received

    def floor(self) -> dt.datetime:
        """Return the newest signed time seen: "now" is never earlier, whatever the board's clock says."""
        try:
            fields = Fields(parse_object(read_capped(self._floor_path, 1000), "floor"), "floor")
            seconds = fields.number("seconds", 0, LAST_SECOND)
        except (OSError, InputError):
            seconds = 0.0  # lost or damaged: the metadata that follows sets it again
        return dt.datetime.fromtimestamp(seconds, dt.UTC)

    @property
    def _floor_path(self) -> Path:
        return self.folder / "time_floor.json"

    def _raise_floor(self, signed_s: float) -> None:
        if signed_s > self.floor().timestamp():
            atomic_write(self._floor_path, json_bytes({"v": 1, "seconds": signed_s}))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the errors of python-tuf into ours."""
        try:
            yield
        except ExpiredMetadataError as error:
            now, floor = dt.datetime.now(dt.UTC), self.floor()
            log_event(logger, "trust.expired", logging.WARNING, url=self.url, clock=now, floor=floor)
            clock = f"; this clock says {now:%Y-%m-%d %H:%M}, the newest signed time is {floor:%Y-%m-%d %H:%M} UTC"
            raise TrustError(f"{self.url}: {error}{clock}") from error
        except (RepositoryError, InputError) as error:
            raise TrustError(f"{self.url}: not trusted: {one_line(error)}") from error
        except DownloadHTTPError as error:
            raise PeerError(f"{self.url}: HTTP {error.status_code}") from error
        except DownloadError as error:
            raise PeerError(f"{self.url}: {one_line(error.__cause__ or error)}") from error
        except _UNREADABLE as error:
            log_event(logger, "trust.unreadable", logging.WARNING, url=self.url, kind=type(error).__name__)
            raise TrustError(f"{self.url}: metadata that cannot be read: {one_line(error)}") from error


class FlooredUpdater(Updater):
    """python-tuf's client with a time before which it cannot be.

    The one place that reaches into python-tuf: 7.x has no public way to set the time that expiries are compared with,
    nor to read the timestamp metadata that verified. A test says so when either has moved.
    """

    def __init__(self, floor: dt.datetime, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._trusted_set.reference_time = max(self._trusted_set.reference_time, floor)

    @property
    def timestamp(self) -> Timestamp:
        """The timestamp metadata that ``refresh`` verified."""
        return self._trusted_set.timestamp


def signed_at(timestamp: Timestamp) -> float:
    """Return when ``timestamp`` was signed, in seconds since 1970; 0 when it does not say, InputError when it is no
    time."""
    value = timestamp.unrecognized_fields.get(SIGNED_AT, 0)
    return Fields({SIGNED_AT: value}, "timestamp.json").number(SIGNED_AT, 0, LAST_SECOND)


class SiteView:
    """A site at one moment of verified metadata: what it says belongs together (TUF consistent snapshot)."""

    def __init__(self, site: TrustedSite, updater: Updater) -> None:
        self._site = site
        self._updater = updater

    def newest(self, model: str, channel: str) -> int | None:
        """Return the version that ``channel`` of ``model`` has, or None when the model has no such channel.

        Raises: as ``TrustedSite.refresh``.
        """
        with self._site._translated():
            path = channel_path(model, channel)
            info = self._updater.get_targetinfo(path)
            return None if info is None else parse_channel_pointer(info.custom, path)

    def release(self, model: str, version: int) -> VerifiedRelease:
        """Return the release ``version`` of ``model``, its manifest (a few KB) downloaded and verified.

        Raises: as ``TrustedSite.refresh``; TrustError also when the metadata knows no such release.
        """
        with self._site._translated():
            path = release_path(model, version)
            info = self._updater.get_targetinfo(path)
            if info is None:
                raise InputError(f"no signed release {version} of {model}")
            if info.length > MANIFEST_MOST_BYTES:
                raise InputError(f"{path} is signed with {info.length} bytes, over 1 MiB")
            target = parse_release_target(info.custom, path)
            if (target.model, target.version) != (model, version):
                raise InputError(f"{path} is signed for {target.model} {target.version}")
            saved = self._updater.download_target(info, filepath=str(self._site.folder / "release.json"))
            return VerifiedRelease(target, Path(saved).read_bytes())


class HttpFetcher(FetcherInterface):
    """Fetches metadata and manifests; every failure is a DownloadError, as python-tuf wants it."""

    def __init__(self, limits: HttpLimits, headers: Mapping[str, str] | None = None) -> None:
        self._client = HttpClient(limits, {"Accept-Encoding": GZIP, **(headers or {})})

    @property
    def bytes_received(self) -> int:
        """Body bytes received since the start, as they travelled."""
        return self._client.bytes_received

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            with self._client.get(url) as answer:
                if answer.status != http.HTTPStatus.OK:
                    raise DownloadHTTPError(f"{url}: HTTP {answer.status}", answer.status)
                encoding = (answer.header("Content-Encoding") or "identity").lower()
                if encoding not in (GZIP, "identity"):
                    raise DownloadError(f"{url}: encoded as {encoding[:20]!r}, which was not asked for")
                yield from _capped(url, _unpacked(url, answer.pieces()) if encoding == GZIP else answer.pieces())
        except NoAnswerError as error:
            raise DownloadError(f"{url}: {error}") from error


def _unpacked(url: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from unpacked(pieces)
    except ValueError as error:
        raise DownloadError(f"{url}: {error}") from error


def _capped(url: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Return ``pieces`` up to what any document may have: the length that metadata names could be any number."""
    room = DOCUMENT_MOST_BYTES
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            raise DownloadError(f"{url}: longer than {DOCUMENT_MOST_BYTES} bytes")
        yield piece
