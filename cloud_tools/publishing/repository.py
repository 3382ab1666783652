"""Owns the signed metadata of a publish site (python-tuf): roles, expiries, and the order in which files appear.

Refuses to sign on top of metadata that its own keys did not sign: whoever can write to the served folder could
otherwise have a release of his own signed with the next one. The timestamp is written last; its rename is the commit.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.model_role import ModelRole
from cloud_tools.publishing.site_folder import SiteFolder
from contract.errors import InputError, TrustError
from contract.files import atomic_write, read_capped
from contract.trust import SIGNED_AT, signed_at

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)
Clock = Callable[[], dt.datetime]

# How long signatures live (docs/adr/0003-trust-and-keys.md gives the reasons). Offline roles outlive a device on a
# shelf: the snapshot pins their newest version, so that their own expiry adds nothing against replay. The online
# roles are signed again by `keys refresh`, daily by a timer; the timestamp bounds how long a relay can hide news.
ROOT_DAYS = TARGETS_DAYS = 3650
MODEL_DAYS = 365
SNAPSHOT_DAYS = 90
TIMESTAMP_DAYS = 14
# Versions of metadata are at least the seconds since then: a site that was restored from any older copy signs above
# all that was signed after the copy was made. Roles are signed far less often than once a second.
VERSIONS_SINCE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def utc_now() -> dt.datetime:
    """Return the time to sign with, in whole seconds as TUF writes it."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def create_site(site: Path, keys: KeyFolder, models: Sequence[str], clock: Clock = utc_now) -> None:
    """Sign and write the first metadata of a site, with one delegated role for every model.

    Raises:
        InputError: ``site`` has metadata already, or a key is missing.
        OSError: the disk refused.
    """
    check_no_site(site)
    folder, now = SiteFolder(site), clock()
    folder.create()
    root = _new_root(keys, now)
    targets = Targets(expires=_in_days(now, TARGETS_DAYS), delegations=_delegations(keys, models))
    snapshot = Snapshot(expires=_in_days(now, SNAPSHOT_DAYS))
    with folder.locked():
        atomic_write(keys.root_metadata, _signed(root, keys, "root"))
        folder.write_metadata("1.root.json", _signed(root, keys, "root"))
        folder.write_metadata("1.targets.json", _signed(targets, keys, "targets"))
        for model in models:
            folder.write_metadata(f"1.{model}.json", _signed(Targets(expires=_in_days(now, MODEL_DAYS)), keys, model))
            snapshot.meta[f"{model}.json"] = MetaFile(version=1)
        folder.write_metadata("1.snapshot.json", _signed(snapshot, keys, "snapshot"))
        timestamp = Timestamp(expires=_in_days(now, TIMESTAMP_DAYS))
        timestamp.unrecognized_fields[SIGNED_AT] = int(now.timestamp())
        folder.write_metadata("timestamp.json", _signed(timestamp, keys, "timestamp"))


def check_no_site(site: Path) -> None:
    """Refuse a folder that has signed metadata: a second root would lock out every device of the first."""
    if (site / "metadata" / "timestamp.json").exists():
        raise InputError(f"{site} is a publish site already")


