"""When updates are made: at the start, by polling, by notice, sooner after a failure, and never two at once."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.home.reporter import MOST_WAITING, Reporter
from agent.updates.plan import Reason, Refusal
from agent.updates.progress import Progress, UpdateState
from agent.updates.record import Held, Phase, Record, Slot, Trial
from agent.updates.schedule import UpdateThread
from contract.broker import BrokerAddress
from contract.errors import PeerError, ReleaseError, TrustError
from contract.topics import ReleaseNotice

LIMIT_S = 10.0
CURRENT = Refusal(Reason.CURRENT, "release 1 runs here")


class FakeUpdater:
    """Answers as told, and counts; ``called`` is released once an update."""

    def __init__(self, folder: Path) -> None:
        held = Held(1, "a" * 64, proven=True)
        self.slots = SimpleNamespace(record=Record("household", Slot.A, a=held, highest=1))
        self.progress = Progress(folder, tell=lambda fields: self.states.append(fields["state"]))
        self.states: list[UpdateState] = []
        self.answers: list[Callable[[], Any]] = []
        self.called = threading.Semaphore(0)
        self.count = 0

    def newest(self) -> None:
        """Never called here."""

    def update(self, find: Any) -> Any:
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
def updater(tmp_path: Path) -> FakeUpdater:
    """It."""
    return FakeUpdater(tmp_path)


@pytest.fixture
def thread(updater: FakeUpdater) -> Iterator[UpdateThread]:
    """A thread that polls once an hour; the test starts it."""
    thread = UpdateThread(updater, 3600.0, jitter=shortest)  # type: ignore[arg-type]
    yield thread
    thread.end()
    if thread.ident:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def test_it_looks_at_the_start_and_then_waits_for_the_poll(updater: FakeUpdater, thread: UpdateThread) -> None:
    thread.start()
    assert updater.called.acquire(timeout=LIMIT_S)
    assert not updater.called.acquire(timeout=0.1)


def test_a_notice_brings_the_next_look_forward(updater: FakeUpdater, thread: UpdateThread) -> None:
    thread.start()
    assert updater.called.acquire(timeout=LIMIT_S)
    thread.notice(ReleaseNotice(2))
    assert updater.called.acquire(timeout=LIMIT_S)


def test_a_notice_of_what_runs_here_costs_nothing(updater: FakeUpdater, thread: UpdateThread) -> None:
    thread.start()
    assert updater.called.acquire(timeout=LIMIT_S)
    thread.notice(ReleaseNotice(1))
    assert not updater.called.acquire(timeout=0.1)


def test_a_notice_during_an_update_is_not_lost(updater: FakeUpdater, thread: UpdateThread) -> None:
    going_on = threading.Event()
    updater.answers = [lambda: going_on.wait(LIMIT_S) and CURRENT]
    thread.start()
    assert updater.called.acquire(timeout=LIMIT_S)
    thread.notice(ReleaseNotice(2))
    assert updater.count == 1
    going_on.set()
    assert updater.called.acquire(timeout=LIMIT_S)


@pytest.mark.parametrize("error", [TrustError("not signed"), OSError(28, "full"), RuntimeError("a fault of ours")])
def test_a_failure_is_told_and_tried_again_before_the_poll(
    updater: FakeUpdater, thread: UpdateThread, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.updates.schedule.FIRST_RETRY_S", 0.02)
    updater.answers = [fails(error), fails(error)]
    thread.start()
    for _ in range(3):
        assert updater.called.acquire(timeout=LIMIT_S)
    assert updater.states == [UpdateState.FAILED] * 2


def test_a_relay_that_does_not_answer_is_no_failed_update(
    updater: FakeUpdater, thread: UpdateThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.updates.schedule.FIRST_RETRY_S", 0.02)
    updater.answers = [fails(PeerError("no relay")), fails(PeerError("no relay"))]
    thread.start()
    for _ in range(3):
        assert updater.called.acquire(timeout=LIMIT_S)
    assert updater.states == []


def test_a_release_that_failed_its_self_test_is_not_tried_again_before_the_poll(
    updater: FakeUpdater, thread: UpdateThread
) -> None:
    updater.answers = [fails(ReleaseError("self-test"))]
    assert thread._attempt() == 1800.0
    assert updater.states == []


def test_waits_after_failures_double_up_to_the_poll(updater: FakeUpdater, thread: UpdateThread) -> None:
    waits = [thread._failed("x") for _ in range(20)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == 1800.0  # the poll, jittered down


def test_no_update_is_made_during_a_trial(updater: FakeUpdater, thread: UpdateThread) -> None:
    held = Held(2, "b" * 64)
    trial = Trial(Slot.B, 2, held.digest, Phase.TRIAL, 2)
    updater.slots.record = Record("household", Slot.A, a=Held(1, "a" * 64, True), b=held, trial=trial)
    thread.start()
    thread.wake()
    assert not updater.called.acquire(timeout=0.1)
    updater.slots.record = Record("household", Slot.A, a=Held(1, "a" * 64, True))
    thread.wake()
    assert updater.called.acquire(timeout=LIMIT_S)


def test_sightings_wait_for_a_broker_in_a_queue_that_is_bounded() -> None:
    reporter = Reporter(BrokerAddress("127.0.0.1", 9), "porch", "kinwatch/edge/home/releases/household/stable")
    begin = time.monotonic()
    for number in range(MOST_WAITING + 50):
        reporter.sighting({"track": number})
        reporter.motion(True)
    assert time.monotonic() - begin < 1.0
    assert (len(reporter._waiting), reporter.dropped) == (MOST_WAITING, 50)
    assert b'"track":50' in reporter._waiting[0][1]
