"""A site restored from an older copy never signs what devices have seen already; withdrawing a release."""

import datetime as dt
import shutil
from pathlib import Path

import pytest

from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.publish import Order, Outcome, publish
from cloud_tools.publishing.repository import Repository, utc_now
from cloud_tools.publishing.site_folder import SiteFolder
from cloud_tools.publishing.withdraw import withdraw
from contract.errors import InputError, TrustError
from tests.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path, now=utc_now() - dt.timedelta(hours=2)).create()
    site.publish(1, patches_from=0)
    return site


def test_a_site_restored_from_any_older_copy_is_trusted_by_a_device_that_saw_the_newer_one(site: Site) -> None:
    saved = shutil.copytree(site.site, site.folder / "saved")
    for minute in range(3):
        site.now += dt.timedelta(minutes=minute)
        site.publish(2 + minute, patches_from=0)
    with site.served() as url:
        device = site.client(url)
        assert device.refresh().newest("household", "stable") == 4
        shutil.rmtree(site.site)
        shutil.copytree(saved, site.site)
        site.now += dt.timedelta(minutes=1)
        site.publish(5, patches_from=0)
        assert device.refresh().newest("household", "stable") == 5


def test_a_restored_site_is_trusted_again_at_once_when_all_of_it_is_signed_anew(site: Site) -> None:
    saved = shutil.copytree(site.site, site.folder / "saved")
    site.now += dt.timedelta(minutes=1)
    site.publish(2, patches_from=0)
    with site.served() as url:
        device = site.client(url)
        device.refresh()
        shutil.rmtree(site.site)
        shutil.copytree(saved, site.site)
        site.now += dt.timedelta(minutes=1)
        with pytest.raises(TrustError):
            device.refresh()
        assert repository_of(site).refresh(everything=True) == ["household", "snapshot", "timestamp"]
        assert device.refresh().newest("household", "stable") == 1


def test_metadata_signed_twice_in_a_second_still_grows(site: Site) -> None:
    versions = []
    for _ in range(3):
        site.refresh()
        versions.append(repository_of(site).timestamp_version)
    assert versions == sorted(set(versions))


def repository_of(site: Site) -> Repository:
    return Repository(SiteFolder(site.site), KeyFolder(site.keys), site.clock)


def test_a_version_that_was_out_before_a_restore_is_never_given_to_something_else(site: Site) -> None:
    saved = shutil.copytree(site.site, site.folder / "saved")
    lost = site.publish(2, patches_from=0)
    shutil.rmtree(site.site)
    shutil.copytree(saved, site.site)
    known = {1: "", 2: lost.digest}

    def order(version: int, seed: int) -> Order:
        bundle = site.bundle(version, seed=seed)
        return Order(bundle=bundle, site=site.site, keys=site.keys, patches_from=0, known=known)

    with pytest.raises(InputError, match="not newer than 2"):
        publish(order(2, seed=9), clock=site.clock)
    assert publish(order(2, seed=2), clock=site.clock).outcome is Outcome.NEW
    assert publish(order(3, seed=3), clock=site.clock).channel_version == 3


def test_a_withdrawn_release_is_signed_as_such_once_and_is_never_published_again(site: Site) -> None:
    site.publish(2, patches_from=0)
    assert withdraw(site.site, site.keys, "household", 2, site.clock)
    before = repository_of(site).timestamp_version
    assert not withdraw(site.site, site.keys, "household", 2, site.clock)
    assert repository_of(site).timestamp_version == before
    with site.served() as url:
        view = site.client(url).refresh()
        assert view.release("household", 2).target.withdrawn
        assert not view.release("household", 1).target.withdrawn
    with pytest.raises(InputError, match="was withdrawn"):
        site.publish(2, patches_from=0)


def test_withdrawing_what_is_not_there_says_so(site: Site) -> None:
    with pytest.raises(InputError, match="no release 7 of household is listed"):
        withdraw(site.site, site.keys, "household", 7, site.clock)
