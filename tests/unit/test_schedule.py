"""When updates are made: at the start, by polling, by notice, sooner after a failure, and never two at once."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.home.reporter import MOST_WAITING, Reporter
from agent.updates.plan import Reason, Refusal
from agent.updates.progress import Progress
from agent.updates.record import Held, Phase, Record, Slot, Trial
from agent.updates.schedule import UpdateSchedule
from contract.broker import BrokerAddress
from contract.errors import PeerError, ReleaseError, TrustError
from contract.messages import ReleaseNotice, UpdateState
from tests.unit.test_sightings import SIGHTING

LIMIT_S = 10.0
CURRENT = Refusal(Reason.CURRENT, "release 1 runs here")


class FakeInstaller:
    """Answers as told, and counts; ``called`` is released once an update."""

    def __init__(self, folder: Path) -> None:
        held = Held(1, "a" * 64, proven=True)
        self.slots = SimpleNamespace(record=Record("household", Slot.A, a=held, highest=1))
        self.progress = Progress(folder, tell=lambda status: self.states.append(status.state))
        self.states: list[UpdateState] = []
        self.answers: list[Callable[[], Any]] = []
        self.called = threading.Semaphore(0)
        self.count = 0

    def newest(self) -> None:
        """Never called here."""

    def install(self, find: Any) -> Any:
        """Answer with the next of ``answers``."""
        self.count += 1
        self.progress.begin()
        self.called.release()
        return self.answers.pop(0)() if self.answers else CURRENT


def fails(error: Exception) -> Callable[[], Any]:
    """Return an answer that is an error."""

    def answer() -> Any:
        raise error

    return answer


def shortest(least: float, most: float) -> float:
    """Jitter that is none."""
    return least


@pytest.fixture
def installer(tmp_path: Path) -> FakeInstaller:
    """It."""
    return FakeInstaller(tmp_path)


@pytest.fixture
def schedule(installer: FakeInstaller) -> Iterator[UpdateSchedule]:
    """A schedule that polls once an hour; the test starts it."""
    schedule = UpdateSchedule(installer, 3600.0, jitter=shortest)  # type: ignore[arg-type]
    yield schedule
    schedule.end()
    if schedule.ident:
        schedule.join(LIMIT_S)
        assert not schedule.is_alive()


def test_it_looks_at_the_start_and_then_waits_for_the_poll(
    installer: FakeInstaller, schedule: UpdateSchedule
) -> None:
    schedule.start()
    assert installer.called.acquire(timeout=LIMIT_S)
    assert not installer.called.acquire(timeout=0.1)


def test_a_notice_brings_the_next_look_forward(installer: FakeInstaller, schedule: UpdateSchedule) -> None:
    schedule.start()
    assert installer.called.acquire(timeout=LIMIT_S)
    schedule.notice(ReleaseNotice(2))
    assert installer.called.acquire(timeout=LIMIT_S)


def test_a_notice_of_what_runs_here_costs_nothing(installer: FakeInstaller, schedule: UpdateSchedule) -> None:
    schedule.start()
    assert installer.called.acquire(timeout=LIMIT_S)
    schedule.notice(ReleaseNotice(1))
    assert not installer.called.acquire(timeout=0.1)


def test_a_notice_during_an_update_is_not_lost(installer: FakeInstaller, schedule: UpdateSchedule) -> None:
    going_on = threading.Event()
    installer.answers = [lambda: going_on.wait(LIMIT_S) and CURRENT]
    schedule.start()
    assert installer.called.acquire(timeout=LIMIT_S)
    schedule.notice(ReleaseNotice(2))
    assert installer.count == 1
    going_on.set()
    assert installer.called.acquire(timeout=LIMIT_S)


@pytest.mark.parametrize("error", [TrustError("not signed"), OSError(28, "full"), RuntimeError("a fault of ours")])
def test_a_failure_is_told_and_tried_again_before_the_poll(
    installer: FakeInstaller, schedule: UpdateSchedule, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.updates.schedule.FIRST_RETRY_S", 0.02)
    installer.answers = [fails(error), fails(error)]
    schedule.start()
    for _ in range(3):
        assert installer.called.acquire(timeout=LIMIT_S)
    assert installer.states == [UpdateState.FAILED] * 2


def test_a_relay_that_does_not_answer_is_no_failed_update(
    installer: FakeInstaller, schedule: UpdateSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.updates.schedule.FIRST_RETRY_S", 0.02)
    installer.answers = [fails(PeerError("no relay")), fails(PeerError("no relay"))]
    schedule.start()
    for _ in range(3):
        assert installer.called.acquire(timeout=LIMIT_S)
    assert installer.states == []


def test_a_release_that_failed_its_self_test_is_not_tried_again_before_the_poll(
    installer: FakeInstaller, schedule: UpdateSchedule
) -> None:
    installer.answers = [fails(ReleaseError("self-test"))]
    assert schedule._attempt() == 1800.0
    assert installer.states == []


def test_waits_after_failures_double_up_to_the_poll(installer: FakeInstaller, schedule: UpdateSchedule) -> None:
    waits = [schedule._failed("x") for _ in range(20)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == 1800.0  # the poll, jittered down


def test_no_update_is_made_during_a_trial(installer: FakeInstaller, schedule: UpdateSchedule) -> None:
    held = Held(2, "b" * 64)
    trial = Trial(Slot.B, 2, held.digest, Phase.TRIAL, 2)
    installer.slots.record = Record("household", Slot.A, a=Held(1, "a" * 64, True), b=held, trial=trial)
    schedule.start()
    schedule.wake()
    assert not installer.called.acquire(timeout=0.1)
    installer.slots.record = Record("household", Slot.A, a=Held(1, "a" * 64, True))
    schedule.wake()
    assert installer.called.acquire(timeout=LIMIT_S)


def test_sightings_wait_for_a_broker_in_a_queue_that_is_bounded() -> None:
    reporter = Reporter(BrokerAddress("127.0.0.1", 9), "porch", "kinwatch/edge/home/releases/household/stable")
    begin = time.monotonic()
    for number in range(MOST_WAITING + 50):
        reporter.sighting(replace(SIGHTING, track=number))
        reporter.motion(True)
    assert time.monotonic() - begin < 1.0
    assert (len(reporter._waiting), reporter.dropped) == (MOST_WAITING, 50)
    assert b'"track":50' in reporter._waiting[0][1]
