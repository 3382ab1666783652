"""A publish site as the devices' own client (contract.trust over python-tuf) sees it: honest, stale and attacked."""

import dataclasses
import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Timestamp

import modelpatch
from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.publish import Order, publish
from contract.errors import PeerError, TrustError
from contract.files import sha256_file
from contract.manifest import NAME, load_bundle
from contract.trust import SIGNED_AT, TrustedSite
from tests.detectors import small_detector
from tests.sites import Site, missing_contents


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).create()


@pytest.fixture
def device(site: Site) -> Iterator[TrustedSite]:
    with site.served() as url:
        yield site.client(url)


def rewrite(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Change a metadata file as an attacker without keys can: new content, old signature."""
    body = json.loads(path.read_bytes())
    change(body)
    path.write_text(json.dumps(body))


def newest(site: Site, role: str) -> Path:
    files = (site.site / "metadata").glob(f"*.{role}.json")
    return max(files, key=lambda path: int(path.name.split(".")[0]))


def test_a_new_site_verifies_and_has_no_release(device: TrustedSite) -> None:
    assert device.refresh().newest("household", "stable") is None


def test_a_published_release_verifies_with_its_files_and_manifest(site: Site, device: TrustedSite) -> None:
    published = site.publish(1, rollout_percent=25, jitter_s=60)
    view = device.refresh()
    release = view.release("household", 1)
    assert view.newest("household", "stable") == 1
    assert release.manifest == (site.bundle(1) / "release.json").read_bytes()
    assert release.digest == published.digest
    assert (release.target.rollout_percent, release.target.jitter_s) == (25, 60)
    assert release.target.rollout_seed == published.digest[:16]
    assert set(release.target.files) == {"backbone.tflite", "head.tflite", "selftest.npz"}
    assert missing_contents(site.site, release) == []


@pytest.mark.slow
def test_a_patch_from_every_earlier_release_gives_the_signed_file(site: Site, device: TrustedSite) -> None:
    for version in (1, 2, 3):
        site.publish(version)
    release = device.refresh().release("household", 3)
    patches = {patch.base: patch for patch in release.target.patches}
    assert [patch.file for patch in patches.values()] == ["head.tflite"] * 2
    for version in (1, 2):
        base = site.bundle(version) / "head.tflite"
        made = site.folder / "made"
        modelpatch.apply_file(base, site.site / "content" / patches[sha256_file(base)].sha256, made)
        assert made.read_bytes() == (site.bundle(3) / "head.tflite").read_bytes()


def test_a_detector_is_signed_as_any_file_and_costs_nothing_while_it_stays(site: Site, device: TrustedSite) -> None:
    for version in (1, 2):
        bundle = with_detector(site.bundle(version))
        publish(Order(bundle=bundle, site=site.site, keys=site.keys), clock=site.clock)
    view = device.refresh()
    first, second = (view.release("household", version) for version in (1, 2))
    assert first.target.files["detector.tflite"] == second.target.files["detector.tflite"]
    assert [patch.file for patch in second.target.patches] == ["head.tflite"]
    assert missing_contents(site.site, second) == []


def with_detector(bundle: Path) -> Path:
    """Put a detector into a bundle, and return it."""
    data, manifest = b"TFL3 detector", load_bundle(bundle)
    (bundle / "detector.tflite").write_bytes(data)
    rows = ((0.0,) * 4,) * len(manifest.selftest.expected)
    entry = small_detector(sha256=hashlib.sha256(data).hexdigest(), size=len(data), expected=rows)
    (bundle / NAME).write_bytes(dataclasses.replace(manifest, detector=entry).to_bytes())
    return bundle


def test_two_channels_have_their_own_versions(site: Site, device: TrustedSite) -> None:
    site.publish(1)
    site.publish(2, channel="beta")
    view = device.refresh()
    assert (view.newest("household", "stable"), view.newest("household", "beta")) == (1, 2)
    assert view.newest("household", "nightly") is None


def test_two_models_do_not_see_each_other(tmp_path: Path) -> None:
    site = Site(tmp_path, "household", "garden").create()
    site.publish(1)
    with site.served() as url:
        view = site.client(url).refresh()
        assert (view.newest("household", "stable"), view.newest("garden", "stable")) == (1, None)


def test_a_site_of_other_keys_is_not_trusted(tmp_path: Path, site: Site) -> None:
    other = Site(tmp_path / "other").create()
    other.publish(1)
    with other.served() as url, pytest.raises(TrustError):
        TrustedSite(url, site.keys / "root.json", tmp_path / "victim").refresh()


@pytest.mark.parametrize("role", ["snapshot", "targets", "household"])
def test_changed_metadata_of_a_role_is_not_trusted(site: Site, device: TrustedSite, role: str) -> None:
    site.publish(1)
    rewrite(newest(site, role), lambda body: body["signed"].update(note="changed"))  # type: ignore[attr-defined]
    with pytest.raises(TrustError):
        device.refresh().newest("household", "stable")


def test_a_changed_timestamp_is_not_trusted(site: Site, device: TrustedSite) -> None:
    path = site.site / "metadata" / "timestamp.json"
    rewrite(path, lambda body: body["signed"].update({SIGNED_AT: 1}))  # type: ignore[attr-defined]
    with pytest.raises(TrustError):
        device.refresh()


def test_a_changed_manifest_is_not_trusted(site: Site, device: TrustedSite) -> None:
    site.publish(1)
    (manifest,) = (site.site / "targets" / "household" / "1").iterdir()
    manifest.write_bytes(manifest.read_bytes().replace(b"ann", b"eve"))
    with pytest.raises(TrustError):
        device.refresh().release("household", 1)


def test_a_model_role_signed_by_another_models_key_is_not_trusted(tmp_path: Path) -> None:
    site = Site(tmp_path, "household", "garden").create()
    online = site.keys / "online"
    shutil.copy(online / "model-garden.pem", online / "model-household.pem")
    site.publish(1)
    with site.served() as url, pytest.raises(TrustError):
        site.client(url).refresh().newest("household", "stable")


def test_an_old_timestamp_is_a_rollback_and_not_trusted(site: Site, device: TrustedSite) -> None:
    site.publish(1)
    old = shutil.copytree(site.site / "metadata", site.folder / "old")
    site.publish(2)
    assert device.refresh().newest("household", "stable") == 2
    shutil.copytree(old, site.site / "metadata", dirs_exist_ok=True)
    with pytest.raises(TrustError):
        device.refresh()


@pytest.mark.parametrize(("days", "expired"), [(13, False), (15, True)])
def test_a_timestamp_that_nobody_renewed_is_refused_after_two_weeks(tmp_path: Path, days: int, expired: bool) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    site = Site(tmp_path, now=now - dt.timedelta(days=days)).create()
    with site.served() as url:
        if not expired:
            assert site.client(url).refresh().newest("household", "stable") is None
            return
        with pytest.raises(TrustError, match="clock says"):
            site.client(url).refresh()
        site.now = now
        assert site.refresh() == ["timestamp"]
        assert site.client(url).refresh().newest("household", "stable") is None


def test_refresh_renews_every_role_before_it_expires(site: Site, device: TrustedSite) -> None:
    site.publish(1)
    names = []
    for _ in range(9):
        site.now += dt.timedelta(days=100)
        names.append(site.refresh())
    assert all(signed[-2:] == ["snapshot", "timestamp"] for signed in names)
    assert sum("household" in signed for signed in names) >= 3
    assert device.refresh().newest("household", "stable") == 1


def test_a_clock_set_back_does_not_bring_expired_metadata_to_life(site: Site, device: TrustedSite) -> None:
    """The site is signed at times in the future: to the device, its clock is 400 days behind."""
    today = site.now
    site.now = today + dt.timedelta(days=400)
    site.publish(1)
    assert device.refresh().newest("household", "stable") == 1
    # A later version, properly signed, that expired before the floor but not before the clock's idea of now.
    _set_signed_at(site, 0)
    site.now = today
    site.publish(2)
    with pytest.raises(TrustError, match="expired"):
        device.refresh()


def _set_signed_at(site: Site, seconds: int) -> None:
    """Let the stolen-key publisher forget when the site was signed last; an honest one would refuse to go back."""
    path = site.site / "metadata" / "timestamp.json"
    metadata = Metadata[Timestamp].from_file(str(path))
    metadata.signed.unrecognized_fields[SIGNED_AT] = seconds
    metadata.sign(KeyFolder(site.keys).signer("timestamp"))
    metadata.to_file(str(path))


def test_the_time_floor_survives_a_restart(site: Site) -> None:
    site.now += dt.timedelta(days=10)
    site.refresh()
    with site.served() as url:
        site.client(url).refresh()
        assert site.client(url).floor() == site.now


def test_a_site_that_is_down_is_a_peer_error_and_not_a_trust_error(site: Site) -> None:
    with site.served() as url:
        pass
    with pytest.raises(PeerError) as caught:
        site.client(url).refresh()
    assert not isinstance(caught.value, TrustError)
