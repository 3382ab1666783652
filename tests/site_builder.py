"""Owns a small publish site for tests: TUF metadata signed with throw-away keys, laid out as contract.release says.

Refuses to be a publisher: no diffing, no key files. It exists so that relay and agent are tested against the contract
and not against our own publishing code.
"""

import datetime as dt
import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from contract.manifest import FileEntry
from contract.release import Patch, ReleaseTarget, channel_path, content_path, release_path
from contract.trust import SIGNED_AT

TOP_ROLES = ("root", "targets", "snapshot", "timestamp")


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def frozen(name: str, size: int) -> bytes:
    """Return ``size`` bytes that do not compress and depend on ``name`` alone."""
    return random.Random(name).randbytes(size)


@dataclass
class SiteBuilder:
    """A publish site in ``folder``; ``root`` is the trusted root metadata to install on relays and devices."""

    folder: Path
    models: Sequence[str] = ("household",)
    expires: dt.timedelta = dt.timedelta(days=30)
    signers: dict[str, CryptoSigner] = field(default_factory=dict)
    documents: dict[str, Metadata] = field(default_factory=dict)  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        for name in ("metadata", "targets", "content"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.signers = {role: CryptoSigner.generate_ed25519() for role in (*TOP_ROLES, *self.models)}
        ends = dt.datetime.now(dt.UTC).replace(microsecond=0) + self.expires
        root = Root(expires=ends, consistent_snapshot=True)
        for role in TOP_ROLES:
            root.add_key(self.signers[role].public_key, role)
        targets = Targets(expires=ends, delegations=self._delegations())
        self.documents = {
            "root": Metadata(root),
            "targets": Metadata(targets),
            "snapshot": Metadata(Snapshot(expires=ends)),
            "timestamp": Metadata(Timestamp(expires=ends)),
            **{model: Metadata(Targets(expires=ends)) for model in self.models},
        }
        for role in ("root", "targets", *self.models):
            self._write(role)
        self.sign()

    @property
    def root(self) -> Path:
        """The first root metadata."""
        return self.folder / "metadata" / "1.root.json"

    def publish(
        self,
        version: int,
        files: Mapping[str, bytes],
        patches: Sequence[tuple[str, str, bytes]] = (),
        *,
        model: str = "household",
        channel: str = "stable",
        jitter_s: int = 0,
        manifest: bytes | None = None,
    ) -> ReleaseTarget:
        """Publish a release of ``files`` with ``patches`` (file, SHA-256 of its base, bytes) in ``channel``."""
        for data in (*files.values(), *(patch for _, _, patch in patches)):
            (self.folder / content_path(sha256(data))).write_bytes(data)
        target = ReleaseTarget(
            model,
            version,
            {name: FileEntry(sha256(data), len(data)) for name, data in files.items()},
            tuple(Patch(name, base, sha256(data), len(data)) for name, base, data in patches),
            jitter_s=jitter_s,
        )
        self._add(model, release_path(model, version), manifest or b'{"release": %d}' % version, target.custom())
        self.point(channel, version, model=model)
        return target

    def point(self, channel: str, version: int, *, model: str = "household") -> None:
        """Point ``channel`` at ``version`` and sign everything anew."""
        data = b'{"v": 1, "version": %d}\n' % version
        self._add(model, channel_path(model, channel), data, {"v": 1, "version": version})
        self.documents[model].signed.version += 1
        self._write(model)
        self.sign()

    def change(self, target: ReleaseTarget, **changes: object) -> None:
        """Sign other data about a release that is out (withdrawn, rollout_percent)."""
        changed = replace(target, **changes)  # type: ignore[arg-type]
        signed = self.documents[target.model].signed.targets[release_path(target.model, target.version)]
        signed.unrecognized_fields["custom"] = changed.custom()
        self.documents[target.model].signed.version += 1
        self._write(target.model)
        self.sign()

    def rotate_timestamp_key(self) -> None:
        """Publish the next root, in which timestamp has a new key."""
        root = self.documents["root"].signed
        root.revoke_key(self.signers["timestamp"].public_key.keyid, "timestamp")
        self.signers["timestamp"] = CryptoSigner.generate_ed25519()
        root.add_key(self.signers["timestamp"].public_key, "timestamp")
        root.version += 1
        self._write("root")
        self.sign()

    def sign(self) -> None:
        """Write snapshot and timestamp over what there is."""
        snapshot, timestamp = self.documents["snapshot"].signed, self.documents["timestamp"].signed
        roles = ("targets", *self.models)
        snapshot.meta = {f"{role}.json": MetaFile(version=self.documents[role].signed.version) for role in roles}
        snapshot.version += 1
        self._write("snapshot")
        timestamp.snapshot_meta = MetaFile(version=snapshot.version)
        timestamp.version += 1
        timestamp.unrecognized_fields[SIGNED_AT] = int(time.time())
        self._write("timestamp")

    def _delegations(self) -> Delegations:
        roles = {
            model: DelegatedRole(
                model, [self.signers[model].public_key.keyid], 1, True, paths=[f"{model}/*", f"{model}/*/*"]
            )
            for model in self.models
        }
        keys = {self.signers[model].public_key.keyid: self.signers[model].public_key for model in self.models}
        return Delegations(keys, roles)

    def _add(self, model: str, path: str, data: bytes, custom: dict[str, object]) -> None:
        target = TargetFile.from_data(path, data, ["sha256"])
        target.unrecognized_fields["custom"] = custom
        self.documents[model].signed.targets[path] = target
        folder, name = path.rsplit("/", 1)
        (self.folder / "targets" / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "targets" / folder / f"{sha256(data)}.{name}").write_bytes(data)

    def _write(self, role: str) -> None:
        document = self.documents[role]
        document.sign(self.signers[role])
        name = "timestamp.json" if role == "timestamp" else f"{document.signed.version}.{role}.json"
        document.to_file(str(self.folder / "metadata" / name))
