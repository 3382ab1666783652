"""agent.vision.sightings: payload and log."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.vision.sightings import LOG_NAME, SightingLog, utc_text
from contract.messages import Sighting

SIGHTING = Sighting(
    device="porch",
    visit="5eed0001-7",
    track=7,
    label="anna",
    confidence=0.912345,
    version=3,
    crops=5,
    frame=118,
    box=(10, 20, 30, 90),
    picture=(640, 480),
    first_frame=100,
    last_frame=120,
    start=utc_text(0.0),
    end=utc_text(1.5),
)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_payload_is_what_mqtt_carries_and_holds_no_picture() -> None:
    data = SIGHTING.encode()
    fields = json.loads(data)
    assert data.startswith(b'{"v":1,"device":"porch"')
    assert len(data) < 500
    assert fields["box"] == [10, 20, 30, 90]
    assert (fields["label"], fields["confidence"], fields["version"]) == ("anna", 0.9123, 3)
    assert (fields["start"], fields["end"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.500Z")


def test_the_log_is_one_object_a_line_and_survives_a_restart(tmp_path: Path) -> None:
    SightingLog(tmp_path).write(SIGHTING)
    SightingLog(tmp_path).write(SIGHTING)
    assert [line["track"] for line in lines(tmp_path / LOG_NAME)] == [7, 7]


def test_the_log_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    log = SightingLog(tmp_path, most_bytes=1000, kept=2)
    for number in range(40):
        log.write(replace(SIGHTING, track=number))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [LOG_NAME, f"{LOG_NAME}.1", f"{LOG_NAME}.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    kept = [line["track"] for name in reversed(files) for line in lines(tmp_path / name)]
    assert kept == list(range(40 - len(kept), 40))


@pytest.mark.parametrize("half", [b'{"v":1,"dev', b"\x00\x00\x00"])
def test_half_a_line_of_a_power_cut_does_not_swallow_the_next(tmp_path: Path, half: bytes) -> None:
    (tmp_path / LOG_NAME).write_bytes(half)
    SightingLog(tmp_path).write(SIGHTING)
    assert json.loads((tmp_path / LOG_NAME).read_bytes().splitlines()[1])["track"] == 7
