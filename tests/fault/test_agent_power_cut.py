"""Power cuts before every single operation on the disk during an update: the device always runs, and gets there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.updates.lifecycle import Started
from agent.updates.record import Slot
from agent.updates.slots import Slots, read_record, slot_problem
from contract.trust import VerifiedRelease
from tests.bundles import frozen_bytes
from tests.devices import BundleSite, Device
from tests.power import Disk
from tests.site_server import SiteServer, serving

MOST_OPERATIONS = 500


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, BundleSite, SiteServer, VerifiedRelease]]:
    """A device that committed release 1, and a site that has release 2."""
    folder = tmp_path_factory.mktemp("scene")
    site = BundleSite(folder / "publisher")
    site.publish(1)
    with serving(site.folder / "site") as server:
        Device(folder / "device", site, server.url).install()
        # One file comes as a patch, one whole, one is reused.
        yield folder, site, server, site.publish(2, patched_from=1, backbone=frozen_bytes(60_000, "another"))


def live(data: Path, site: BundleSite, server: SiteServer) -> Device:
    """One life of the device: start, update if there is one, pass the trial."""
    device = Device(data, site, server.url)
    device.slots.check()
    device.slots.apply(Started())
    if device.slots.record.trial is None:
        device.update()
    if device.slots.record.trial is not None:
        device.commit()
    return device


def assert_it_runs(data: Path) -> None:
    """Assert that the device, before anything else happens, knows its state and has a complete release to run."""
    assert read_record(data) is not None
    slots = Slots(data, "household")
    running = slots.record.running
    assert running is not None
    held = slots.record.held(running)
    assert held is not None
    assert slot_problem(data, running, held) is None


def count_operations(scene: tuple[Path, BundleSite, SiteServer, VerifiedRelease], data: Path) -> int:
    """Return how many operations an update that nothing disturbs makes."""
    folder, site, server, _ = scene
    shutil.copytree(folder / "device", data, symlinks=True)
    disk = Disk(data)
    with disk.watching():
        live(data, site, server)
    return disk.count


@pytest.mark.parametrize("fate", ["keep", "drop", 1])
def test_a_power_cut_before_any_operation_leaves_a_device_that_runs_and_gets_there(
    scene: tuple[Path, BundleSite, SiteServer, VerifiedRelease], tmp_path: Path, fate: str | int
) -> None:
    folder, site, server, release = scene
    operations = count_operations(scene, tmp_path / "undisturbed")
    assert 20 < operations < MOST_OPERATIONS
    for number in range(operations):
        data = tmp_path / f"cut-{number}"
        shutil.copytree(folder / "device", data, symlinks=True)
        disk = Disk(data, cut_at=number)
        with disk.watching():
            live(data, site, server)
        assert disk.cut, number
        disk.come_back(fate)
        assert_it_runs(data)
        device = live(data, site, server)
        assert device.version == 2, number
        assert device.slots.record.trial is None
        assert device.slots.record.bad == ()
        assert device.holds(Slot.B, release), number
        shutil.rmtree(data)


def test_a_second_cut_during_the_repair_is_survived_too(
    scene: tuple[Path, BundleSite, SiteServer, VerifiedRelease], tmp_path: Path
) -> None:
    folder, site, server, release = scene
    operations = count_operations(scene, tmp_path / "undisturbed")
    for number in range(3, operations, 7):
        data = tmp_path / f"cut-{number}"
        shutil.copytree(folder / "device", data, symlinks=True)
        for again, cut_at in enumerate((number, number // 2, number // 3)):
            disk = Disk(data, cut_at=cut_at)
            with disk.watching():
                live(data, site, server)
            disk.come_back("drop" if again % 2 else again)
            assert_it_runs(data)
        device = live(data, site, server)
        if device.slots.record.trial is None and device.version != 2:
            assert device.slots.record.refuses(2) is not None  # three starts in a trial are all it gets
        else:
            assert device.holds(Slot.B, release), number
        shutil.rmtree(data)
