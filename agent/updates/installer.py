"""Owns the safe order of an update: refresh, plan, preflight, download, materialise, verify, self-test, trial.

Refuses to skip a step. Every step can be killed at any moment: what is on the disk then is counted (state.json) or
found again by its digest, and the same order run once more completes it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import modelpatch
from agent.updates.disk import disk_errors, free_bytes
from agent.updates.download import Downloads
from agent.updates.lifecycle import Rejected, TrialBegun
from agent.updates.plan import FilePlan, How, InstallPlan, Policy, Reason, Refusal, glance, make_plan, preflight
from agent.updates.progress import Progress
from agent.updates.record import Slot
from agent.updates.selftest import SelfTestResult, run_selftest
from agent.updates.slots import Slots
from contract.errors import InputError, PeerError, ReleaseError, StorageError
from contract.events import log_event
from contract.manifest import NAME, check_file, load_bundle
from contract.messages import UpdateState
from contract.release import ReleaseTarget
from contract.trust import TrustedSite, VerifiedRelease

logger = logging.getLogger("agent.installer")
# Beside base and target a patch may use this much memory.
PATCH_MEMORY_BYTES = 64 << 20
QUIET = (Reason.CURRENT, Reason.BUSY)


@dataclass(frozen=True)
class Found:
    """A release to install, and files known beside those in the slots and downloads (digest to path)."""

    release: VerifiedRelease
    beside: Mapping[str, Path]


@dataclass(kw_only=True)
class Installer:
    """Installs releases into the idle slot. Blocking, for one thread.

    ``attempts``: the starts that a trial may have. ``hot``: an agent runs, and ``on_trial``, told of the slot, swaps
    it to the trial now, which is its first start; else the next start of an agent is. ``on_bytes`` is told of content
    as it arrives.
    """

    slots: Slots
    site: TrustedSite
    downloads: Downloads
    policy: Policy
    channel: str
    attempts: int
    progress: Progress
    hot: bool
    self_test: Callable[[Path], SelfTestResult] = run_selftest
    on_trial: Callable[[Slot], None] = lambda slot: None
    on_bytes: Callable[[int], None] = lambda count: None
    _said: Refusal | None = field(default=None, init=False)
    _bytes_before: int = field(default=0, init=False)

    def install(self, find: Callable[[], Found | Refusal]) -> Refusal | None:
        """Install what ``find`` gives and begin its trial; return why not, when a release is not for this device.

        Raises:
            PeerError, StorageError: try again later; what was fetched is kept.
            ReleaseError: the release failed its self-test and is remembered as bad.
        """
        found = self._refresh(find)
        if isinstance(found, Refusal):
            return self._refuse(found)
        plan = self._plan(found)
        if isinstance(plan, Refusal):
            return self._refuse(plan, found.release)
        refusal = self._preflight(plan)
        if refusal:
            return self._refuse(refusal, found.release)
        sources = self._download(plan)
        slot = self._materialise(plan, sources)
        self._verify(slot, plan)
        self._self_test(slot, plan)
        self._begin_trial(slot, plan)
        return None

    def newest(self) -> Found | Refusal:
        """Find the newest release of the channel at the relay, verified; its contents are not fetched yet.

        Raises:
            PeerError: no answer, or (TrustError) one that does not verify.
        """
        with disk_errors():
            view = self.site.refresh()
            version = view.newest(self.policy.model, self.channel)
            if version is None:
                raise PeerError(f"{self.site.url}: no release of {self.policy.model} in the channel {self.channel}")
            refusal = glance(self.slots.record, version)
            return refusal or Found(view.release(self.policy.model, version), {})

    def local(self, folder: Path) -> Found | Refusal:
        """Find the release in a folder on this machine: no signature, whoever can write there is trusted.

        Raises:
            InputError: it is no bundle, or a file is missing or wrong; the text names it.
        """
        manifest = load_bundle(folder)
        target = ReleaseTarget(manifest.model, manifest.version, manifest.files())
        beside = {entry.sha256: folder / name for name, entry in manifest.files().items()}
        release = VerifiedRelease(target, (folder / NAME).read_bytes())
        return glance(self.slots.record, manifest.version) or Found(release, beside)

    def _refresh(self, find: Callable[[], Found | Refusal]) -> Found | Refusal:
        self.progress.begin()
        self._bytes_before = self._received()
        with self.progress.timed("refresh"):
            return find()

    def _plan(self, found: Found) -> InstallPlan | Refusal:
        with self.progress.timed("plan"):
            on_disk = {**found.beside, **self.downloads.inventory(), **self.slots.inventory()}
            plan = make_plan(found.release, on_disk)
        if isinstance(plan, InstallPlan):
            ways = {how.value: plan.count(how) for how in How}
            log_event(logger, "update.planned", version=plan.manifest.version, bytes=plan.fetch_bytes, **ways)
        return plan

    def _preflight(self, plan: InstallPlan) -> Refusal | None:
        refusal = preflight(plan, self.slots.record, self.policy, free_bytes(self.slots.data))
        if refusal is None:
            running = self.slots.record.running
            held = self.slots.record.held(running) if running else None
            version = plan.manifest.version
            self._tell(UpdateState.PLANNED, before=held.version if held else None, after=version)
        return refusal

    def _download(self, plan: InstallPlan) -> dict[str, Path]:
        """Fetch and patch; return for each file of the release where its bytes are."""
        self._tell(UpdateState.DOWNLOADING)
        contents = plan.release.target.contents()
        self.downloads.keep_only(contents)
        with self.progress.timed("download"):
            for file in plan.files:
                if file.how is not How.REUSE:
                    digest = file.patch.sha256 if file.patch else file.entry.sha256
                    self.downloads.fetch(digest, contents[digest], self.on_bytes)
        log_event(logger, "update.downloaded", version=plan.manifest.version, bytes=self._received_now())
        return {file.name: self._source(file) for file in plan.files}

    def _source(self, file: FilePlan) -> Path:
        """Return where the bytes of one file are, making them from a patch where the plan says so."""
        if file.source is not None and file.patch is None:
            return file.source
        if file.patch is None:
            return self.downloads.path_for(file.entry.sha256)
        try:
            with self.progress.timed("patch"):
                return self._patched(file)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a patch, the whole file is the way out
            log_event(logger, "update.patch_failed", logging.WARNING, file=file.name, reason=error)
        with self.progress.timed("download"):
            return self.downloads.fetch(file.entry.sha256, file.entry.size, self.on_bytes)

    def _patched(self, file: FilePlan) -> Path:
        assert file.patch is not None  # the caller looked
        target = self.downloads.path_for(file.entry.sha256)
        patch = self.downloads.path_for(file.patch.sha256)
        with disk_errors():
            modelpatch.apply_file(
                file.source,
                patch,
                target,
                max_target_bytes=file.entry.size,
                max_memory_bytes=PATCH_MEMORY_BYTES,
            )
            try:
                check_file(target, file.entry)
            except InputError:
                target.unlink()  # the patch made what it says, and that is not what was signed
                raise
        return target

    def _materialise(self, plan: InstallPlan, sources: Mapping[str, Path]) -> Slot:
        self._tell(UpdateState.MATERIALISING)
        with self.progress.timed("materialise"):
            return self.slots.materialise(plan.release, sources)

    def _verify(self, slot: Slot, plan: InstallPlan) -> None:
        self._tell(UpdateState.VERIFYING)
        with self.progress.timed("verify"):
            self.slots.seal(slot, plan.release)
            self.downloads.keep_only(())

    def _self_test(self, slot: Slot, plan: InstallPlan) -> None:
        self._tell(UpdateState.TESTING)
        version = plan.manifest.version
        try:
            with self.progress.timed("selftest"):
                result = self.self_test(self.slots.folder(slot))
        except ReleaseError as error:
            log_event(logger, "selftest.failed", logging.ERROR, version=version, reason=error)
            self.slots.apply(Rejected(str(error)))
            self._tell(UpdateState.REJECTED, error=str(error))
            raise
        log_event(logger, "selftest.passed", version=version, worst=result.worst, run_ms=result.run_ms)

    def _begin_trial(self, slot: Slot, plan: InstallPlan) -> None:
        self.slots.apply(TrialBegun(self.attempts, hot=self.hot))
        self._tell(UpdateState.TRIAL)
        self.on_trial(slot)

    def _refuse(self, refusal: Refusal, release: VerifiedRelease | None = None) -> Refusal:
        """Say once why a release is not installed; one that runs already needs no word."""
        if refusal != self._said and refusal.reason not in QUIET:
            log_event(logger, "update.refused", logging.WARNING, reason=refusal.reason, text=refusal.text)
            version = release.target.version if release else refusal.version
            self._tell(UpdateState.REFUSED, error=refusal.text, after=version)
        if refusal.reason in QUIET:
            self.progress.recovered()
        self._said = refusal
        return refusal

    def _tell(self, state: UpdateState, **fields: Any) -> None:
        self.progress.change(state, received=self._received_now(), **fields)

    def _received(self) -> int:
        return self.site.bytes_received + self.downloads.bytes_received

    def _received_now(self) -> int:
        return self._received() - self._bytes_before
