"""Which model runs: the hot swap, proving, and every way of leaving a model that fails; the models are fakes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.runtimes.interpreters import NoRuntimeError
from agent.updates.lifecycle import Outcome, Transition, TrialBegun
from agent.updates.proving import EXERCISE_S, MOST_GAP_S, Proving, TrialSettings
from agent.updates.record import Phase, Slot
from agent.updates.running_model import RunningModel
from agent.updates.slots import Slots
from agent.updates.starts import MOST, StartCount
from agent.watch import Watch
from contract.errors import ReleaseError, StorageError
from tests.devices import make_release, sources

SETTINGS = TrialSettings(attempts=3, crops=4, seconds=3.0, probation_s=2.0)


class FakeModel:
    """A model of one version that counts its runs, and fails when told to."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.runs = 0
        self.fails = False

    def judge(self, image: Any) -> Any:
        """Run once."""
        self.runs += 1
        if self.fails:
            raise ReleaseError("it does not run")
        return np.array([1.0], np.float32), None


class Bench:
    """A watch over fake frames, with real slots and fake models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transitions: list[Transition] = []
        self.models: dict[int, FakeModel] = {}
        self.unloadable: dict[int, ReleaseError] = {}
        self.used: list[int | None] = []
        self.motions: list[bool] = []
        self.crops_a_frame = 0
        self.time_s = 100.0
        self.start()

    def start(self) -> None:
        """Start the program (again)."""
        self.slots = Slots(self.folder / "data", "household")
        self.running = RunningModel(
            self.slots,
            use=self._use,
            load=self._load,
            told=self.transitions.append,
            starts=StartCount(self.folder / "data"),
        )
        self.watch = Watch(
            self.running,
            self._step,
            SETTINGS,
            on_motion=self.motions.append,
            on_metrics=lambda fields: None,
        )
        self.running.start()

    def _use(self, model: Any) -> None:
        self.used.append(model.version if model else None)

    def _load(self, folder: Path) -> Any:
        version = next(
            held.version for slot in Slot if folder.name == slot and (held := self.slots.record.held(slot))
        )
        if version in self.unloadable:
            raise self.unloadable[version]
        self.models[version] = FakeModel(version)
        return self.models[version]

    def _step(self, frame: Any) -> Any:
        model = self.running.model
        crops = self.crops_a_frame if model else 0
        for _ in range(crops):
            assert model is not None
            model.judge(frame.image)
        return SimpleNamespace(motion=crops > 0, crops_classified=crops)

    def offer(self, version: int) -> None:
        """Do what an update does at its end."""
        release = make_release(self.folder, version)
        slot = self.slots.materialise(release, sources(self.folder, release))
        self.slots.seal(slot, release)
        self.slots.apply(TrialBegun(SETTINGS.attempts, hot=True))
        self.running.offer(slot)

    def frames(self, count: int, gap_s: float = 0.1, *, live: bool = True) -> None:
        """Let so many frames come."""
        for _ in range(count):
            self.time_s += gap_s
            self.watch.frame(SimpleNamespace(image=np.zeros((8, 8, 3), np.uint8), time_s=self.time_s, live=live))

    def commit(self, version: int) -> None:
        """Take a release all the way."""
        self.offer(version)
        self.frames(80)
        assert self.version == version
        assert self.slots.record.trial is None

    @property
    def version(self) -> int | None:
        """The version of the model in use."""
        model: Any = self.running.model
        return model.version if model else None

    @property
    def outcomes(self) -> list[Outcome]:
        """What has happened."""
        return [made.outcome for made in self.transitions]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device without any model."""
    return Bench(tmp_path)


def test_without_a_model_the_agent_watches(bench: Bench) -> None:
    bench.frames(5)
    assert (bench.version, bench.used) == (None, [None])


def test_a_model_is_swapped_in_between_two_frames(bench: Bench) -> None:
    bench.offer(1)
    assert bench.version is None
    bench.frames(1)
    assert bench.version == 1


