"""Owns the bytes that a device with the base downloads for a bundle. Refuses to publish and to write patches.

Counted are the patches (or whole files, where smaller) of what changed, and release.json, which travels whole and
compressed (``contract.http.compression``). Signed metadata is not in a bundle and not counted: it depends on the
site.
"""

from dataclasses import dataclass
from pathlib import Path

import modelpatch
from contract.http.compression import packed
from contract.manifest import NAME, load_bundle


@dataclass(frozen=True)
class UpdateSize:
    """Bytes by file of the bundle; a file that the base has costs 0."""

    files: dict[str, int]

    @property
    def total(self) -> int:
        """All bytes of the update."""
        return sum(self.files.values())


def update_size(base: Path, bundle: Path) -> UpdateSize:
    """Measure the update from the bundle ``base`` to the bundle ``bundle`` as ``publish`` would make it.

    Raises:
        InputError: one of them is no bundle. OSError: a file cannot be read.
    """
    old, new = load_bundle(base, verify=False).files(), load_bundle(bundle, verify=False).files()
    sizes = {}
    for name, entry in new.items():
        if name in old and old[name].sha256 == entry.sha256:
            sizes[name] = 0
        elif name in old:
            sizes[name] = patch_size((base / name).read_bytes(), (bundle / name).read_bytes())
        else:
            sizes[name] = entry.size
    return UpdateSize({**sizes, NAME: manifest_size((bundle / NAME).read_bytes())})


def manifest_size(data: bytes) -> int:
    """Return the bytes that release.json takes on its way from a relay to a device."""
    return len(packed(data))


def patch_size(old: bytes, new: bytes, effort: str = "best") -> int:
    """Return the bytes that turn the file ``old`` into ``new``: the patch's, or all of them where that is less."""
    return min(len(modelpatch.diff_bytes(old, new, effort=effort)), len(new)) if old != new else 0
