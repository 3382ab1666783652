"""Owns devices for tests: a data folder with the real update parts, a site of tiny bundles, and ways to interfere.

The model never runs here: the self-test is a function, and swapping is recorded. Everything else is the real thing.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import modelpatch
from agent.updates.download import Downloads
from agent.updates.installer import Installer
from agent.updates.lifecycle import ProbationPassed, TrialPassed
from agent.updates.plan import Policy, Refusal
from agent.updates.progress import Progress
from agent.updates.record import Phase, Slot
from agent.updates.selftest import SelfTestResult
from agent.updates.slots import Slots
from contract.http.client import HttpLimits
from contract.manifest import NAME, load_bundle
from contract.messages import UpdateStatus
from contract.release import DEVICE_HEADER, ReleaseTarget
from contract.trust import TrustedSite, VerifiedRelease
from tests.bundles import write_bundle
from tests.site_builder import SiteBuilder, sha256

LABELS = ("ann", "ben", "cas")
DEVICE = "porch"


def release_of(folder: Path) -> VerifiedRelease:
    """Return the bundle in ``folder`` as though its signature had been verified."""
    manifest = load_bundle(folder)
    target = ReleaseTarget(manifest.model, manifest.version, manifest.files())
    return VerifiedRelease(target, (folder / NAME).read_bytes())


def make_release(folder: Path, version: int, **options: Any) -> VerifiedRelease:
    """Write a tiny bundle for ``version`` into ``folder``/version and return it as a verified release."""
    write_bundle(folder / str(version), version, LABELS, seed=version, **options)
    return release_of(folder / str(version))


def sources(folder: Path, release: VerifiedRelease) -> dict[str, Path]:
    """Return where each file of a release made by ``make_release`` is."""
    return {name: folder / str(release.target.version) / name for name in release.target.files}


class BundleSite:
    """A signed site of tiny bundles; every head differs by a few steps from the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builder = SiteBuilder(folder / "site")
        self.targets: dict[int, ReleaseTarget] = {}

    def publish(
        self, version: int, *, patched_from: int | None = None, patch: bytes | None = None, **options: Any
    ) -> VerifiedRelease:
        """Publish ``version``, with a patch of the head from an earlier version; ``patch`` replaces its bytes."""
        release = make_release(self.folder, version, **options)
        parts = {name: path.read_bytes() for name, path in sources(self.folder, release).items()}
        patches = []
        if patched_from is not None:
            base = (self.folder / str(patched_from) / "head.tflite").read_bytes()
            made = modelpatch.diff_bytes(base, parts["head.tflite"], effort="fast") if patch is None else patch
            patches = [("head.tflite", sha256(base), made)]
        self.targets[version] = self.builder.publish(version, parts, patches, manifest=release.manifest)
        return release


class Device:
    """The update side of one device in ``data``; a second one on the same folder is the device after a restart."""

    def __init__(
        self,
        data: Path,
        site: BundleSite,
        url: str,
        *,
        self_test: Callable[[Path], SelfTestResult] | None = None,
        wait: Callable[[float], bool] = lambda seconds: False,
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.data = data
        self.told: list[UpdateStatus] = []
        self.swapped: list[Slot] = []
        self.slots = Slots(data, "household")
        headers = {DEVICE_HEADER: DEVICE}
        self.downloads = Downloads(data / "downloads", url, wait=wait, headers=headers, limits=HttpLimits(2.0))
        self.installer = Installer(
            slots=self.slots,
            site=TrustedSite(url, site.builder.root, data / "trust", limits=HttpLimits(2.0), headers=headers),
            downloads=self.downloads,
            policy=Policy("household", DEVICE),
            channel="stable",
            attempts=3,
            progress=Progress(data, self.told.append),
            hot=True,
            on_trial=self.swapped.append,
            self_test=self_test or (lambda folder: SelfTestResult(0.0, 1.0)),
        )

    def update(self) -> Refusal | None:
        """Look at the site once and install what it has."""
        return self.installer.install(self.installer.newest)

    def commit(self) -> None:
        """Let the trial under way pass what it has not passed yet."""
        trial = self.slots.record.trial
        if trial and trial.phase is Phase.TRIAL:
            self.slots.apply(TrialPassed())
        self.slots.apply(ProbationPassed())

    def install(self) -> None:
        """Install what the site has, and commit it."""
        assert self.update() is None
        self.commit()

    @property
    def version(self) -> int | None:
        """The version that runs."""
        record = self.slots.record
        held = record.held(record.running) if record.running else None
        return held.version if held else None

    def contents(self, slot: Slot) -> Mapping[str, bytes]:
        """Return the files in ``slot``."""
        return {path.name: path.read_bytes() for path in self.slots.folder(slot).iterdir()}

    def holds(self, slot: Slot, release: VerifiedRelease) -> bool:
        """Return whether ``slot`` has exactly the files of ``release``, byte for byte by their digests."""
        wanted = {name: entry.sha256 for name, entry in release.target.files.items()} | {NAME: release.digest}
        return {name: sha256(data) for name, data in self.contents(slot).items()} == wanted
