"""What verified metadata names, and what of it is fetched beforehand."""

from pathlib import Path

import pytest

from contract.errors import TrustError
from contract.release import content_path
from edge_relay.catalog import Catalog, read_catalog
from edge_relay.prefetch import wanted
from tests.site_builder import SiteBuilder, sha256

FILES = {"backbone.tflite": b"backbone" * 50, "head.tflite": b"head one"}


def catalog_of(site: SiteBuilder, *models: str) -> Catalog:
    return read_catalog({model: [site.documents[model].to_bytes()] for model in models or ("household",)}, ["stable"])


def test_every_object_of_a_release_is_named_with_its_signed_length(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    site.publish(1, FILES, [("head.tflite", sha256(b"base"), b"a patch")], manifest=b"{}")
    catalog = catalog_of(site)
    for data in (*FILES.values(), b"a patch"):
        assert catalog.items[content_path(sha256(data))].size == len(data)
    assert f"targets/household/1/{sha256(b'{}')}.release.json" in catalog.items
    assert catalog.channels == {("household", "stable"): 1}
    assert len(catalog.items) == 5
    for path in catalog.items:
        assert (tmp_path / path).is_file(), "the catalog's paths are those of the site"


def test_objects_of_an_older_metadata_version_stay_known(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    site.publish(1, {"head.tflite": b"one"})
    older = site.documents["household"].to_bytes()
    del site.documents["household"].signed.targets["household/1/release.json"]
    site.publish(2, {"head.tflite": b"two"})
    catalog = read_catalog({"household": [site.documents["household"].to_bytes(), older]}, ["stable"])
    assert catalog.channels == {("household", "stable"): 2}
    assert content_path(sha256(b"one")) in catalog.items


def test_a_role_cannot_name_what_belongs_to_another_model(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path, models=("household", "garden"))
    site.publish(1, {"head.tflite": b"garden"}, model="garden")
    stolen = site.documents["garden"].signed.targets["garden/1/release.json"]
    site.documents["household"].signed.targets["garden/1/release.json"] = stolen
    assert catalog_of(site).items == {}


@pytest.mark.parametrize(
    "custom", [None, {}, {"v": 2}, {"v": 1, "model": "household", "version": 7}, {"v": 1, "model": "other"}]
)
def test_a_wrongly_signed_release_is_left_out_and_the_others_stay(tmp_path: Path, custom: object) -> None:
    site = SiteBuilder(tmp_path)
    site.publish(1, {"head.tflite": b"one"})
    site.publish(2, {"head.tflite": b"two"})
    signed = site.documents["household"].signed.targets["household/2/release.json"]
    good = signed.unrecognized_fields["custom"]
    if isinstance(custom, dict) and "version" in custom:
        custom = {**good, **custom}
    signed.unrecognized_fields["custom"] = custom
    catalog = catalog_of(site)
    assert set(catalog.releases) == {("household", 1)}
    assert content_path(sha256(b"two")) not in catalog.items


def test_newest_metadata_that_cannot_be_read_is_refused_and_a_damaged_older_version_left_out(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    site.publish(1, FILES)
    good = site.documents["household"].to_bytes()
    with pytest.raises(TrustError):
        read_catalog({"household": [b"{}", good]}, ["stable"])
    assert read_catalog({"household": [good, b"{}"]}, ["stable"]).channels == {("household", "stable"): 1}


def test_a_first_release_is_prefetched_whole(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    site.publish(1, FILES)
    catalog = catalog_of(site)
    items = wanted(catalog, catalog.releases["household", 1], 10_000)
    assert {item.size for item in items[1:]} == {len(data) for data in FILES.values()}


def test_of_a_patched_release_only_manifest_and_patches_are_prefetched(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    site.publish(1, FILES)
    patches = [("head.tflite", sha256(b"older"), b"a longer patch"), ("head.tflite", sha256(b"head one"), b"patch")]
    site.publish(2, {**FILES, "head.tflite": b"head two"}, patches)
    catalog = catalog_of(site)
    release = catalog.releases["household", 2]
    items = wanted(catalog, release, 10_000)
    assert [item.sha256 for item in items] == [release.manifest.sha256, sha256(b"patch"), sha256(b"a longer patch")]


def test_a_new_file_without_a_patch_is_prefetched_unless_it_is_large(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    site.publish(1, FILES)
    site.publish(2, {**FILES, "backbone.tflite": b"another backbone"})
    catalog = catalog_of(site)
    release = catalog.releases["household", 2]
    assert sha256(b"another backbone") in {item.sha256 for item in wanted(catalog, release, 10_000)}
    assert [item.sha256 for item in wanted(catalog, release, 5)] == [release.manifest.sha256]


def test_of_a_withdrawn_release_only_the_manifest_is_prefetched(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    target = site.publish(1, FILES)
    site.change(target, withdrawn=True)
    catalog = catalog_of(site)
    release = catalog.releases["household", 1]
    assert wanted(catalog, release, 10_000) == [release.manifest]
