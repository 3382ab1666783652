"""The main job with real processes, real video, real training: the demo itself, and its claims."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.errors import KinwatchError
from demo.house import House, HouseSettings
from demo.story import SIXTH, check_slot, update_bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DEVICES = ("porch", "garden")


@pytest.fixture(scope="module")
def demo_report(tmp_path_factory: pytest.TempPathFactory, sample_video: Path, weights_file: Path) -> dict[str, Any]:
    """The report of one run of the demo with Mosquitto, as a user starts it."""
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "demo", "--speed", "2", "--broker", "mosquitto", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (out / "report.html").stat().st_size > 50_000
    return dict(json.loads((out / "report.json").read_text()))


def test_an_update_is_at_most_two_percent_of_the_full_model(demo_report: dict) -> None:
    for device in DEVICES:
        kinds = update_bytes(demo_report["traffic"][device]["2"])
        assert kinds["metadata"] > 0
        assert kinds["manifest"] > 0
        assert kinds["content"] > 0
        assert sum(kinds.values()) <= 0.02 * demo_report["full_bytes"]


def test_every_file_in_every_slot_is_that_of_its_signed_release(demo_report: dict) -> None:
    slots = {(item["device"], item["slot"]) for item in demo_report["files"]}
    assert slots == {(device, slot) for device in DEVICES for slot in "ab"}
    assert [item for item in demo_report["files"] if not item["same"]] == []


def test_both_agents_name_the_sixth_person_only_after_the_update(demo_report: dict) -> None:
    before, after = demo_report["sightings"]["1"], demo_report["sightings"]["2"]
    assert SIXTH not in {item["label"] for item in before}
    assert {item["device"] for item in after if item["label"] == SIXTH} == set(DEVICES)


def test_both_broken_releases_are_rejected_or_rolled_back(demo_report: dict) -> None:
    assert {verdict["state"] for verdict in demo_report["verdicts"]["3"].values()} == {"rejected"}
    assert {verdict["state"] for verdict in demo_report["verdicts"]["4"].values()} == {"rolled_back"}
    assert set(demo_report["verdicts"]["4"]) == set(DEVICES)


def test_six_people_are_told_apart_on_the_time_split(demo_report: dict) -> None:
    after = demo_report["evaluations"]["2"]
    assert after["overall"]["accuracy"] >= 0.88
    assert after["overall"]["vote5"] >= after["overall"]["accuracy"]
    assert len(after["per_person"]) == 6
    assert all(part["crops"] >= 50 and part["in_model"] for part in after["per_person"].values())
    assert min(part["accuracy"] for part in after["per_person"].values()) >= 0.6
    assert sum(sum(row.values()) for name, row in after["confusion"].items() if name != "unknown") > 550
    assert after["strangers"]["crops"] > 420


def test_the_sixth_person_costs_under_eight_kilobytes(demo_report: dict) -> None:
    assert {patch["file"] for patch in demo_report["publish"]["2"]["patches"]} == {"head.tflite"}
    for device in DEVICES:
        received = demo_report["traffic"][device]["2"]
        assert received["content"]["requests"] == 1
        assert received["content"]["body_bytes"] + received["manifest"]["body_bytes"] < 8192


@pytest.fixture
def house(tmp_path: Path, sample_video: Path) -> Iterator[House]:
    settings = HouseSettings(video=sample_video, pace=8.0, trial_crops=5, trial_s=5.0, probation_s=1.0)
    with House(tmp_path / "house", settings) as built:
        yield built


def test_the_loop_with_the_embedded_broker(house: House, bundle_one: Path, bundle_two: Path) -> None:
    house.open()
    house.start_agents()
    for version, bundle in ((1, bundle_one), (2, bundle_two)):
        house.publish(bundle)
        for device in DEVICES:
            house.wait_committed(device, version, 60)
    for device in DEVICES:
        for slot in "ab":
            checked = check_slot(house.folder / device / "slots" / slot, {1: bundle_one, 2: bundle_two}, device)
            assert [item for item in checked if not item["same"]] == []


def test_a_relay_that_is_away_delays_an_update_and_no_more(house: House, bundle_one: Path, bundle_two: Path) -> None:
    house.open()
    house.start_agents()
    house.publish(bundle_one)
    for device in DEVICES:
        house.wait_committed(device, 1, 60)
    house.programs.pop("relay").stop()
    house.publish(bundle_two)
    house.start_relay()
    for device in DEVICES:
        house.wait_committed(device, 2, 60)


def test_a_house_that_cannot_start_says_so_in_one_line(house: House, tmp_path: Path) -> None:
    house.settings = HouseSettings(video=tmp_path / "none.avi")
    (house.folder / "keys").write_text("in the way")
    with pytest.raises(KinwatchError) as error:
        house.open()
    assert "keys" in str(error.value)
