"""Owns which objects of a release are fetched before any device asks; refuses to fetch. Pure.

Devices that run the release before need the patches; nothing is announced until those are here. A whole file is
worth the uplink beforehand only where no patch makes it and no earlier release had it: then every device must take it
whole. All other whole files wait for the first device that asks.
"""

from contract.manifest import FileEntry
from contract.release import content_path
from edge_relay.catalog import Catalog, Item, Release


def wanted(catalog: Catalog, release: Release, most_bytes: int) -> list[Item]:
    """Return what to fetch for ``release``, in order: manifest, patches (small first), unpatched new files.

    Whole files over ``most_bytes`` are left to demand; of a withdrawn release only the manifest is fetched, because
    devices that run it still read it.
    """
    target = release.target
    if target.withdrawn:
        return [release.manifest]
    known = _earlier_digests(catalog, release)
    patched = {patch.file for patch in target.patches}
    whole = [
        entry
        for name, entry in target.files.items()
        if name not in patched and entry.sha256 not in known and entry.size <= most_bytes
    ]
    patches = sorted(target.patches, key=lambda patch: patch.size)
    digests = [*(patch.sha256 for patch in patches), *(entry.sha256 for entry in sorted(whole, key=_size))]
    return [release.manifest, *(catalog.items[content_path(sha256)] for sha256 in dict.fromkeys(digests))]


def _size(entry: FileEntry) -> int:
    return entry.size


def _earlier_digests(catalog: Catalog, release: Release) -> set[str]:
    earlier = [
        other.target
        for (model, version), other in catalog.releases.items()
        if model == release.target.model and version < release.target.version
    ]
    return {entry.sha256 for target in earlier for entry in target.files.values()}
