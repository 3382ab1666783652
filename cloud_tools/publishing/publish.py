"""Owns publishing a bundle: what may be published, and the order that makes a kill at any moment harmless.

Refuses versions that do not grow, a second content under a version that is out, and a release that is worse for
somebody than the one it takes the place of. Contents come first, then the
manifest, then signed metadata, then the timestamp: before its rename nothing is published, after it everything is.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloud_tools.progress import Say, say_nothing
from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.model_role import ModelRole
from cloud_tools.publishing.patches import make_patches
from cloud_tools.publishing.regression import MARGIN_POINTS
from cloud_tools.publishing.release_gate import Rule, check_regression
from cloud_tools.publishing.repository import Clock, Repository, utc_now
from cloud_tools.publishing.site_folder import SiteFolder, storage_errors
from cloud_tools.setting_errors import Setting, SettingError
from contract.checks import safe_name
from contract.errors import InputError
from contract.manifest import Manifest, read_bundle
from contract.messages import ReleaseNotice
from contract.release import ReleaseTarget
from contract.rollout import rollout_seed


class Outcome(enum.Enum):
    """What publishing a bundle means for the site as it is."""

    NEW = "published"
    PROMOTE = "added to the channel"
    NOTHING = "already published"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a person asked for. ``patches_from`` is how many earlier releases get patches; ``jitter_s`` in seconds.

    ``margin_points``, ``held_out`` and ``accept_regression``: see ``cloud_tools.publishing.release_gate``. ``known``
    are digests of manifests by version that were out once, though the site may have been restored from an older copy.
    """

    bundle: Path
    site: Path
    keys: Path
    channel: str = "stable"
    rollout_percent: int = 100
    jitter_s: int = 0
    patches_from: int = 3
    margin_points: float = MARGIN_POINTS
    held_out: Path | None = None
    accept_regression: bool = False
    known: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Published:
    """The release as it is signed now; ``channel_version`` is what the channel has."""

    outcome: Outcome
    target: ReleaseTarget
    digest: str
    channel: str
    channel_version: int


def publish(order: Order, say: Say = say_nothing, clock: Clock = utc_now) -> Published:
    """Publish a bundle, or find that it is published. Running it again after a kill or an error ends the work.

    Raises:
        InputError: the bundle is damaged, its version does not grow, it is worse for somebody than what the channel
            has, the options differ from what is signed, the site does not know the model, or a key is missing.
        TrustError: the site's metadata is not what its keys signed.
        StorageError: the disk refused; the site is whole, with or without the release.
        PeerError: another publisher would not end.
    """
    safe_name(order.channel, "channel")
    manifest, data = read_bundle(order.bundle)
    site = SiteFolder(order.site)
    with storage_errors(f"publishing to {order.site}"), site.locked():
        site.remove_leftovers()
        repository = Repository(site, KeyFolder(order.keys), clock)
        role = repository.role(manifest.model)
        outcome = decide(manifest.version, hashlib.sha256(data).hexdigest(), order, role)
        if outcome is not Outcome.NOTHING:
            _check_no_regression(order, manifest, role, site, say)
        for name, entry in manifest.files().items():
            site.add_content(order.bundle / name, entry)
        if outcome is not Outcome.NOTHING:
            # A release that gets another channel gets patches anew: from what the devices of that channel have.
            site.write_target(*role.add(_new_target(order, manifest, data, role, site, say), data))
            site.write_target(*role.point(order.channel, manifest.version))
            role.trim()
            repository.commit(role)
        return _report(outcome, manifest.version, order.channel, role)


def decide(version: int, digest: str, order: Order, role: ModelRole) -> Outcome:
    """Say what publishing ``version`` with the manifest ``digest`` means for ``role``; InputError when it may not."""
    releases, at = role.releases(), role.channels().get(order.channel, 0)
    newest, out = max(releases, default=0), releases.get(version)
    if out is None:
        if version > newest and order.known.get(version) != digest:
            newest = max(newest, *order.known, 0)
        if version <= newest:
            raise InputError(f"release {version} of {role.model} is not newer than {newest}: versions only grow")
        return Outcome.NEW
    if out.digest != digest:
        raise InputError(f"release {version} of {role.model} is published with other contents: give it a new version")
    if out.target.withdrawn:
        raise InputError(f"release {version} of {role.model} was withdrawn: give it a new version")
    if (out.target.rollout_percent, out.target.jitter_s) != (order.rollout_percent, order.jitter_s):
        raise SettingError(
            *(f"release {version} of {role.model} is published with ", Setting.ROLLOUT),
            *(f" {out.target.rollout_percent:g} ", Setting.JITTER, f" {out.target.jitter_s:g}"),
            ": publishing again does not change them",
        )
    return Outcome.PROMOTE if at < version else Outcome.NOTHING


def _check_no_regression(order: Order, manifest: Manifest, role: ModelRole, site: SiteFolder, say: Say) -> None:
    current = role.releases().get(role.channels().get(order.channel, 0))
    if current is not None:
        rule = Rule(
            channel=order.channel,
            margin_points=order.margin_points,
            held_out=order.held_out,
            accept=order.accept_regression,
        )
        check_regression(rule, order.bundle, manifest, current, site, say)


def current_notice(site: SiteFolder, keys: KeyFolder, model: str, channel: str) -> ReleaseNotice:
    """Return the notice for what ``channel`` has now (something is published there); call it with the lock held."""
    role = Repository(site, keys).role(model)
    version = role.channels()[channel]
    return ReleaseNotice(version, role.releases()[version].target.jitter_s)


def _new_target(
    order: Order, manifest: Manifest, data: bytes, role: ModelRole, site: SiteFolder, say: Say
) -> ReleaseTarget:
    earlier = _bases(manifest.version, order.patches_from, role)
    return ReleaseTarget(
        model=manifest.model,
        version=manifest.version,
        files=manifest.files(),
        patches=make_patches(order.bundle, manifest.files(), earlier, site, say),
        rollout_percent=order.rollout_percent,
        rollout_seed=rollout_seed(data),
        jitter_s=order.jitter_s,
    )


def _bases(version: int, count: int, role: ModelRole) -> list[ReleaseTarget]:
    """Return the releases that devices may have: the newest ``count``, and what each channel has; newest first."""
    older = {number: listed.target for number, listed in role.releases().items() if number < version}
    wanted = {*list(older)[:count], *(role.channels().values() if count else ())}
    return [target for number, target in older.items() if number in wanted]


def _report(outcome: Outcome, version: int, channel: str, role: ModelRole) -> Published:
    listed = role.releases()[version]
    return Published(
        outcome=outcome,
        target=listed.target,
        digest=listed.digest,
        channel=channel,
        channel_version=role.channels()[channel],
    )
