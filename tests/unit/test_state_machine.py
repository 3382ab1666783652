"""The state machine of slots and trials: what it promises over every sequence of events."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.updates.lifecycle import (
    Allowed,
    Cleared,
    Damaged,
    Ended,
    Event,
    Failed,
    Materialised,
    Outcome,
    ProbationPassed,
    Rejected,
    RollBackAsked,
    Started,
    State,
    Transition,
    TrialBegun,
    TrialPassed,
    state,
)
from agent.updates.record import MOST_BAD, Held, Phase, Record, Slot, parse_record
from agent.updates.state_machine import TransitionError, advance, rebuild
from contract.errors import InputError


def digest(version: int) -> str:
    """Return a digest that stands for release ``version``."""
    return hashlib.sha256(str(version).encode()).hexdigest()


def after(record: Record, *events: Event) -> Record:
    """Return the record after ``events``."""
    for event in events:
        record = advance(record, event).record
    return record


def install(record: Record, version: int, attempts: int = 3) -> Record:
    """Return the record with ``version`` on trial, swapped in by a running agent."""
    slot = record.idle
    assert slot is not None
    trial = TrialBegun(attempts, hot=True)
    return after(record, Cleared(slot), Materialised(slot, version, digest(version)), trial)


def committed(*versions: int) -> Record:
    """Return the record of a device that committed ``versions`` one after another."""
    record = Record("household")
    for version in versions:
        record = after(install(record, version), TrialPassed(), ProbationPassed())
    return record


def test_a_release_is_committed_after_trial_and_probation() -> None:
    record = install(committed(1), 2)
    assert (state(record), record.running, record.active) == (State.TRIAL, Slot.B, Slot.A)
    record = after(record, TrialPassed())
    assert (state(record), record.active) == (State.PROBATION, Slot.A)
    step = advance(record, ProbationPassed())
    assert (step.outcome, step.record.active, step.record.highest) == (Outcome.COMMITTED, Slot.B, 2)
    assert step.record.fallback is Slot.A


@pytest.mark.parametrize("phase", [(), (TrialPassed(),)])
def test_the_hot_swap_is_the_first_start_and_three_attempts_are_three_starts(phase: tuple[Event, ...]) -> None:
    record = after(install(committed(1), 2, attempts=3), *phase)
    for _ in range(2):
        step = advance(record, Started())
        assert step.outcome is Outcome.ATTEMPT_SPENT
        assert step.record.running is Slot.B
        record = step.record
    step = advance(record, Started())
    assert (step.outcome, step.record.running) == (Outcome.ROLLED_BACK, Slot.A)
    assert step.record.refuses(2, digest(2)) is not None


def test_an_installed_release_that_no_agent_swapped_in_still_has_every_attempt() -> None:
    record = after(Record("m"), Cleared(Slot.A), Materialised(Slot.A, 1, digest(1)), TrialBegun(1, hot=False))
    step = advance(record, Started())
    assert (step.outcome, step.record.running) == (Outcome.ATTEMPT_SPENT, Slot.A)


@pytest.mark.parametrize("phase", [(), (TrialPassed(),)])
def test_a_run_that_ends_in_order_gives_its_attempt_back(phase: tuple[Event, ...]) -> None:
    begun = after(install(committed(1), 2, attempts=1), *phase)
    record = begun
    for _ in range(5):
        step = advance(record, Ended())
        assert step.outcome is Outcome.ATTEMPT_RETURNED
        step = advance(step.record, Started())
        assert (step.outcome, step.record) == (Outcome.ATTEMPT_SPENT, begun)
        record = step.record
    assert advance(record, Started()).outcome is Outcome.ROLLED_BACK


def test_an_end_in_order_outside_a_trial_changes_nothing() -> None:
    assert advance(committed(1), Ended()) == Transition(committed(1), Outcome.NOTHING)


def test_a_failing_trial_goes_back_and_is_remembered_as_bad() -> None:
    step = advance(install(committed(1), 2), Failed("no such operator"))
    assert (step.outcome, step.record.running) == (Outcome.ROLLED_BACK, Slot.A)
    assert step.record.bad[0].reason == "no such operator"
    with pytest.raises(TransitionError, match="remembered as bad"):
        advance(step.record, TrialBegun(3, hot=True))


def test_a_failing_first_release_leaves_a_device_that_watches() -> None:
    step = advance(install(Record("m"), 1), Failed("x"))
    assert (state(step.record), step.record.running) == (State.WATCHING, None)


def test_a_failing_committed_release_falls_back_to_the_one_before() -> None:
    step = advance(committed(1, 2), Failed("x"))
    assert (step.outcome, step.record.active) == (Outcome.FELL_BACK, Slot.A)
    assert step.record.refuses(2, digest(2)) is not None


def test_a_failing_committed_release_without_another_is_not_blamed() -> None:
    record = committed(1)
    step = advance(record, Failed("x"))
    assert (step.outcome, step.record) == (Outcome.NO_MODEL, record)


def test_a_release_that_was_never_committed_is_not_fallen_back_to() -> None:
    record = after(committed(1), Cleared(Slot.B), Materialised(Slot.B, 2, digest(2)))
    assert record.fallback is None
    assert advance(record, Damaged(Slot.A)).record.running is None


def test_a_release_whose_self_test_failed_is_bad_and_never_begins() -> None:
    record = after(committed(1), Cleared(Slot.B), Materialised(Slot.B, 2, digest(2)))
    step = advance(record, Rejected("answers differ"))
    assert (step.outcome, step.record.running) == (Outcome.REJECTED, Slot.A)
    with pytest.raises(TransitionError):
        advance(step.record, TrialBegun(3, hot=True))


def test_damage_on_the_disk_does_not_blame_the_release() -> None:
    record = after(install(committed(1), 2), Damaged(Slot.B))
    assert (record.running, record.trial, record.refuses(2, digest(2))) == (Slot.A, None, None)


def test_a_trial_goes_on_when_the_slot_behind_it_is_damaged() -> None:
    record = after(install(committed(1), 2), Damaged(Slot.A))
    assert (record.running, record.active) == (Slot.B, None)
    assert after(record, TrialPassed(), ProbationPassed()).active is Slot.B


def test_rolling_back_by_hand_keeps_the_release_away() -> None:
    record = after(committed(1, 2), RollBackAsked())
    assert record.active is Slot.A
    assert "by hand" in str(record.refuses(2))


def test_rolling_back_by_hand_needs_somewhere_to_go() -> None:
    with pytest.raises(TransitionError):
        advance(committed(1), RollBackAsked())


def test_a_release_that_was_left_by_hand_is_gone_back_to_once_it_is_allowed() -> None:
    record = after(committed(1, 2), RollBackAsked())
    assert record.fallback is None, "a second roll back leads nowhere"
    step = advance(record, Allowed(2))
    assert step.outcome is Outcome.ALLOWED
    assert step.record.refuses(2, digest(2)) is None
    assert after(step.record, RollBackAsked()).active is Slot.B


@pytest.mark.parametrize("version", [0, 1, 3])
def test_only_a_release_that_is_bad_can_be_allowed(version: int) -> None:
    with pytest.raises(TransitionError, match="not remembered as bad"):
        advance(after(committed(1, 2), RollBackAsked()), Allowed(version))


def test_the_slot_in_use_is_never_cleared() -> None:
    with pytest.raises(TransitionError):
        advance(committed(1), Cleared(Slot.A))
    for slot in Slot:
        with pytest.raises(TransitionError):
            advance(install(committed(1), 2), Cleared(slot))


def test_a_forgotten_bad_release_is_still_refused() -> None:
    record = committed(1)
    for version in range(2, 3 + MOST_BAD):
        record = after(install(record, version), Failed("x"))
    assert len(record.bad) == MOST_BAD
    assert all(record.refuses(version, digest(version)) for version in range(2, 3 + MOST_BAD))
    assert record.refuses(3 + MOST_BAD) is None


def test_a_lost_record_tries_the_higher_release_again_and_keeps_the_lower_to_go_back_to() -> None:
    record = rebuild("m", Held(2, digest(2)), Held(1, digest(1)), attempts=3)
    assert (record.active, record.running, record.highest) == (Slot.B, Slot.A, 1)
    assert after(record, Failed("x")).running is Slot.B
    assert rebuild("m", None, Held(4, digest(4)), 3).active is Slot.B
    assert rebuild("m", None, None, 3).running is None
    assert rebuild("m", Held(4, digest(4)), Held(4, digest(4)), 3).trial is None


@pytest.mark.parametrize(
    "change",
    [
        {"active": Slot.B},
        {"a": None},
        {"trial": replace(install(committed(1), 2).trial, version=3)},  # type: ignore[type-var]
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    record = replace(committed(1), **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="state.json"):
        parse_record(record.to_bytes(), "state.json")


class SlotMachine(RuleBasedStateMachine):
    """Every sequence of events that the machine allows, with starts (crashes) at any point."""

    def __init__(self) -> None:
        super().__init__()
        self.record = Record("household")
        self.version = 0
        self.tried: list[str] = []
        self.known_bad: set[str] = set()
        self.had_model = False
        self.damaged = False
        # A short list, so that sequences of this length make the machine forget releases.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("agent.updates.state_machine.MOST_BAD", 2)

    def teardown(self) -> None:
        self.patch.undo()

    def step(self, event: Event) -> Transition:
        step = advance(self.record, event)
        assert parse_record(step.record.to_bytes(), "record") == step.record
        self.known_bad |= {bad.digest for bad in step.record.bad}
        self.record = step.record
        self.had_model |= self.record.active is not None
        return step

    @initialize(attempts=st.integers(1, 4))
    def start(self, attempts: int) -> None:
        self.attempts = attempts

    @precondition(lambda self: self.record.idle is not None)
    @rule(again=st.booleans())
    def materialise(self, again: bool) -> None:
        """A new release, or one that was seen before, arrives in the idle slot."""
        self.version += not (again and self.version)
        slot = self.record.idle
        assert slot is not None
        self.step(Cleared(slot))
        twin = self.record.held(slot.other)
        if twin and twin.digest == digest(self.version) and self.record.active is slot.other:
            with pytest.raises(TransitionError):
                advance(self.record, Materialised(slot, self.version, digest(self.version)))
            return
        self.step(Materialised(slot, self.version, digest(self.version)))

    @precondition(lambda self: self.record.idle is not None and self.record.held(self.record.idle) is not None)
    @rule(hot=st.booleans())
    def begin(self, hot: bool) -> None:
        slot = self.record.idle
        assert slot is not None
        held = self.record.held(slot)
        assert held is not None
        if self.record.refuses(held.version, held.digest):
            with pytest.raises(TransitionError):
                advance(self.record, TrialBegun(self.attempts, hot))
            return
        assert held.digest not in self.known_bad
        self.step(TrialBegun(self.attempts, hot))

    @precondition(lambda self: self.record.idle is not None and self.record.held(self.record.idle) is not None)
    @rule()
    def self_test_fails(self) -> None:
        self.step(Rejected("self-test"))

    @rule(times=st.integers(1, 5))
    def crash(self, times: int) -> None:
        """The program ends and starts again, some times in a row."""
        for _ in range(times):
            before = self.record.trial
            step = self.step(Started())
            if before and before.attempts_left == 0:
                assert step.outcome is Outcome.ROLLED_BACK
                assert step.record.running is step.record.active
            elif before:
                assert step.record.trial is not None
                assert step.record.trial.attempts_left == before.attempts_left - 1

    @rule()
    def ends_in_order(self) -> None:
        """The program is told to end, and starts again: nothing was spent."""
        before = self.record
        self.step(Ended())
        assert self.step(Started()).record == before

    @precondition(lambda self: self.record.running is not None)
    @rule()
    def model_fails(self) -> None:
        self.step(Failed("it does not run"))

    @precondition(lambda self: self.record.trial is not None)
    @rule()
    def phase_passes(self) -> None:
        trial = self.record.trial
        assert trial is not None
        self.step(TrialPassed() if trial.phase is Phase.TRIAL else ProbationPassed())

    @precondition(lambda self: self.record.fallback is not None)
    @rule()
    def roll_back_by_hand(self) -> None:
        self.step(RollBackAsked())

    @precondition(lambda self: self.record.bad)
    @rule(data=st.data())
    def allow_by_hand(self, data: st.DataObject) -> None:
        """A person allows a bad release again; every other one stays as it is."""
        allowed = data.draw(st.sampled_from(self.record.bad))
        before = self.record
        self.step(Allowed(allowed.version))
        assert self.record == replace(before, bad=tuple(bad for bad in before.bad if bad != allowed))
        if allowed.version > self.record.refused_up_to:
            self.known_bad.discard(allowed.digest)

    @rule(slot=st.sampled_from(list(Slot)))
    def disk_breaks(self, slot: Slot) -> None:
        if self.record.running is slot or self.record.active is slot:
            self.damaged = True
        self.step(Damaged(slot))
        if self.record.active is not None:
            self.damaged = False

    @invariant()
    def active_slot_is_complete_and_proven(self) -> None:
        if self.record.active:
            held = self.record.held(self.record.active)
            assert held is not None
            assert held.proven
            assert held.digest not in {bad.digest for bad in self.record.bad}

    @invariant()
    def a_bad_release_never_runs_on_trial(self) -> None:
        if self.record.trial:
            assert self.record.trial.digest not in self.known_bad
            assert self.record.trial.slot is not self.record.active

    @invariant()
    def one_runnable_slot_remains(self) -> None:
        if self.had_model and not self.damaged:
            assert self.record.running is not None
            assert self.record.held(self.record.running) is not None

    @invariant()
    def every_forgotten_bad_release_is_refused(self) -> None:
        for version in range(1, self.version + 1):
            if digest(version) in self.known_bad:
                assert self.record.refuses(version, digest(version)) is not None


TestSlotMachine = pytest.mark.slow(SlotMachine.TestCase)
TestSlotMachine.settings = settings(max_examples=150, stateful_step_count=40)
