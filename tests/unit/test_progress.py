"""What is said of an update: versions survive a restart, failures end, nothing is carried over."""

from pathlib import Path
from typing import Any

import pytest

from agent.updates.progress import Progress
from contract.errors import PeerError, StorageError, TrustError
from contract.messages import UpdateState, UpdateStatus


class Told(list[UpdateStatus]):
    """What was told, in order."""

    @property
    def short(self) -> list[tuple[str, Any, Any]]:
        return [(status.state, status.before, status.after) for status in self]


@pytest.fixture
def told() -> Told:
    """It."""
    return Told()


def test_a_trial_that_ends_after_a_restart_is_told_with_its_versions(tmp_path: Path, told: Told) -> None:
    before = Progress(tmp_path, told.append)
    before.begin()
    before.change(UpdateState.PLANNED, before=1, after=2)
    with before.timed("download"):
        pass
    before.change(UpdateState.TRIAL, received=99)
    after = Progress(tmp_path, told.append)
    after.change(UpdateState.ROLLED_BACK, error="it crashed")
    assert told[-1] == UpdateStatus(UpdateState.ROLLED_BACK, 1, 2, 99, {"download": 0}, "it crashed")


def test_a_new_update_carries_nothing_over(tmp_path: Path, told: Told) -> None:
    progress = Progress(tmp_path, told.append)
    progress.change(UpdateState.COMMITTED, before=1, after=2, received=5)
    progress.begin()
    progress.failed(TrustError("not signed"))
    assert told.short[-1] == ("failed", None, None)


@pytest.mark.parametrize(
    ("error", "heard"), [(PeerError("away"), 0), (TrustError("not signed"), 1), (StorageError("full"), 1)]
)
def test_only_a_relay_that_is_away_is_not_told(tmp_path: Path, told: Told, error: Any, heard: int) -> None:
    progress = Progress(tmp_path, told.append)
    progress.begin()
    progress.failed(error)
    assert len(told) == heard


def test_an_error_that_is_no_utf8_is_told_and_kept(tmp_path: Path, told: Told) -> None:
    Progress(tmp_path, told.append).change(UpdateState.FAILED, error="/data/fr\udcfc: the disk is full")
    assert told[0]["error"] == "/data/fr?: the disk is full"


def test_a_relay_that_goes_away_in_a_download_is_told(tmp_path: Path, told: Told) -> None:
    progress = Progress(tmp_path, told.append)
    progress.begin()
    progress.change(UpdateState.PLANNED, before=1, after=2)
    progress.failed(PeerError("away"))
    assert told.short == [("planned", 1, 2), ("failed", 1, 2)]


def test_a_failure_that_is_over_is_not_left_standing(tmp_path: Path, told: Told) -> None:
    progress = Progress(tmp_path, told.append)
    progress.change(UpdateState.COMMITTED, before=1, after=2)
    progress.begin()
    progress.failed(TrustError("not signed"))
    progress.begin()
    progress.recovered()
    progress.begin()
    progress.recovered()
    assert told.short == [("committed", 1, 2), ("failed", None, None), ("committed", 1, 2)]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"state":"flying"}', b'{"state":"trial","from":"x","to":2}'])
def test_a_damaged_record_of_the_last_update_is_none(tmp_path: Path, told: Told, data: bytes) -> None:
    (tmp_path / "last_update.json").write_bytes(data)
    progress = Progress(tmp_path, told.append)
    progress.change(UpdateState.TRIAL)
    assert told.short == [("trial", None, None)]