class Repository:
    """The committed state of a site, verified; use it with the site's lock held."""

    def __init__(self, site: SiteFolder, keys: KeyFolder, clock: Clock = utc_now) -> None:
        """Read and verify the metadata that the timestamp commits to.

        Raises:
            InputError: this is no site, this computer's clock is behind it, or offline metadata has expired.
            TrustError: metadata is missing, damaged or not signed by this site's keys.
        """
        self.site, self.keys, self.now = site, keys, clock()
        self._root = self._read_root()
        self._timestamp = self._read("timestamp.json", Timestamp, self._root)
        self._snapshot = self._read_version("snapshot", self._timestamp.snapshot_meta.version, Snapshot, self._root)
        self._targets = self._read_version("targets", self._version("targets"), Targets, self._root)
        self._check_times()

    @property
    def timestamp_version(self) -> int:
        """The version of the timestamp that is out."""
        return int(self._timestamp.version)

    def is_due(self, age: dt.timedelta) -> bool:
        """Return whether the timestamp was signed longer than ``age`` ago."""
        return self.now.timestamp() - signed_at(self._timestamp) >= age.total_seconds()

    def models(self) -> list[str]:
        """Return the models that the offline targets key has delegated."""
        delegations = self._targets.delegations
        return sorted(delegations.roles or ()) if delegations else []

    def role(self, model: str) -> ModelRole:
        """Return what is listed for ``model``; InputError when the site has no such model."""
        if model not in self.models():
            raise InputError(f"{self.site.path} has no model {model!r} (it has {', '.join(self.models())})")
        return ModelRole(model, self._read_version(model, self._version(model), Targets, self._targets))

    def commit(self, role: ModelRole) -> None:
        """Sign ``role`` and all above it that is online. Nothing of it counts before the timestamp is renamed.

        Raises:
            InputError: an online key is missing.
            OSError: the disk refused; what was committed before still stands.
        """
        self._seal_role(role.model, role.targets)
        self._seal_snapshot()
        self._seal_timestamp()

    def refresh(self, *, everything: bool = False) -> list[str]:
        """Sign the timestamp again, and every online role with less than half of its life left; return their names.

        ``everything``: sign all online roles, for a site that was restored from an older copy. A client that saw the
        newer one takes no role with a lower version.

        Raises: as ``commit``.
        """
        signed = []
        for model in self.models():
            targets = self.role(model).targets
            if everything or self._is_old(targets, MODEL_DAYS):
                self._seal_role(model, targets)
                signed.append(model)
        if signed or self._is_old(self._snapshot, SNAPSHOT_DAYS):
            self._seal_snapshot()
            signed.append("snapshot")
        self._seal_timestamp()
        return [*signed, "timestamp"]

    def _seal_role(self, model: str, targets: Targets) -> None:
        self._renew(targets, MODEL_DAYS)
        self.site.write_metadata(f"{targets.version}.{model}.json", _signed(targets, self.keys, model))
        self._snapshot.meta[f"{model}.json"] = MetaFile(version=targets.version)

    def _seal_snapshot(self) -> None:
        snapshot = self._snapshot
        self._renew(snapshot, SNAPSHOT_DAYS)
        self.site.write_metadata(f"{snapshot.version}.snapshot.json", _signed(snapshot, self.keys, "snapshot"))
        self._timestamp.snapshot_meta = MetaFile(version=snapshot.version)

    def _seal_timestamp(self) -> None:
        self._renew(self._timestamp, TIMESTAMP_DAYS)
        self._timestamp.unrecognized_fields[SIGNED_AT] = int(self.now.timestamp())
        self.site.write_metadata("timestamp.json", _signed(self._timestamp, self.keys, "timestamp"))

    def _renew(self, signed: Signed, days: int) -> None:
        signed.version = max(signed.version + 1, int((self.now - VERSIONS_SINCE).total_seconds()))
        signed.expires = _in_days(self.now, days)

    def _is_old(self, signed: Signed, days: int) -> bool:
        return signed.expires - self.now < dt.timedelta(days=days / 2)

    def _version(self, role: str) -> int:
        meta = self._snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise TrustError(f"{self.site.path}: its snapshot does not name {role}")
        return meta.version

    def _read_root(self) -> Root:
        """Start from the root beside the keys, never from the served one, and follow its successors."""
        try:
            data = read_capped(self.keys.root_metadata, 1_000_000)
        except OSError as error:
            raise InputError(f"{self.keys.path} is no key folder of a site: no root.json") from error
        root = _parse(data, Root, str(self.keys.root_metadata))
        while (data_of_next := self.site.metadata(f"{root.signed.version + 1}.root.json")) is not None:
            name = f"{root.signed.version + 1}.root.json"
            following = _parse(data_of_next, Root, name)
            for judge in (root, following):
                _verify(judge.signed, "root", following, name)
            root = following
        return root.signed

    def _read_version(self, role: str, version: int, kind: type[T], judge: Root | Targets) -> T:
        signed = self._read(f"{version}.{role}.json", kind, judge)
        if signed.version != version:
            raise TrustError(f"{self.site.path}/metadata/{version}.{role}.json: holds version {signed.version}")
        return signed

    def _read(self, name: str, kind: type[T], judge: Root | Targets) -> T:
        where = f"{self.site.path}/metadata/{name}"
        data = self.site.metadata(name)
        if data is None:
            raise TrustError(f"{where}: missing")
        metadata = _parse(data, kind, where)
        _verify(judge, name.split(".")[-2], metadata, where)
        return metadata.signed

    def _check_times(self) -> None:
        newest = signed_at(self._timestamp)
        if self.now.timestamp() < newest:
            signed = dt.datetime.fromtimestamp(newest, dt.UTC)
            raise InputError(
                f"this clock says {self.now:%F %T}, the site was signed later ({signed:%F %T} UTC): set it"
            )
        for name, role in (("root", self._root), ("targets", self._targets)):
            if role.expires <= self.now:
                raise InputError(
                    f"the {name} metadata expired on {role.expires:%F}: sign it again with its offline key"
                )


def _new_root(keys: KeyFolder, now: dt.datetime) -> Root:
    root = Root(expires=_in_days(now, ROOT_DAYS), consistent_snapshot=True)
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(keys.signer(role).public_key, role)
    return root


def _delegations(keys: KeyFolder, models: Sequence[str]) -> Delegations:
    public = {model: keys.signer(model).public_key for model in models}
    roles = {
        # A pattern's "*" never spans a slash: releases are one folder deeper than channels.
        model: DelegatedRole(model, [key.keyid], 1, terminating=True, paths=[f"{model}/*", f"{model}/*/*"])
        for model, key in public.items()
    }
    return Delegations({key.keyid: key for key in public.values()}, roles)


def _signed(signed: Signed, keys: KeyFolder, role: str) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    metadata.sign(keys.signer(role))
    return metadata.to_bytes(JSONSerializer(compact=True))


def _parse(data: bytes, kind: type[T], where: str) -> Metadata[T]:
    try:
        metadata: Metadata[T] = Metadata[T].from_bytes(data)
    except DeserializationError as error:
        raise TrustError(f"{where}: damaged, not TUF metadata") from error
    if not isinstance(metadata.signed, kind):
        raise TrustError(f"{where}: metadata of another role")
    return metadata


def _verify(judge: Root | Targets, role: str, metadata: Metadata[Any], where: str) -> None:
    try:
        judge.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise TrustError(f"{where}: not signed by this site's keys") from error


def _in_days(now: dt.datetime, days: int) -> dt.datetime:
    return now + dt.timedelta(days=days)
