"""The truth about real bundles: evaluate from the command line, the gate of publishing, pictures to a release."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest

from cloud_tools.datasets.dataset import load_dataset
from cloud_tools.datasets.from_folder import import_folder
from cloud_tools.datasets.splits import TEST
from cloud_tools.publishing.publish import Order, Outcome, publish
from contract.errors import InputError
from contract.files import atomic_write
from contract.manifest import NAME, load_bundle
from tests.sites import Site, cloud_tools
from tests.training_fixtures import SIXTH, train_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
START = dt.datetime(2026, 5, 1, 9, 0, tzinfo=dt.UTC)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).create()


def order(site: Site, bundle: Path, **options: object) -> Order:
    return Order(bundle=bundle, site=site.site, keys=site.keys, **options)  # type: ignore[arg-type]


def swapped(bundle: Path, out: Path) -> Path:
    """Return a copy of a release in which two people have each other's name; what it says of itself stays."""
    shutil.copytree(bundle, out)
    body = json.loads((out / NAME).read_text())
    body["labels"][:2] = body["labels"][1::-1]
    body["version"] += 1
    atomic_write(out / NAME, json.dumps(body).encode())
    return out


def test_evaluate_says_by_how_much_a_random_split_flatters(
    bundle_two: Path, vtest_dataset_six: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    done = cloud_tools("evaluate", bundle_two, vtest_dataset_six, "--json", "--html", page, limit_s=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    time, random = found["splits"]["time"], found["splits"]["random"]
    assert time["crops"] == random["crops"] > 250
    assert random["accuracy"] - time["accuracy"] > 0.03
    assert set(random["per_person"]) == set(found["per_person"])
    assert 0 < found["confidence"]["ece"] < 0.15
    assert sum(row["count"] for row in found["confidence"]["bins"]) == time["crops"]
    wrong = sum(
        n for who, row in found["confusion"].items() if who != "unknown" for said, n in row.items() if who != said
    )
    assert found["mistakes_in_all"] == wrong > 0
    assert page.read_text().count("data:image/jpeg;base64,") == len(found["mistakes"] + found["strangers_named"])


def test_a_release_carries_what_its_successor_is_judged_by(bundle_one: Path, bundle_two: Path) -> None:
    one, two = (load_bundle(bundle).metrics["per_person"] for bundle in (bundle_one, bundle_two))
    assert set(two) - set(one) == {SIXTH}
    assert {name: one[name]["held_out"] for name in one} == {name: two[name]["held_out"] for name in one}
    assert len({part["held_out"] for part in two.values()}) == 6


def test_publish_measures_both_releases_on_a_held_out_set_whatever_they_say_of_themselves(
    bundle_one: Path, vtest_dataset_five: Path, site: Site, tmp_path: Path
) -> None:
    publish(order(site, bundle_one), clock=site.clock)
    worse = swapped(bundle_one, tmp_path / "swapped")
    first, second = load_bundle(bundle_one).labels[:2]
    with pytest.raises(InputError, match="is worse than release 1, which stable has") as refused:
        publish(order(site, worse, held_out=vtest_dataset_five), clock=site.clock)
    assert f"{first} " in str(refused.value)
    assert f"{second} " in str(refused.value)
    assert not (site.site / ".work").exists()
    accepted = order(site, worse, held_out=vtest_dataset_five, accept_regression=True)
    assert publish(accepted, clock=site.clock).outcome is Outcome.NEW


def test_forty_pictures_a_person_in_folders_become_a_release(
    vtest_dataset_six: Path, weights_file: Path, tmp_path: Path
) -> None:
    """Every fourth crop of two people, as photographs whose names say when they were taken."""
    source = load_dataset(vtest_dataset_six)
    for person in source.people[:2]:
        mine = [crop for crop in source.crops if crop.person == person]
        folder = tmp_path / "pictures" / person
        folder.mkdir(parents=True)
        for crop in mine[:: len(mine) // 40][:40]:
            moment = START + dt.timedelta(seconds=crop.time_s)
            name = f"IMG_{moment:%Y%m%d_%H%M%S}{moment.microsecond // 1000:03d}.png"
            shutil.copyfile(source.folder / crop.file, folder / name)
    made = import_folder(tmp_path / "pictures", tmp_path / "dataset")
    assert made.dataset.people == source.people[:2]
    assert made.dataset.source["times_from"] == {"name": 80}
    bundle = train_bundle(made.dataset.folder, tmp_path / "bundle", weights=str(weights_file))
    metrics = load_bundle(bundle).metrics
    assert metrics["crops"] == len(made.dataset.side(TEST)) >= 20
    assert metrics["accuracy"] >= 0.85
