"""kill -9 of any program at any moment of an update: it ends at the new release all the same, file by file."""

import dataclasses
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.manifest import NAME, load_bundle
from demo.house import House, HouseSettings
from demo.programs import console_script, program_environment
from demo.story import check_slot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
POINTS = 12  # for each broker: 24 together
VICTIMS = ("porch", "relay", "publisher", "broker")
LIMIT_S = 60.0


@pytest.fixture(params=["iotcore", "mosquitto"])
def house(request: pytest.FixtureRequest, tmp_path: Path, sample_video: Path) -> Iterator[House]:
    settings = HouseSettings(
        video=sample_video,
        devices=("porch",),
        broker=request.param,
        # Finding people costs a detector's time; what moves is found at any pace.
        pace=1.0 if request.param == "iotcore" else 2.0,
        poll_s=3.0,
        trial_crops=5,
        trial_s=1.0,
        probation_s=0.5,
    )
    with House(tmp_path / "house", settings) as built:
        built.open()
        built.start_agents()
        yield built


def renumber(bundle: Path, house: House, version: int) -> Path:
    """Make a release ``version`` with the files of ``bundle``, with Mosquitto without a detector as older ones."""
    target = house.folder / f"r{version}"
    target.mkdir()
    manifest = dataclasses.replace(load_bundle(bundle), version=version)
    if house.settings.broker == "mosquitto":
        manifest = dataclasses.replace(manifest, detector=None)
    for name in manifest.files():
        (target / name).hardlink_to(bundle / name)
    (target / NAME).write_bytes(manifest.to_bytes())
    return target


def publish_until_done(house: House, bundle: Path, kill_after_s: float | None) -> None:
    """Publish as an engineer would: when the command is killed, run it again."""
    command = [console_script("cloud_tools"), *house.publish_command(bundle)]
    for attempt in range(5):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=program_environment()
        )
        if attempt == 0 and kill_after_s is not None:
            try:
                process.wait(kill_after_s)
            except subprocess.TimeoutExpired:
                process.kill()
        _, error = process.communicate()
        if process.returncode == 0:
            return
        assert process.returncode in (-signal.SIGKILL, 1), error  # 1: the broker was away, the notice failed
        time.sleep(0.3)
    raise AssertionError(f"publish did not succeed in 5 attempts: {error.decode()}")


def kill(house: House, victim: str) -> None:
    if victim == "broker":
        assert house.broker is not None
        house.broker.kill()
        house.broker.start()
    else:
        house.programs[victim].kill()


def test_an_update_survives_the_kill_of_any_program(house: House, bundle_one: Path, bundle_two: Path) -> None:
    chance = random.Random(house.settings.broker)
    bundles = {1: renumber(bundle_one, house, 1), 2: renumber(bundle_two, house, 2)}
    publish_until_done(house, bundles[1], None)
    house.wait_committed("porch", 1, LIMIT_S)
    begin = time.monotonic()
    publish_until_done(house, bundles[2], None)
    house.wait_committed("porch", 2, LIMIT_S)
    window_s = time.monotonic() - begin  # an update that nobody disturbs

    for point in range(POINTS):
        version, victim = point + 3, VICTIMS[point % len(VICTIMS)]
        bundles[version] = renumber(bundle_one if version % 2 else bundle_two, house, version)
        moment_s = chance.uniform(0, window_s)
        if victim == "publisher":
            publish_until_done(house, bundles[version], min(moment_s, 1.5))
        else:
            begin = time.monotonic()
            publish = subprocess.Popen(
                [console_script("cloud_tools"), *house.publish_command(bundles[version])],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=program_environment(),
            )
            house.pause(begin + moment_s - time.monotonic())
            kill(house, victim)
            if publish.wait() != 0:
                publish_until_done(house, bundles[version], None)
        house.wait_committed("porch", version, LIMIT_S)
        for slot in "ab":
            checked = check_slot(house.folder / "porch" / "slots" / slot, bundles, "porch")
            assert [item for item in checked if not item["same"]] == [], (
                f"point {point}: {victim} at {moment_s:.2f} s"
            )
