"""A disk that is full costs lines of the sighting log and one event; the camera goes on."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from agent.vision.sightings import LOG_NAME, SightingLog
from tests.unit.test_sightings import SIGHTING, lines


def test_a_full_disk_is_told_once_and_writing_goes_on_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = SightingLog(tmp_path)
    (tmp_path / LOG_NAME).symlink_to("/dev/full")
    for _ in range(5):
        log.write(SIGHTING)
    assert [record.message.split()[0] for record in caplog.records] == ["sightings.lost"]
    assert "the disk is full" in caplog.text
    assert log.lost == 5
    (tmp_path / LOG_NAME).unlink()
    log.write(SIGHTING)
    assert len(lines(tmp_path / LOG_NAME)) == 1


def test_a_line_that_fits_only_in_part_leaves_no_half_line(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from agent.vision.sightings import SightingLog
from tests.unit.test_sightings import SIGHTING
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = SightingLog(Path(sys.argv[1]))
for _ in range(10):
    log.write(SIGHTING)
print(log.lost)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    written = lines(tmp_path / LOG_NAME)
    assert 0 < len(written) < 10
    assert int(done.stdout) == 10 - len(written)


def test_a_folder_that_vanished_costs_lines_and_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        SightingLog(tmp_path / "gone").write(SIGHTING)
    assert "sightings.lost" in caplog.text
