"""The safe order against a signed site over real HTTP: what is fetched, what is refused, what is told."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import modelpatch
from agent.updates.lifecycle import Failed, Started
from agent.updates.plan import Reason
from agent.updates.record import Slot
from agent.updates.selftest import SelfTestResult
from contract.errors import PeerError, ReleaseError, StorageError, TrustError
from contract.release import content_path
from tests.devices import BundleSite, Device, make_release
from tests.site_server import SiteServer, serving


@pytest.fixture
def site(tmp_path: Path) -> BundleSite:
    """A site with release 1."""
    site = BundleSite(tmp_path / "publisher")
    site.publish(1)
    return site


@pytest.fixture
def server(site: BundleSite) -> Iterator[SiteServer]:
    """It, served."""
    with serving(site.folder / "site") as running:
        yield running


@pytest.fixture
def device(tmp_path: Path, site: BundleSite, server: SiteServer) -> Device:
    """A device that runs release 1."""
    device = Device(tmp_path / "device", site, server.url)
    device.install()
    return device


def contents(server: SiteServer) -> int:
    """Return how many requests for contents there were."""
    return sum(count for path, count in server.requests.items() if path.startswith("content/"))


def test_an_update_fetches_the_patch_alone_and_gives_the_signed_bytes(
    device: Device, site: BundleSite, server: SiteServer
) -> None:
    release = site.publish(2, patched_from=1)
    patch = release_patch(site, 2)
    server.requests.clear()
    assert device.update() is None
    fetched = {path for path in server.requests if path.startswith("content/")}
    assert fetched == {content_path(patch)}
    assert device.holds(Slot.B, release)
    assert (device.swapped, device.version) == ([Slot.A, Slot.B], 2)


def release_patch(site: BundleSite, version: int) -> str:
    """Return the digest of the one patch of a release."""
    (patch,) = site.targets[version].patches
    return patch.sha256


def test_every_step_is_told_in_order_with_bytes_and_durations(device: Device, site: BundleSite) -> None:
    site.publish(2, patched_from=1)
    device.told.clear()
    device.update()
    states = [status.state for status in device.told]
    assert states == ["planned", "downloading", "materialising", "verifying", "testing", "trial"]
    last = device.told[-1]
    assert (last.before, last.after, last.error) == (1, 2, None)
    assert 0 < last.received < 40_000
    steps = {"refresh", "plan", "download", "patch", "materialise", "verify", "selftest"}
    assert set(last.durations_ms) == steps


def test_a_release_that_runs_costs_metadata_alone(device: Device, server: SiteServer) -> None:
    server.requests.clear()
    refusal = device.update()
    assert refusal is not None
    assert refusal.reason is Reason.CURRENT
    assert list(server.requests) == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_nothing_of_the_downloads_stays_after_an_update(device: Device) -> None:
    assert list((device.data / "downloads").iterdir()) == []


@pytest.mark.parametrize("kind", ["garbage", "another base", "another target", "empty"])
def test_a_patch_that_fails_is_replaced_by_the_whole_file_once(
    device: Device, site: BundleSite, server: SiteServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = [path.joinpath("head.tflite").read_bytes() for path in other_bundles(site.folder)]
    patch = {
        "garbage": b"no patch at all",
        "another base": modelpatch.diff_bytes(other[0], other[1], effort="fast"),
        "another target": modelpatch.diff_bytes(
            (site.folder / "1" / "head.tflite").read_bytes(), other[1], effort="fast"
        ),
        "empty": b"\0",
    }[kind]
    release = site.publish(2, patched_from=1, patch=patch)
    assert device.update() is None
    assert caplog.text.count("update.patch_failed") == 1
    assert device.holds(Slot.B, release)
    assert server.requests[content_path(release.target.files["head.tflite"].sha256)] == 1


def other_bundles(folder: Path) -> list[Path]:
    """Write two bundles that no release is."""
    for version in (91, 92):
        make_release(folder, version)
    return [folder / "91", folder / "92"]


def test_a_failed_self_test_is_remembered_and_never_fetched_again(
    tmp_path: Path, device: Device, site: BundleSite, server: SiteServer
) -> None:
    site.publish(2)

    def fails(folder: Path) -> SelfTestResult:
        raise ReleaseError("self-test: an answer is off by 0.9")

    device.installer.self_test = fails
    with pytest.raises(ReleaseError, match="off by"):
        device.update()
    assert (device.version, device.slots.record.bad[0].version) == (1, 2)
    after_restart = Device(tmp_path / "device", site, server.url)
    server.requests.clear()
    for _ in range(3):
        refusal = after_restart.update()
        assert refusal is not None
        assert refusal.reason is Reason.BAD
    assert not [path for path in server.requests if path.startswith(("content/", "targets/household/2"))]
    assert [status.state for status in after_restart.told] == ["refused"]


def test_a_release_after_a_bad_one_is_installed(device: Device, site: BundleSite) -> None:
    site.publish(2)
    device.update()
    device.slots.apply(Failed("it crashed"))
    assert device.version == 1
    release = site.publish(3, patched_from=1)
    device.install()
    assert device.version == 3
    assert device.holds(Slot.B, release)


def test_nothing_happens_during_a_trial(device: Device, site: BundleSite, server: SiteServer) -> None:
    site.publish(2)
    device.update()
    site.publish(3)
    before = contents(server)
    refusal = device.update()
    assert refusal is not None
    assert refusal.reason is Reason.BUSY
    assert (contents(server), device.version) == (before, 2)
    device.commit()
    device.install()
    assert device.version == 3


def test_a_withdrawn_release_is_left_alone(device: Device, site: BundleSite, server: SiteServer) -> None:
    site.publish(2)
    site.builder.change(site.targets[2], withdrawn=True)
    before = contents(server)
    refusal = device.update()
    assert refusal is not None
    assert (refusal.reason, contents(server)) == (Reason.WITHDRAWN, before)


def test_a_channel_that_points_back_does_not_bring_an_old_release(device: Device, site: BundleSite) -> None:
    site.publish(2)
    device.install()
    site.builder.point("stable", 1)
    refusal = device.update()
    assert refusal is not None
    assert (refusal.reason, device.version) == (Reason.OLDER, 2)


def test_a_site_signed_with_other_keys_is_not_trusted(tmp_path: Path, device: Device, site: BundleSite) -> None:
    stranger = BundleSite(tmp_path / "stranger")
    stranger.publish(2)
    with serving(stranger.folder / "site") as server:
        fooled = Device(tmp_path / "device", site, server.url)
        with pytest.raises(TrustError, match="not trusted"):
            fooled.update()
        assert (fooled.version, contents(server)) == (1, 0)


def test_a_clock_at_1970_does_not_accept_what_had_expired(
    tmp_path: Path, device: Device, site: BundleSite, server: SiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floor (newest signed time) is the least that "now" can be: old metadata stay expired."""
    ended = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=1)
    site.builder.documents["timestamp"].signed.expires = ended
    site.publish(2)

    class At1970(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "At1970":
            return cls(1970, 1, 2, tzinfo=tz)

    monkeypatch.setattr("contract.trust.dt.datetime", At1970)  # the module's own: python-tuf sees it too
    with pytest.raises(TrustError, match="expired"):
        Device(tmp_path / "device", site, server.url).update()
    assert device.version == 1
    without_floor = Device(tmp_path / "new", site, server.url)
    assert without_floor.update() is None  # the clock alone would have let it pass


def test_a_relay_that_is_down_is_a_peer_error_and_the_next_try_works(
    device: Device, site: BundleSite, server: SiteServer
) -> None:
    site.publish(2)
    server.stop()
    with pytest.raises(PeerError):
        device.update()
    server.start()
    assert device.update() is None


def test_a_file_that_the_relay_changed_is_refused_and_nothing_is_lost(
    device: Device, site: BundleSite, server: SiteServer
) -> None:
    release = site.publish(2)
    entry = release.target.files["head.tflite"]
    server.bodies[content_path(entry.sha256)] = b"x" * entry.size
    with pytest.raises(TrustError, match="not what was signed"):
        device.update()
    assert (device.version, device.slots.record.bad) == (1, ())
    server.bodies.clear()
    assert device.update() is None


def test_a_full_disk_is_refused_before_a_byte_is_fetched(
    device: Device, site: BundleSite, server: SiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish(2)
    before = contents(server)
    with monkeypatch.context() as patch:
        patch.setattr("agent.updates.installer.free_bytes", lambda folder: 1000)
        refusal = device.update()
    assert refusal is not None
    assert (refusal.reason, contents(server)) == (Reason.DISK, before)
    assert device.update() is None


def test_a_disk_that_fills_while_materialising_loses_nothing(
    device: Device, site: BundleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = site.publish(2)
    with monkeypatch.context() as patch:
        patch.setattr("agent.updates.slots.atomic_file", _full)
        with pytest.raises(StorageError, match="disk is full"):
            device.update()
    assert (device.version, device.slots.record.bad, device.slots.problem(Slot.A)) == (1, (), None)
    assert device.update() is None
    assert device.holds(Slot.B, release)


def _full(*arguments: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_lost_slot_is_repaired_from_the_site(
    tmp_path: Path, device: Device, site: BundleSite, server: SiteServer
) -> None:
    head = device.slots.folder(Slot.A) / "head.tflite"
    head.write_bytes(b"\0" * head.stat().st_size)
    again = Device(tmp_path / "device", site, server.url)
    assert len(again.slots.check()) == 1
    assert again.version is None
    again.install()
    assert again.version == 1
    assert again.slots.problem(Slot.A) is None


def test_attempts_that_are_spent_bring_the_old_release_back(
    tmp_path: Path, device: Device, site: BundleSite, server: SiteServer
) -> None:
    site.publish(2, patched_from=1)
    device.update()
    for expected in (2, 2, 1):
        device = Device(tmp_path / "device", site, server.url)
        device.slots.apply(Started())
        assert device.version == expected
    refusal = device.update()
    assert refusal is not None
    assert refusal.reason is Reason.BAD


def test_a_bundle_from_a_folder_is_installed_without_a_site(
    tmp_path: Path, device: Device, server: SiteServer
) -> None:
    release = make_release(tmp_path / "usb", 7)
    server.requests.clear()
    assert device.installer.install(lambda: device.installer.local(tmp_path / "usb" / "7")) is None
    assert device.holds(Slot.B, release)
    assert not server.requests


def test_a_rolled_out_share_leaves_the_others_alone(device: Device, site: BundleSite) -> None:
    target = replace(site.publish(2).target, rollout_seed="s")
    site.builder.change(target, rollout_percent=0)
    refusal = device.update()
    assert refusal is not None
    assert refusal.reason is Reason.ROLLOUT
    site.builder.change(target, rollout_percent=100)
    assert device.update() is None


def test_requests_say_which_device_asks(device: Device, site: BundleSite, server: SiteServer) -> None:
    site.publish(2)
    server.askers.clear()
    assert device.update() is None
    assert server.askers == {(part, "porch") for part in ("content", "metadata", "targets")}
