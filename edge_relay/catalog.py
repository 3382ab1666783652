"""Owns what verified metadata names: every object a device may ask for, with its signed digest and length.

Refuses anything else: a path that is not in the catalog does not exist, whatever the site would answer. Pure: the
bytes it reads were verified by ``contract.trust`` before they came here.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets

from contract.checks import Fields
from contract.errors import InputError, TrustError
from contract.events import log_event
from contract.release import (
    ReleaseTarget,
    channel_path,
    content_path,
    parse_channel_pointer,
    parse_release_target,
    release_path,
)
from contract.trust import MANIFEST_MOST_BYTES

logger = logging.getLogger("edge_relay.catalog")


@dataclass(frozen=True)
class Item:
    """One object of the site: its URL path, SHA-256 (hexadecimal) and length in bytes, all from signed metadata."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Release:
    """A signed release and where its manifest is."""

    target: ReleaseTarget
    manifest: Item


@dataclass(frozen=True)
class Catalog:
    """All items by URL path, the version of each (model, channel), and the releases by (model, version)."""

    items: Mapping[str, Item] = field(default_factory=dict)
    channels: Mapping[tuple[str, str], int] = field(default_factory=dict)
    releases: Mapping[tuple[str, int], Release] = field(default_factory=dict)

    def digests(self) -> set[str]:
        """Return the SHA-256 of every item."""
        return {item.sha256 for item in self.items.values()}


def read_catalog(roles: Mapping[str, Iterable[bytes]], channels: Iterable[str]) -> Catalog:
    """Read the catalog from the verified metadata of each model's role, newest version first.

    Items of older versions stay known, because a device that read them a moment ago still asks for them. A target
    that is signed wrongly, and an older version that a card damaged, are left out and logged.

    Raises:
        TrustError: the newest bytes of a role are no TUF targets metadata.
    """
    items: dict[str, Item] = {}
    versions: dict[tuple[str, str], int] = {}
    releases: dict[tuple[str, int], Release] = {}
    for model, documents in roles.items():
        for age, document in enumerate(documents):
            for path, target in _targets(document, model, required=age == 0).items():
                _add_target(model, path, target, items, releases)
                if age == 0:
                    _add_channel(model, path, target, channels, versions)
    return Catalog(items, versions, releases)


def _targets(document: bytes, model: str, *, required: bool) -> dict[str, TargetFile]:
    try:
        return Metadata[Targets].from_bytes(document).signed.targets
    except (RepositoryError, AttributeError) as error:
        if required:
            raise TrustError(f"metadata of {model} cannot be read: {error}") from error
        log_event(logger, "catalog.damaged", logging.WARNING, model=model, error=error)
        return {}


def _add_target(
    model: str, path: str, target: TargetFile, items: dict[str, Item], releases: dict[tuple[str, int], Release]
) -> None:
    """Add a target and, for a release, its contents. A role may name what is below its own model, and no more."""
    if not path.startswith(f"{model}/"):
        return
    try:
        item = _target_item(path, target)
        items.setdefault(item.path, item)
        if not path.endswith("/release.json"):
            return
        release = parse_release_target(target.custom, path)
        if release.model != model or path != release_path(model, release.version):
            raise InputError(f"{path} is signed for {release.model} {release.version}")
    except InputError as error:
        log_event(logger, "catalog.skipped", logging.WARNING, target=path, error=error)
        return
    releases.setdefault((model, release.version), Release(release, item))
    for sha256, size in release.contents().items():
        items.setdefault(content_path(sha256), Item(content_path(sha256), sha256, size))


def _target_item(path: str, target: TargetFile) -> Item:
    sha256 = Fields(target.hashes, path).sha256("sha256")
    if target.length > MANIFEST_MOST_BYTES:
        raise InputError(f"{path} is signed with {target.length} bytes, over 1 MiB")
    folder, name = path.rsplit("/", 1)
    return Item(f"targets/{folder}/{sha256}.{name}", sha256, target.length)


def _add_channel(
    model: str, path: str, target: TargetFile, channels: Iterable[str], versions: dict[tuple[str, str], int]
) -> None:
    for channel in channels:
        if path == channel_path(model, channel):
            try:
                versions[model, channel] = parse_channel_pointer(target.custom, path)
            except InputError as error:
                log_event(logger, "catalog.skipped", logging.WARNING, target=path, error=error)
