"""What is said of an update: versions survive a restart, failures end, nothing is carried over."""

from pathlib import Path
from typing import Any

import pytest

from agent.updates.lifecycle import Outcome, Transition
from agent.updates.progress import Progress, last_update
from agent.updates.record import Record
from contract.errors import PeerError, StorageError, TrustError
from contract.messages import ERROR_MOST, UpdateState, UpdateStatus


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


def test_a_trial_that_ends_while_the_next_look_begins_is_told_with_its_versions(tmp_path: Path, told: Told) -> None:
    progress = Progress(tmp_path, told.append)
    with progress.timed("download"):
        pass
    progress.change(UpdateState.TRIAL, before=1, after=2, received=9)
    progress.begin()
    progress.moved(Transition(Record("household"), Outcome.COMMITTED))
    assert told[-1] == UpdateStatus(UpdateState.COMMITTED, 1, 2, 9, {"download": 0})
    progress.recovered()
    progress.change(UpdateState.PLANNED, before=2, after=3)
    assert told.short[-1] == ("planned", 2, 3)


def test_an_error_that_names_a_file_in_no_encoding_is_told_and_kept(tmp_path: Path, told: Told) -> None:
    Progress(tmp_path, told.append).change(UpdateState.REJECTED, error="/data/\udcff: read-only" + "x" * 999)
    kept = last_update(tmp_path)
    assert kept is not None
    assert kept["error"] == told[-1].error
    assert str(told[-1].error).startswith("/data/?: read-only")
    assert len(str(told[-1].error)) == ERROR_MOST


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"state":"flying"}', b'{"state":"trial","from":"x","to":2}'])
def test_a_damaged_record_of_the_last_update_is_none(tmp_path: Path, told: Told, data: bytes) -> None:
    (tmp_path / "last_update.json").write_bytes(data)
    progress = Progress(tmp_path, told.append)
    progress.change(UpdateState.TRIAL)
    assert told.short == [("trial", None, None)]