def test_a_trial_passes_by_crops_and_then_by_probation(bench: Bench) -> None:
    bench.crops_a_frame = 1
    bench.offer(1)
    bench.frames(3)
    assert bench.outcomes == []
    bench.frames(1)
    assert bench.outcomes == [Outcome.TRIAL_PASSED]
    bench.frames(19)
    assert bench.outcomes == [Outcome.TRIAL_PASSED]
    bench.frames(3)
    assert bench.outcomes == [Outcome.TRIAL_PASSED, Outcome.COMMITTED]


def test_when_nobody_walks_by_the_model_is_run_at_least_once_a_second(bench: Bench) -> None:
    bench.offer(1)
    bench.frames(31)
    assert bench.outcomes == []
    bench.frames(1)
    assert bench.outcomes == [Outcome.TRIAL_PASSED]
    assert bench.models[1].runs >= 3.0 / 1.0


def test_a_camera_that_stalls_proves_nothing(bench: Bench) -> None:
    bench.offer(1)
    bench.frames(20, gap_s=MOST_GAP_S + 1)
    assert bench.outcomes == []


def test_pictures_that_are_frozen_or_black_prove_nothing(bench: Bench) -> None:
    bench.crops_a_frame = 1
    bench.offer(1)
    bench.frames(200, live=False)
    assert bench.outcomes == []
    bench.frames(4)
    assert bench.outcomes == [Outcome.TRIAL_PASSED]


def test_a_model_that_fails_in_trial_gives_way_to_the_old_one_at_once(bench: Bench) -> None:
    bench.commit(1)
    old = bench.models[1]
    bench.offer(2)
    bench.frames(1)
    bench.models[2].fails = True
    bench.crops_a_frame = 1
    bench.frames(1)
    assert (bench.version, bench.outcomes[-1]) == (1, Outcome.ROLLED_BACK)
    assert bench.running.model is old  # it was kept: going back costs no loading
    bench.frames(10)
    assert bench.slots.record.refuses(2) is not None


def test_a_model_that_does_not_load_in_trial_never_runs(bench: Bench) -> None:
    bench.commit(1)
    bench.unloadable[2] = ReleaseError("no such operator")
    bench.offer(2)
    bench.frames(1)
    assert (bench.version, bench.outcomes[-1]) == (1, Outcome.ROLLED_BACK)


def test_a_committed_model_that_fails_gives_way_to_the_one_before(bench: Bench) -> None:
    bench.commit(1)
    bench.commit(2)
    bench.models[2].fails = True
    bench.crops_a_frame = 1
    bench.frames(2)
    assert (bench.version, bench.outcomes[-1]) == (1, Outcome.FELL_BACK)


def test_the_only_model_failing_leaves_a_watch_without_naming_and_no_blame(bench: Bench) -> None:
    bench.commit(1)
    bench.models[1].fails = True
    bench.crops_a_frame = 1
    bench.frames(20)
    assert (bench.version, bench.slots.record.bad) == (None, ())
    bench.start()
    assert bench.version == 1


def test_a_committed_model_that_does_not_load_at_the_start_gives_way_too(bench: Bench) -> None:
    bench.commit(1)
    bench.commit(2)
    bench.unloadable[2] = ReleaseError("out of memory")
    bench.start()
    assert (bench.version, bench.outcomes[-1]) == (1, Outcome.FELL_BACK)


def test_files_that_changed_on_the_disk_are_not_the_release_s_fault(bench: Bench) -> None:
    bench.commit(1)
    bench.commit(2)
    head = bench.slots.folder(Slot.B) / "head.tflite"
    head.write_bytes(b"\0" * head.stat().st_size)
    bench.unloadable[2] = ReleaseError("not a model")
    bench.start()
    assert (bench.version, bench.slots.record.bad, bench.slots.record.b) == (1, (), None)


def test_a_device_without_a_runtime_blames_no_release(bench: Bench) -> None:
    bench.commit(1)
    bench.commit(2)
    before = bench.slots.record
    bench.unloadable[2] = NoRuntimeError("install ai-edge-litert")
    bench.start()
    assert (bench.version, bench.slots.record) == (None, before)


