"""What may be published, with which keys, and what the signed list of releases holds."""

import datetime as dt
import hashlib
import json
import stat
from pathlib import Path

import pytest

from cloud_tools.commands.terminal import options_named
from cloud_tools.publishing.keys import KeyFolder, check_apart, default_folder
from cloud_tools.publishing.model_role import LISTED
from cloud_tools.publishing.publish import Order, Outcome, publish
from cloud_tools.publishing.repository import Repository, create_site
from cloud_tools.publishing.site_folder import SiteFolder
from contract.errors import InputError, PeerError, TrustError
from contract.release import Patch
from tests.bundles import write_bundle
from tests.sites import LABELS, Site, missing_contents


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).create()


def tree(site: Site) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in site.site.rglob("*") if path.is_file()}


def listed(site: Site, version: int) -> tuple[Patch, ...]:
    return (
        Repository(SiteFolder(site.site), KeyFolder(site.keys)).role("household").releases()[version].target.patches
    )


def test_keys_lie_beside_the_served_folder_and_only_their_owner_reads_them(site: Site) -> None:
    assert default_folder(site.site) == site.keys
    files = {path.relative_to(site.keys).as_posix(): path for path in site.keys.rglob("*.pem")}
    assert set(files) == {
        *("offline/root.pem", "offline/targets.pem"),
        *("online/snapshot.pem", "online/timestamp.pem", "online/model-household.pem"),
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files.values())
    assert all(stat.S_IMODE((site.keys / name).stat().st_mode) == 0o700 for name in ("", "offline", "online"))
    assert not any(b"PRIVATE KEY" in data for data in tree(site).values())


@pytest.mark.parametrize("keys", ["site/keys", "site", "."])
def test_keys_below_the_served_folder_are_refused(tmp_path: Path, keys: str) -> None:
    with pytest.raises(InputError, match="must not be in the served folder"):
        check_apart(tmp_path / keys, tmp_path / "site")


