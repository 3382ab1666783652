"""Slots on a real folder: what is written, in which order, and what a restart makes of it."""

import errno
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from agent.updates.lifecycle import Failed, ProbationPassed, Started, TrialBegun, TrialPassed
from agent.updates.record import Slot
from agent.updates.slots import Slots, open_slots, read_record, slot_problem
from agent.updates.state_machine import TransitionError
from contract.errors import ConfigError, InputError, ReleaseError, StorageError
from tests.devices import make_release, sources


def put(slots: Slots, folder: Path, version: int) -> Slot:
    """Materialise and seal a tiny release in the idle slot."""
    release = make_release(folder, version)
    slot = slots.materialise(release, sources(folder, release))
    slots.seal(slot, release)
    return slot


def commit(slots: Slots, folder: Path, version: int) -> Slot:
    """Take a tiny release all the way."""
    slot = put(slots, folder, version)
    for event in (TrialBegun(3, hot=True), TrialPassed(), ProbationPassed()):
        slots.apply(event)
    return slot


def test_a_release_is_in_the_idle_slot_with_every_digest(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    assert commit(slots, tmp_path, 1) is Slot.A
    assert commit(slots, tmp_path, 2) is Slot.B
    assert [slots.problem(slot) for slot in Slot] == [None, None]
    assert Slots(tmp_path / "data", "household").record == slots.record


def test_a_card_that_turned_read_only_still_gives_the_committed_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slots(tmp_path / "data", "household") as slots:
        commit(slots, tmp_path, 1)
    as_usual = Path.open

    def read_only(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if set(mode) & set("wa+x"):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return as_usual(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", read_only)
    with open_slots(tmp_path / "data", "household") as slots:
        assert slots.record.running is Slot.A
        assert slots.check() == []
        with pytest.raises(InputError, match="already runs"), open_slots(tmp_path / "data", "household"):
            pass
    with pytest.raises(StorageError, match="Read-only"), open_slots(tmp_path / "other", "household"):
        pass


def test_the_active_slot_is_never_written(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in slots.folder(Slot.A).iterdir()}
    put(slots, tmp_path, 2)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in slots.folder(Slot.A).iterdir()} == before


def test_slots_share_no_blocks(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    put(slots, tmp_path, 2)
    names = [path for slot in Slot for path in slots.folder(slot).iterdir()]
    assert len({path.stat().st_ino for path in names}) == len(names) == 8


def test_a_file_that_is_in_place_already_is_not_written_again(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    slot = put(slots, tmp_path, 1)
    before = (slots.folder(slot) / "backbone.tflite").stat().st_mtime_ns
    put(slots, tmp_path, 2)
    assert (slots.folder(slot) / "backbone.tflite").stat().st_mtime_ns == before


def test_while_a_slot_is_written_it_counts_for_nothing(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    commit(slots, tmp_path, 2)
    release = make_release(tmp_path, 3)
    broken = sources(tmp_path, release) | {"head.tflite": tmp_path / "1" / "head.tflite"}
    with pytest.raises(InputError, match="head.tflite"):
        slots.materialise(release, broken)
    record = Slots(tmp_path / "data", "household").record
    assert (record.running, record.a, record.fallback) == (Slot.B, None, None)


def test_both_slots_are_in_use_during_a_trial(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    put(slots, tmp_path, 2)
    slots.apply(TrialBegun(3, hot=True))
    with pytest.raises(ReleaseError, match="trial"):
        put(slots, tmp_path, 3)


def test_what_the_disk_did_not_keep_is_not_sealed(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    release = make_release(tmp_path, 1)
    slot = slots.materialise(release, sources(tmp_path, release))
    (slots.folder(slot) / "head.tflite").write_bytes(b"\0" * 24_580)
    with pytest.raises(StorageError, match="did not keep"):
        slots.seal(slot, release)
    assert slots.record.held(slot) is None


def test_a_bit_that_turned_in_a_slot_is_found_at_the_start(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    commit(slots, tmp_path, 2)
    head = slots.folder(Slot.B) / "head.tflite"
    data = bytearray(head.read_bytes())
    data[1000] ^= 1
    head.write_bytes(data)
    again = Slots(tmp_path / "data", "household")
    problems = again.check()
    assert len(problems) == 1
    assert "head.tflite" in problems[0]
    assert (again.record.running, again.record.b, again.record.bad) == (Slot.A, None, ())


@pytest.mark.parametrize("garbage", [b"", b"{", b"null", b'{"schema": 1}', b"\xff" * 100, b'{"schema": 99}'])
def test_a_damaged_state_file_is_rebuilt_from_the_slots(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    commit(slots, tmp_path, 2)
    (tmp_path / "data" / "state.json").write_bytes(garbage)
    record = Slots(tmp_path / "data", "household").record
    assert "state.rebuilt" in caplog.text
    assert (record.active, record.running) == (Slot.A, Slot.B)
    assert Slots(tmp_path / "data", "household").record == record


def test_a_lost_state_file_never_brings_back_an_incomplete_slot(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    commit(slots, tmp_path, 2)
    (slots.folder(Slot.B) / "head.tflite").unlink()
    (tmp_path / "data" / "state.json").unlink()
    record = Slots(tmp_path / "data", "household").record
    assert (record.running, record.b) == (Slot.A, None)


def test_a_data_folder_belongs_to_one_model(tmp_path: Path) -> None:
    commit(Slots(tmp_path / "data", "household"), tmp_path, 1)
    with pytest.raises(ConfigError, match="household"):
        Slots(tmp_path / "data", "garden")


@pytest.mark.slow
def test_a_second_agent_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with open_slots(tmp_path / "data", "household"):
        child = context.Process(target=_open_and_leave, args=(tmp_path / "data",))
        child.start()
        child.join(30)
        assert child.exitcode == 3
    with open_slots(tmp_path / "data", "household"):
        pass


def _open_and_leave(data: Path) -> None:
    try:
        with open_slots(data, "household"):
            pass
    except InputError as error:
        raise SystemExit(3 if "already runs" in str(error) else 4) from error


def test_a_full_disk_leaves_the_record_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    before = slots.record
    with monkeypatch.context() as patch:
        patch.setattr("agent.updates.slots.atomic_write", _disk_is_full)
        release = make_release(tmp_path, 2)
        with pytest.raises(StorageError, match="disk is full"):
            slots.materialise(release, sources(tmp_path, release))
    assert slots.record == before == read_record(tmp_path / "data")


def test_a_model_that_fails_is_left_even_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    put(slots, tmp_path, 2)
    slots.apply(TrialBegun(3, hot=True))
    with monkeypatch.context() as patch:
        patch.setattr("agent.updates.slots.atomic_write", _disk_is_full)
        assert slots.settle(Failed("x")).record.running is Slot.A
    on_disk = read_record(tmp_path / "data")
    assert on_disk is not None
    assert on_disk.trial is not None
    slots.flush()
    assert read_record(tmp_path / "data") == slots.record


def _disk_is_full(*arguments: object) -> None:
    raise OSError(28, "No space left on device")


def test_an_attempt_is_on_the_disk_before_the_model_is_loaded(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    put(slots, tmp_path, 1)
    slots.apply(TrialBegun(3, hot=False))
    slots.apply(Started())
    state = json.loads((tmp_path / "data" / "state.json").read_bytes())
    assert state["trial"]["attempts_left"] == 2


def test_events_that_are_not_allowed_change_nothing_on_the_disk(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    before = (tmp_path / "data" / "state.json").read_bytes()
    with pytest.raises(TransitionError):
        slots.apply(TrialPassed())
    assert (tmp_path / "data" / "state.json").read_bytes() == before


def test_a_slot_that_holds_another_release_than_recorded_is_a_problem(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "data", "household")
    commit(slots, tmp_path, 1)
    held = slots.record.a
    assert held is not None
    for path in (make_release(tmp_path, 5), tmp_path / "5")[1].iterdir():
        (slots.folder(Slot.A) / path.name).write_bytes(path.read_bytes())
    assert "release 5" in str(slot_problem(tmp_path / "data", Slot.A, held))
