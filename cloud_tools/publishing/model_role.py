"""Owns what a model's signed role lists: releases, and which of them each channel has. Refuses to sign and to write.

The list is bounded, because every device fetches it whole with every update: only the newest releases stay, and only
those that a channel has keep their patches (no device plans an update to any other).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tuf.api.metadata import TargetFile, Targets

from contract.checks import Fields
from contract.errors import InputError
from contract.files import json_bytes
from contract.release import (
    ReleaseTarget,
    channel_path,
    channel_pointer,
    parse_channel_pointer,
    parse_release_target,
    release_path,
)

# Releases. An update fetches 8.3 KB of metadata with 8 listed and 15.6 KB with 20, beside a patch of a few KB; the
# publisher itself needs no more than it makes patches from.
LISTED = 8


@dataclass(frozen=True)
class ListedRelease:
    """A release as the role lists it; ``digest`` is the SHA-256 of its release.json."""

    target: ReleaseTarget
    digest: str


class ModelRole:
    """The releases and channels of one model, over the TUF role that lists them."""

    def __init__(self, model: str, targets: Targets) -> None:
        self.model = model
        self.targets = targets

    def releases(self) -> dict[int, ListedRelease]:
        """Return the listed releases by version, newest first."""
        found = {}
        for path, file in self.targets.targets.items():
            if path.count("/") == 2:
                target = parse_release_target(file.custom, path)
                found[target.version] = ListedRelease(target, Fields(file.hashes, path).sha256("sha256"))
        return dict(sorted(found.items(), reverse=True))

    def channels(self) -> dict[str, int]:
        """Return the version of every channel."""
        found = {}
        for path, file in self.targets.targets.items():
            if path.count("/") == 1:
                channel = path.split("/")[1].removesuffix(".json")
                found[channel] = parse_channel_pointer(file.custom, path)
        return found

    def add(self, target: ReleaseTarget, manifest: bytes) -> tuple[str, bytes]:
        """List a release; return the path and bytes of the target file to write."""
        return self._list(release_path(target.model, target.version), manifest, target.custom())

    def point(self, channel: str, version: int) -> tuple[str, bytes]:
        """Let ``channel`` have ``version``; return the path and bytes of the target file to write."""
        pointer = channel_pointer(version)
        return self._list(channel_path(self.model, channel), json_bytes(pointer), pointer)

    def _list(self, path: str, data: bytes, custom: Mapping[str, object]) -> tuple[str, bytes]:
        file = TargetFile.from_data(path, data)
        file.unrecognized_fields["custom"] = dict(custom)
        self.targets.targets[path] = file
        return path, data

    def withdraw(self, version: int) -> bool:
        """Mark a release as one that no device takes any more; say whether it was none.

        Raises:
            InputError: the release is not listed.
        """
        file = self.targets.targets.get(release_path(self.model, version))
        if file is None:
            raise InputError(f"no release {version} of {self.model} is listed")
        custom = file.unrecognized_fields["custom"]
        changed = not custom["withdrawn"]
        custom["withdrawn"] = True
        return changed

    def trim(self) -> None:
        """Unlist all but the newest releases, and drop the patches of those that no channel has."""
        in_channels = set(self.channels().values())
        for rank, version in enumerate(self.releases()):
            path = release_path(self.model, version)
            if version in in_channels:
                continue
            if rank >= LISTED:
                del self.targets.targets[path]
            else:
                self.targets.targets[path].unrecognized_fields["custom"]["patches"] = []