def test_each_start_in_a_trial_spends_an_attempt_and_then_the_old_model_is_back(bench: Bench) -> None:
    bench.commit(1)
    bench.offer(2)
    for expected in (2, 2, 1):
        bench.start()
        assert bench.version == expected
    assert bench.outcomes[-1] is Outcome.ROLLED_BACK


def test_a_trial_begun_while_the_committed_model_fails_is_not_blamed(bench: Bench) -> None:
    bench.commit(1)
    bench.offer(2)
    bench.running.failed(ReleaseError("x"))
    assert (bench.version, bench.slots.record.bad) == (None, ())
    bench.frames(1)
    assert bench.version == 2


def test_probation_counts_time_in_which_frames_advance() -> None:
    proving = Proving(SETTINGS, Phase.PROBATION)
    assert not proving.wants_exercise(0.0)
    times = [0.0, 1.0, 1.0 + MOST_GAP_S + 0.1, 4.0, 5.0]
    assert [proving.frame(time_s, 0, exercised=False) for time_s in times] == [False] * 4 + [True]


def test_a_model_run_on_crops_needs_no_exercise() -> None:
    proving = Proving(SETTINGS, Phase.TRIAL)
    assert proving.wants_exercise(0.0)
    proving.frame(0.0, 1, exercised=False)
    assert not proving.wants_exercise(EXERCISE_S / 2)
    assert proving.wants_exercise(EXERCISE_S)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"crops": 0}, {"seconds": -1.0}, {"probation_s": -1.0}])
def test_a_trial_that_could_not_fail_or_pass_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        TrialSettings(**wrong)


def test_a_committed_model_that_ends_the_process_each_time_gives_way_to_the_other_slot(bench: Bench) -> None:
    bench.commit(1)
    bench.commit(2)
    for _ in range(MOST):  # each start but the first follows one that ended badly
        bench.start()
        assert bench.version == 2
    bench.start()
    assert bench.version == 1
    assert bench.outcomes[-1] is Outcome.FELL_BACK
    assert "ended 5 times in a row" in bench.slots.record.bad[-1].reason


def test_without_another_slot_it_watches_without_naming_and_tries_the_model_again_later(bench: Bench) -> None:
    bench.commit(1)
    for _ in range(MOST + 1):
        bench.start()
    assert bench.version is None
    assert bench.outcomes[-1] is Outcome.NO_MODEL
    bench.running.healthy()
    bench.start()
    assert bench.version == 1


def test_runs_that_last_or_end_in_order_are_no_bad_starts(bench: Bench) -> None:
    bench.commit(1)
    for _ in range(3 * MOST):
        bench.start()
        bench.running.healthy()
    assert bench.version == 1
    for _ in range(3 * MOST):
        bench.start()
        bench.running.ended()
    assert bench.version == 1


def test_runs_that_end_in_order_do_not_use_up_a_trial(bench: Bench) -> None:
    bench.commit(1)
    bench.offer(2)
    for _ in range(10):
        bench.running.ended()
        bench.start()
        assert bench.version == 2
    assert bench.slots.record.bad == ()


def test_an_attempt_that_was_not_counted_is_not_given_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.commit(1)
    bench.offer(2)
    left = bench.slots.record.trial.attempts_left
    with monkeypatch.context() as patch:
        patch.setattr(Slots, "_save", _full_disk)
        bench.start()
    assert bench.version == 1
    bench.running.ended()
    assert bench.slots.record.trial.attempts_left == left


def _full_disk(slots: Slots, record: object) -> None:
    raise StorageError("the disk is full")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"v":1,"digest":"x","starts":99}', b'{"starts":-1}'])
def test_a_damaged_count_is_none(bench: Bench, data: bytes) -> None:
    bench.commit(1)
    (bench.folder / "data" / "starts.json").write_bytes(data)
    bench.start()
    assert bench.version == 1


def test_power_cuts_are_no_bad_starts(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.commit(1)
    boot = tmp_path / "boot_id"
    monkeypatch.setattr("agent.updates.starts.BOOT_ID", boot)
    for number in range(3 * MOST):
        boot.write_text(f"boot-{number}\n")
        bench.start()
    assert bench.version == 1
