"""Owns what is signed about a release: the paths of a publish site, the ``custom`` data of its targets, and how a
device names itself there.

Refuses to fetch or to verify signatures (``contract.trust``) and to know what a model is (``contract.manifest``).

A site, and a relay in front of it, serve
    metadata/...                                   TUF metadata
    targets/<model>/<version>/<sha256>.release.json  the manifest of a release (consistent snapshot name)
    targets/<model>/<sha256>.<channel>.json        which version a channel has
    content/<sha256>                               files and patches, by their own digest
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from contract.checks import Fields, safe_name
from contract.errors import InputError
from contract.manifest import FileEntry
from contract.rollout import LONGEST_JITTER_S

DEVICE_HEADER = "Kinwatch-Device"  # of every request to a site or relay: whom it counts for; believed for nothing

ROLES = ("root", "targets", "snapshot", "timestamp")  # of the signed metadata; each model has one of its own name


@dataclass(frozen=True)
class Patch:
    """A patch that turns the file with digest ``base`` into ``file`` of the release; ``sha256`` and ``size`` are
    the patch's own."""

    file: str
    base: str
    sha256: str
    size: int


@dataclass(frozen=True)
class ReleaseTarget:
    """The signed ``custom`` data of a release target: everything to fetch for it, and who should.

    Whole numbers only: canonical JSON, which is what is signed, has no others.
    """

    model: str
    version: int
    files: dict[str, FileEntry]
    patches: tuple[Patch, ...] = ()
    rollout_percent: int = 100
    rollout_seed: str = ""
    jitter_s: int = 0
    withdrawn: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def custom(self) -> dict[str, Any]:
        """Return the JSON object to sign."""
        body = asdict(self)
        extra = body.pop("extra")
        return {"v": 1, **body, "patches": [asdict(patch) for patch in self.patches], **extra}

    def contents(self) -> dict[str, int]:
        """Return digest and length of every content-addressed object of the release, files and patches."""
        parts: tuple[FileEntry | Patch, ...] = (*self.files.values(), *self.patches)
        return {part.sha256: part.size for part in parts}


def parse_release_target(custom: Any, where: str) -> ReleaseTarget:
    """Read the ``custom`` data of a release target; InputError says which field is wrong."""
    top = Fields(custom, where)
    if top.integer("v", 1) != 1:
        raise InputError(f"{where}: schema {top.value['v']}, this program knows 1")
    files = top.object("files")
    patches = [Fields(item, f"{where}: patches[{i}]") for i, item in enumerate(top.items("patches"))]
    return ReleaseTarget(
        model=top.name("model"),
        version=top.integer("version", 1),
        files={name: _entry(files, name) for name in files.value},
        patches=tuple(
            Patch(item.name("file"), item.sha256("base"), item.sha256("sha256"), item.integer("size", 1))
            for item in patches
        ),
        rollout_percent=top.integer("rollout_percent", 0, 100),
        rollout_seed=top.text("rollout_seed"),
        jitter_s=top.integer("jitter_s", 0, LONGEST_JITTER_S),
        withdrawn=top.boolean("withdrawn"),
    )


def channel_pointer(version: int) -> dict[str, int]:
    """Return the JSON object to sign for a channel that has ``version``."""
    return {"v": 1, "version": version}


def parse_channel_pointer(custom: Any, where: str) -> int:
    """Return the version that the ``custom`` data of a channel's target gives it; InputError when it gives none."""
    top = Fields(custom, where)
    top.integer("v", 1, 1)
    return top.integer("version", 1)


def _entry(files: Fields, name: str) -> FileEntry:
    entry = files.object(safe_name(name, files.where))
    return FileEntry(entry.sha256("sha256"), entry.integer("size", 1))


def check_model_name(name: str) -> str:
    """Return ``name`` if a model, and so a role of signed metadata, can be called that; InputError otherwise."""
    if name in ROLES:
        raise InputError(f"model {name!r}: this name belongs to a role of the signed metadata")
    return safe_name(name, "model")


def release_path(model: str, version: int) -> str:
    """Return the TUF target path of a release's manifest."""
    return f"{model}/{version}/release.json"


def channel_path(model: str, channel: str) -> str:
    """Return the TUF target path that says which version a channel has."""
    return f"{model}/{channel}.json"


def content_path(sha256: str) -> str:
    """Return the URL path of a content-addressed object, below the site's root."""
    return f"content/{sha256}"
