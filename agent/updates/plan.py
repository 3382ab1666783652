"""Owns what an update would do, as pure code: which bytes to fetch for a release, and whether to do it at all.

Refuses to fetch, to read a disk and to look at a clock; everything it decides from is given to it.
"""

import enum
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.updates.record import Record
from contract.errors import InputError
from contract.manifest import FileEntry, Manifest, parse_manifest
from contract.release import Patch, ReleaseTarget
from contract.rollout import in_rollout
from contract.trust import VerifiedRelease

# Names of TFLite's own operators; any other name needs code that a plain runtime lacks (Flex delegates, custom ones).
_BUILTIN_OPERATOR = re.compile(r"[A-Z0-9_]+")
_COMPILED_OPERATOR = "edgetpu-custom-op"  # of a file compiled for an Edge TPU, which the processor cannot run


class How(enum.StrEnum):
    """How a file of a release comes to be on the device."""

    REUSE = "reuse"
    PATCH = "patch"
    WHOLE = "whole"


@dataclass(frozen=True)
class FilePlan:
    """One file: reused from ``source``, patched from ``source`` by ``patch``, or fetched whole."""

    name: str
    entry: FileEntry
    how: How
    source: Path | None = None
    patch: Patch | None = None

    @property
    def fetch_bytes(self) -> int:
        """Bytes to fetch for it."""
        if self.how is How.REUSE:
            return 0
        return self.patch.size if self.patch else self.entry.size


@dataclass(frozen=True)
class InstallPlan:
    """What to do for a release, file by file."""

    release: VerifiedRelease
    manifest: Manifest
    files: tuple[FilePlan, ...]

    @property
    def fetch_bytes(self) -> int:
        """Content bytes to fetch."""
        return sum(file.fetch_bytes for file in self.files)

    @property
    def disk_bytes(self) -> int:
        """The most that the update adds to the disk before the idle slot's old files go."""
        patches = sum(file.fetch_bytes for file in self.files if file.how is How.PATCH)
        return patches + sum(file.entry.size for file in self.files)

    def count(self, how: How) -> int:
        """How many files come in the way ``how``."""
        return sum(file.how is how for file in self.files)


@dataclass(frozen=True)
class Policy:
    """What this device accepts. ``operators``: names beyond TFLite's own that the runtime here has."""

    model: str
    device: str
    reserve_bytes: int = 8_000_000  # stays free for logs, state and metadata
    operators: Collection[str] = frozenset()


class Reason(enum.StrEnum):
    """Why a release is not installed."""

    CURRENT = "current"  # it runs here already
    BUSY = "busy"  # another one is on trial, so both slots are in use
    OLDER = "older"
    BAD = "bad"
    WITHDRAWN = "withdrawn"
    ROLLOUT = "rollout"
    CONTRACT = "contract"
    DISK = "disk"


@dataclass(frozen=True)
class Refusal:
    """A release that is not installed, and why in one line."""

    reason: Reason
    text: str
    version: int | None = None


def glance(record: Record, version: int) -> Refusal | None:
    """Say what speaks against a version before anything of it is fetched; None when nothing does."""
    held = record.held(record.running) if record.running else None
    if record.trial:
        return Refusal(Reason.BUSY, f"release {record.trial.version} is on trial", version)
    if held and held.version == version:
        return Refusal(Reason.CURRENT, f"release {version} runs here", version)
    if version < record.highest:
        return Refusal(Reason.OLDER, f"release {version} is older than {record.highest}, which ran here", version)
    bad = record.refuses(version)
    return Refusal(Reason.BAD, bad, version) if bad else None


def make_plan(release: VerifiedRelease, on_disk: Mapping[str, Path]) -> InstallPlan | Refusal:
    """Choose for every file the way with the fewest bytes, given what is on the disk (digest to path)."""
    target = release.target
    try:
        manifest = parse_manifest(release.manifest)
        _check_signed_for(manifest, target)
    except InputError as error:
        return Refusal(Reason.CONTRACT, f"release {target.version} is not for this program: {error}")
    files = [_plan_file(name, entry, target, on_disk) for name, entry in target.files.items()]
    return InstallPlan(release, manifest, tuple(files))


def preflight(plan: InstallPlan, record: Record, policy: Policy, free_bytes: int) -> Refusal | None:
    """Say why ``plan`` is not carried out here; None when it is."""
    target, version = plan.release.target, plan.release.target.version
    bad = record.refuses(version, plan.release.digest)
    if bad:
        return Refusal(Reason.BAD, bad)
    if target.withdrawn:
        return Refusal(Reason.WITHDRAWN, f"release {version} is withdrawn")
    if target.model != policy.model:
        return Refusal(Reason.CONTRACT, f"the release is of the model {target.model!r}, not {policy.model!r}")
    if not in_rollout(target.rollout_seed, policy.device, target.rollout_percent):
        return Refusal(
            Reason.ROLLOUT, f"release {version} is rolled out to {target.rollout_percent:g} %, not here yet"
        )
    missing = _missing_operators(plan.manifest, policy.operators)
    if missing:
        hint = "; a compiled file belongs beside the processor's, not in its place" * (_COMPILED_OPERATOR in missing)
        return Refusal(Reason.CONTRACT, f"release {version} needs operators that this device lacks: {missing}{hint}")
    needed = plan.disk_bytes + policy.reserve_bytes
    if needed > free_bytes:
        return Refusal(Reason.DISK, f"release {version} needs {needed} bytes of disk, {free_bytes} are free")
    return None


def _plan_file(name: str, entry: FileEntry, target: ReleaseTarget, on_disk: Mapping[str, Path]) -> FilePlan:
    if entry.sha256 in on_disk:
        return FilePlan(name, entry, How.REUSE, source=on_disk[entry.sha256])
    usable = [patch for patch in target.patches if patch.file == name and patch.base in on_disk]
    best = min(usable, key=lambda patch: patch.size, default=None)
    if best and best.size < entry.size:
        return FilePlan(name, entry, How.PATCH, source=on_disk[best.base], patch=best)
    return FilePlan(name, entry, How.WHOLE)


def _check_signed_for(manifest: Manifest, target: ReleaseTarget) -> None:
    if (manifest.model, manifest.version) != (target.model, target.version):
        raise InputError(f"its manifest is of {manifest.model} {manifest.version}")
    if manifest.files() != target.files:
        raise InputError("its manifest names other files than its signature")


def _missing_operators(manifest: Manifest, known: Collection[str]) -> str:
    found = manifest.detector.operators if manifest.detector else ()
    needed = {*found, *(name for stage in manifest.stages for name in stage.operators)}
    return ", ".join(sorted(n for n in needed if not _BUILTIN_OPERATOR.fullmatch(n) and n not in known))