def test_keys_are_never_overwritten(site: Site) -> None:
    before = (site.keys / "offline" / "root.pem").read_bytes()
    with pytest.raises(InputError, match="never overwritten"):
        KeyFolder(site.keys).create(["household"])
    with pytest.raises(InputError, match="publish site already"):
        create_site(site.site, KeyFolder(site.keys), ["household"])
    assert (site.keys / "offline" / "root.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["root", "targets", "snapshot", "timestamp", "a/b", "", "*"])
def test_a_model_cannot_be_called_like_a_role_or_a_pattern(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        KeyFolder(tmp_path / "keys").create([name])
    assert list(tmp_path.iterdir()) == []


def test_publishing_and_refreshing_need_no_offline_key(site: Site) -> None:
    (site.keys / "offline").rename(site.folder / "drawer")
    assert site.publish(1).outcome is Outcome.NEW
    assert site.refresh() == ["timestamp"]


def test_a_missing_online_key_is_named_and_nothing_is_published(site: Site) -> None:
    (site.keys / "online" / "timestamp.pem").unlink()
    with pytest.raises(InputError, match=r"no key to sign timestamp with.*timestamp\.pem"):
        site.publish(1)
    assert Repository(SiteFolder(site.site), KeyFolder(site.keys)).role("household").releases() == {}


@pytest.mark.parametrize("text", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_is_named(site: Site, text: bytes) -> None:
    (site.keys / "online" / "snapshot.pem").write_bytes(text)
    with pytest.raises(InputError, match=r"snapshot\.pem: not a private key"):
        site.publish(1)


def test_publishing_the_same_bundle_again_changes_nothing(site: Site) -> None:
    first = site.publish(1)
    before = tree(site)
    second = site.publish(1)
    assert (first.outcome, second.outcome) == (Outcome.NEW, Outcome.NOTHING)
    assert second.digest == first.digest
    assert tree(site) == before


def test_other_contents_under_a_published_version_are_refused(site: Site) -> None:
    site.publish(1, seed=1)
    before = tree(site)
    with pytest.raises(InputError, match="release 1 of household is published with other contents"):
        site.publish(1, seed=2)
    assert tree(site) == before


@pytest.mark.parametrize("version", [1, 4])
def test_a_version_that_does_not_grow_is_refused(site: Site, version: int) -> None:
    site.publish(5, channel="beta")
    with pytest.raises(InputError, match=f"release {version} of household is not newer than 5"):
        site.publish(version)


def test_other_options_for_a_published_release_are_refused(site: Site) -> None:
    site.publish(1, rollout_percent=10)
    with pytest.raises(InputError, match="published with --rollout 10 --jitter 0"), options_named():
        site.publish(1)


def test_a_model_without_a_role_is_refused(site: Site) -> None:
    bundle = site.bundle(1, model="garden")
    with pytest.raises(InputError, match="has no model 'garden'"):
        publish(Order(bundle=bundle, site=site.site, keys=site.keys))


def test_a_file_that_is_not_the_manifests_is_refused(site: Site) -> None:
    bundle = site.bundle(1)
    data = bytearray((bundle / "head.tflite").read_bytes())
    data[100] ^= 1
    (bundle / "head.tflite").write_bytes(data)
    before = tree(site)
    with pytest.raises(InputError, match=r"head\.tflite: its SHA-256 is not the manifest's"):
        publish(Order(bundle=bundle, site=site.site, keys=site.keys))
    assert tree(site) == before


def test_a_channel_that_is_no_plain_name_is_refused(site: Site) -> None:
    with pytest.raises(InputError, match="channel"):
        site.publish(1, channel="../stable")


def test_metadata_that_somebody_else_changed_is_never_signed_over(site: Site) -> None:
    site.publish(1)
    path = max((site.site / "metadata").glob("*.household.json"))
    body = json.loads(path.read_bytes())
    body["signed"]["targets"]["household/1/release.json"]["custom"]["files"] = {}
    path.write_text(json.dumps(body))
    with pytest.raises(TrustError, match="not signed by this site's keys"):
        site.publish(2)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"signed": {"_type": "root"}, "signatures": []}', b"\xff"])
@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.household.json"])
def test_damaged_metadata_is_one_clear_error(site: Site, name: str, data: bytes) -> None:
    (site.site / "metadata" / name).write_bytes(data)
    with pytest.raises(TrustError, match=name):
        site.publish(1)


def test_a_folder_that_is_no_site_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no publish site"):
        Site(tmp_path).publish(1)


def test_a_publisher_whose_clock_is_behind_the_last_signature_refuses(site: Site) -> None:
    site.now -= dt.timedelta(hours=1)
    with pytest.raises(InputError, match="this clock says"):
        site.publish(1)


def test_expired_offline_metadata_asks_for_its_key(site: Site) -> None:
    site.now += dt.timedelta(days=3651)
    with pytest.raises(InputError, match="the root metadata expired"):
        site.publish(1)


def test_unchanged_files_are_stored_once_and_need_no_patch(site: Site) -> None:
    first, second = site.publish(1).target, site.publish(2).target
    assert first.files["backbone.tflite"] == second.files["backbone.tflite"]
    assert [patch.file for patch in second.patches] == ["head.tflite"]
    assert second.patches[0].base == first.files["head.tflite"].sha256
    assert 0 < second.patches[0].size < second.files["head.tflite"].size
    stored = {path.name for path in (site.site / "content").iterdir()}
    assert stored == {*first.contents(), *second.contents()}
    assert all(hashlib.sha256((site.site / "content" / name).read_bytes()).hexdigest() == name for name in stored)


def test_a_patch_that_is_no_smaller_than_the_file_is_not_offered(site: Site) -> None:
    for version in (1, 2):
        place = site.folder / f"foreign-{version}"
        write_bundle(place, version, LABELS, seed=0, backbone=b"%08d" % version)
        target = publish(Order(bundle=place, site=site.site, keys=site.keys)).target
    assert [patch for patch in target.patches if patch.file == "backbone.tflite"] == []


@pytest.mark.slow
def test_patches_start_from_the_newest_releases_and_from_what_channels_have(site: Site) -> None:
    digests = {version: site.publish(version).target.files["head.tflite"].sha256 for version in (1, 2)}
    for version in (3, 4, 5):
        digests[version] = site.publish(version, channel="beta").target.files["head.tflite"].sha256
    patches = site.publish(6, channel="beta", patches_from=1).target.patches
    assert {patch.base for patch in patches} == {digests[2], digests[5]}


@pytest.mark.slow
def test_a_release_that_gets_another_channel_gets_patches_for_its_devices(site: Site) -> None:
    old = site.publish(1).target.files["head.tflite"].sha256
    site.publish(2, channel="beta")
    site.publish(3, channel="beta")
    assert listed(site, 2) == ()
    promoted = site.publish(2)
    assert (promoted.outcome, promoted.channel_version) == (Outcome.PROMOTE, 2)
    assert [patch.base for patch in promoted.target.patches] == [old]


def test_publishing_what_a_channel_has_passed_leaves_the_channel(site: Site) -> None:
    site.publish(1)
    site.publish(2)
    again = site.publish(1)
    assert (again.outcome, again.channel_version) == (Outcome.NOTHING, 2)


def test_a_damaged_base_gives_no_patch_and_publishing_again_mends_the_contents(site: Site) -> None:
    head = site.site / "content" / site.publish(1).target.files["head.tflite"].sha256
    head.write_bytes(b"damaged")
    assert site.publish(2).target.patches == ()
    site.publish(1)
    assert hashlib.sha256(head.read_bytes()).hexdigest() == head.name


@pytest.mark.slow
def test_the_list_of_releases_is_bounded_and_keeps_what_a_channel_has(site: Site) -> None:
    site.publish(1, channel="pinned", patches_from=0)
    for version in range(2, LISTED + 4):
        site.publish(version, patches_from=int(version > LISTED + 1))  # patches take the longest
    releases = Repository(SiteFolder(site.site), KeyFolder(site.keys)).role("household").releases()
    newest = LISTED + 3
    assert list(releases) == [*range(newest, newest - LISTED, -1), 1]
    assert [version for version, release in releases.items() if release.target.patches] == [newest]
    with site.served() as url:
        view = site.client(url).refresh()
        assert view.newest("household", "pinned") == 1
        assert missing_contents(site.site, view.release("household", 1)) == []


def test_a_second_publisher_waits_and_gives_up_with_a_clear_line(site: Site) -> None:
    second = SiteFolder(site.site).locked(limit_s=0.2)
    with SiteFolder(site.site).locked(), pytest.raises(PeerError, match="another publisher"):
        second.__enter__()


def test_leftovers_of_a_killed_publisher_are_removed_by_the_next(site: Site) -> None:
    leftovers = [
        site.site / ".work" / "patch",
        site.site / "content" / ".abc.xyz.tmp",
        site.site / "metadata" / ".t.tmp",
    ]
    for leftover in leftovers:
        leftover.parent.mkdir(exist_ok=True)
        leftover.write_bytes(b"half")
    site.publish(1)
    assert [path for path in leftovers if path.exists()] == []
