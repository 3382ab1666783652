"""Owns the metadata that devices are served: a copy, under versioned names, of what this relay verified itself.

Refuses to pass on a byte of metadata that did not verify, and to leave a mixed set: timestamp.json is replaced
last, so a device always finds everything that its timestamp leads to. Blocking: call it from a thread.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, Timestamp

from contract.checks import whole_number
from contract.errors import TrustError
from contract.events import log_event
from contract.files import atomic_write
from contract.trust import SiteView, TrustedSite
from edge_relay.catalog import Catalog, read_catalog

logger = logging.getLogger("edge_relay.mirror")
TIMESTAMP = "timestamp.json"
KEPT_VERSIONS = 8  # of each role: a device that read an older timestamp a moment ago still finds what it names
_SERVED = re.compile(r"(?:timestamp|(?P<version>[0-9]{1,9})\.(?P<role>[A-Za-z0-9][A-Za-z0-9._-]{0,63}))\.json")


@dataclass(frozen=True)
class _Document:
    name: str
    data: bytes


class Mirror:
    """The served metadata folder, kept equal to the newest verified state of ``site``."""

    def __init__(self, site: TrustedSite, folder: Path, models: Iterable[str], channels: Iterable[str]) -> None:
        self._site = site
        self._folder = folder
        self._models = tuple(models)
        self._channels = tuple(channels)

    def sweep(self) -> None:
        """Remove the unfinished files of an earlier run that was killed; for the start, before any refresh."""
        for path in (*self._folder.glob(".*.tmp"), *(self._site.folder / "metadata").glob("tmp*")):
            path.unlink(missing_ok=True)

    def refresh(self) -> Catalog:
        """Verify the site's metadata, publish it to devices, and return what it names.

        Raises: as ``TrustedSite.refresh``. On any error devices keep the set of before.
        """
        view = self._site.refresh()
        for model in self._models:
            self._load_role(view, model)
        self._folder.mkdir(parents=True, exist_ok=True)
        documents = self._verified_set()
        for document in documents:
            self._publish(document)
        self._prune()
        return self.catalog()

    def catalog(self) -> Catalog:
        """Return what the mirrored metadata names; empty before the first refresh ever.

        Raises:
            TrustError: the folder was damaged; the next refresh mends it.
            OSError: it cannot be read.
        """
        if not (self._folder / TIMESTAMP).exists():
            return Catalog()
        roles = {model: [path.read_bytes() for path in self._versions(model)] for model in self._models}
        return read_catalog(roles, self._channels)

    def served(self, name: str) -> Path | None:
        """Return the file of ``/metadata/<name>``; None: to a device "no such root" means "mine is the newest"."""
        path = self._folder / name
        return path if _SERVED.fullmatch(name) and path.is_file() else None

    @property
    def bytes_received(self) -> int:
        """Body bytes of metadata received from the site since the start."""
        return self._site.bytes_received

    def _load_role(self, view: SiteView, model: str) -> None:
        known = [view.newest(model, channel) for channel in self._channels]
        if not any(known):
            log_event(logger, "mirror.nothing_published", logging.WARNING, model=model)

    def _verified_set(self) -> list[_Document]:
        """Return the documents that verified together, in the order in which they may appear to devices."""
        source = self._site.folder / "metadata"
        data = {role: (source / f"{role}.json").read_bytes() for role in ("timestamp", "snapshot")}
        try:
            roots = _trusted_roots(source)
            wanted = Metadata[Timestamp].from_bytes(data["timestamp"]).signed.snapshot_meta.version
            snapshot = Metadata[Snapshot].from_bytes(data["snapshot"]).signed
            parts = [_Document(f"{snapshot.version}.snapshot.json", data["snapshot"])]
            for role in ("targets", *self._models):
                if f"{role}.json" in snapshot.meta:
                    parts.append(_role_document(source, role, snapshot.meta[f"{role}.json"].version))
        except (RepositoryError, AttributeError) as error:
            raise TrustError(f"verified metadata cannot be read back: {error}") from error
        if snapshot.version != wanted:
            raise TrustError(f"timestamp names snapshot {wanted}, the verified one is {snapshot.version}")
        return [*roots, *parts, _Document(TIMESTAMP, data["timestamp"])]

    def _publish(self, document: _Document) -> None:
        path = self._folder / document.name
        if not path.is_file() or path.read_bytes() != document.data:
            atomic_write(path, document.data)
            log_event(logger, "mirror.published", name=document.name, bytes=len(document.data))

    def _versions(self, role: str) -> list[Path]:
        """Return the mirrored files of ``role``, newest first."""
        numbered = []
        for path in self._folder.iterdir():
            match = _SERVED.fullmatch(path.name)
            if match and match["role"] == role:
                numbered.append((int(match["version"]), path))
        return [path for _, path in sorted(numbered, reverse=True)]

    def _prune(self) -> None:
        """Drop all but the newest versions of each role; roots stay, an old device walks through every one."""
        for role in ("snapshot", "targets", *self._models):
            for path in self._versions(role)[KEPT_VERSIONS:]:
                path.unlink(missing_ok=True)


def _trusted_roots(source: Path) -> list[_Document]:
    """Return the chain of roots up to the trusted one. A later file is one that did not verify; a device that got it
    could not update any more."""
    newest = Metadata.from_bytes((source / "root.json").read_bytes()).signed.version
    paths = {whole_number(path.name.split(".")[0]): path for path in (source / "root_history").glob("*.root.json")}
    known = sorted((version, path) for version, path in paths.items() if version is not None and version <= newest)
    return [_Document(path.name, path.read_bytes()) for _, path in known]


def _role_document(source: Path, role: str, version: int) -> _Document:
    """Read the verified metadata of ``role``; one that this refresh did not load may be of another version."""
    data = (source / f"{role}.json").read_bytes()
    found = Metadata.from_bytes(data).signed.version
    if found != version:
        raise TrustError(f"snapshot names {role} {version}, the verified one is {found}")
    return _Document(f"{version}.{role}.json", data)
