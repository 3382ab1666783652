"""Owns the patches of a release: which files changed, from which earlier files, and is each patch worth having.

Refuses to offer a patch that was not applied and compared first, or that is no smaller than the whole file.
"""

from collections.abc import Iterable
from pathlib import Path

import modelpatch
from cloud_tools.progress import Say
from cloud_tools.publishing.site_folder import SiteFolder
from cloud_tools.setting_errors import Sentence
from contract.files import sha256_file
from contract.manifest import FileEntry
from contract.release import Patch, ReleaseTarget


def make_patches(
    bundle: Path, files: dict[str, FileEntry], earlier: Iterable[ReleaseTarget], site: SiteFolder, say: Say
) -> tuple[Patch, ...]:
    """Diff the changed files of ``bundle`` against the same files of ``earlier`` releases; add patches to ``site``.

    A file that an earlier release has with the same digest needs no patch from it: the device reuses it.

    Raises:
        OSError: the disk refused.
        modelpatch.PatchError: a patch did not give back the file it was made for.
    """
    patches = []
    with site.workspace() as work:
        for name, base in _bases(files, earlier):
            say(Sentence(f"{name}: patch from {base.sha256[:12]}"))
            patch = _patch(name, site.content(base.sha256), bundle / name, work) if site.has_content(base) else None
            if patch is not None and patch.size < files[name].size:
                site.add_content(work / "patch", FileEntry(patch.sha256, patch.size))
                patches.append(patch)
    return tuple(patches)


def _bases(files: dict[str, FileEntry], earlier: Iterable[ReleaseTarget]) -> list[tuple[str, FileEntry]]:
    """Return each pair of a file's name and an earlier state of it once, in the order of ``earlier``."""
    pairs: dict[tuple[str, FileEntry], None] = {}
    for release in earlier:
        for name, entry in files.items():
            base = release.files.get(name)
            if base is not None and base.sha256 != entry.sha256:
                pairs[name, base] = None
    return list(pairs)


def _patch(name: str, base: Path, new: Path, work: Path) -> Patch:
    """Leave a proven patch as ``work/patch``."""
    patch, result = work / "patch", work / "result"
    header = modelpatch.diff_file(base, new, patch)
    modelpatch.apply_file(base, patch, result)
    if sha256_file(result) != header.target_sha256:
        raise modelpatch.TargetMismatchError(f"{name}: the patch does not give back the file it was made for")
    return Patch(name, header.base_sha256, sha256_file(patch), patch.stat().st_size)
