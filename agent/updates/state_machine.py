"""Owns the life of a release on a device, as pure code: record and event in, next record and outcome out.

Refuses files, sockets and the clock; ``agent.updates.slots`` persists what comes out before anybody acts on it.

    WATCHING  no model: the agent watches and names nobody
    RUNNING   a committed release runs
    TRIAL     a new release runs; the committed one, if any, waits in the other slot
    PROBATION the new release has worked, and must go on working for a while

                  TrialBegun               TrialPassed                ProbationPassed
    WATCHING ---+------------> TRIAL ---------------------> PROBATION ----------------> RUNNING
    RUNNING  ---+                |                              |
        ^                        |  Started with no attempt left, Failed, RollBackAsked: the release is bad
        |                        |  Damaged(trial slot): the release is not to blame and may be fetched again
        +------------------------+------------------------------+     (to WATCHING when nothing was committed)

    Cleared, Materialised, Rejected   WATCHING, RUNNING: only the idle slot changes
    Started                           WATCHING, RUNNING: nothing; TRIAL, PROBATION: spends an attempt
    Ended                             WATCHING, RUNNING: nothing; TRIAL, PROBATION: gives that attempt back
    Failed, RollBackAsked             RUNNING: to the other slot if it holds a proven release that is not bad;
                                      Failed without one changes nothing (this run goes on without a model)
    Damaged                           RUNNING: as Failed, without blame; to WATCHING when there is no other
    Allowed                           all: a release is no longer bad; nothing else changes

Anything else is a TransitionError: a fault of ours, never of a release.
"""

from dataclasses import replace

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
    Transition,
    TrialBegun,
    TrialPassed,
)
from agent.updates.record import MOST_BAD, BadRelease, Held, Phase, Record, Slot, Trial

REASON_MOST = 300  # characters of a reason that are kept


class TransitionError(Exception):
    """An event that is not allowed in this state."""


def advance(record: Record, event: Event) -> Transition:
    """Return what ``event`` makes of ``record``.

    Raises:
        TransitionError: the event is not allowed in this state.
    """
    match event:
        case Cleared(slot):
            return Transition(_with_held(record, _idle(record, slot, event), None), Outcome.CLEARED)
        case Materialised(slot, version, digest):
            return _materialised(record, _idle(record, slot, event), Held(version, digest))
        case Rejected(reason):
            return Transition(_remember(record, _complete_idle(record, event)[1], reason), Outcome.REJECTED, reason)
        case TrialBegun(attempts, hot):
            return _begin(record, event, attempts - hot)
        case Started():
            return _started(record)
        case Ended():
            return _ended(record)
        case TrialPassed():
            trial = _trial(record, event, Phase.TRIAL)
            return Transition(replace(record, trial=replace(trial, phase=Phase.PROBATION)), Outcome.TRIAL_PASSED)
        case ProbationPassed():
            return _commit(record, _trial(record, event, Phase.PROBATION))
        case Failed(reason):
            return _roll_back(record, reason) if record.trial else _fall_back(record, reason)
        case RollBackAsked():
            return _roll_back_asked(record, event)
        case Allowed(version):
            return _allowed(record, version)
        case Damaged(slot):
            return _damaged(record, slot)


def rebuild(model: str, a: Held | None, b: Held | None, attempts: int) -> Record:
    """Return a record for two slots of which nothing is known but what they hold complete.

    The lower version is taken as committed and the higher one is tried again: if it was good it is committed once
    more, and if it was bad it is rolled back once more. Nothing that might crash runs without a way back.
    """
    record = Record(model, a=a, b=None if a and b and a.digest == b.digest else b)
    a, b = record.a, record.b
    found = sorted((held.version, slot) for slot, held in ((Slot.A, a), (Slot.B, b)) if held)
    if not found:
        return record
    active = found[0][1]
    held = replace(_held(record, active), proven=True)
    record = replace(_with_held(record, active, held), active=active, highest=held.version)
    if len(found) == 2 and found[1][0] > found[0][0]:
        record = advance(record, TrialBegun(attempts, hot=False)).record
    return record


def _materialised(record: Record, slot: Slot, held: Held) -> Transition:
    if record.held(slot) is not None:
        raise TransitionError(f"slot {slot} was not cleared")
    twin = record.held(slot.other)
    if twin is not None and twin.digest == held.digest and slot.other is record.active:
        raise TransitionError(f"slot {slot.other} runs this release already: failing here would blame it")
    return Transition(_with_held(record, slot, held), Outcome.HELD)


def _begin(record: Record, event: Event, attempts_left: int) -> Transition:
    slot, held = _complete_idle(record, event)
    refusal = record.refuses(held.version, held.digest)
    if refusal or attempts_left < 0:
        raise TransitionError(refusal or "a trial needs an attempt")
    trial = Trial(slot=slot, version=held.version, digest=held.digest, phase=Phase.TRIAL, attempts_left=attempts_left)
    return Transition(replace(record, trial=trial), Outcome.TRIAL_STARTED)


def _started(record: Record) -> Transition:
    if record.trial is None:
        return Transition(record, Outcome.NOTHING)
    if record.trial.attempts_left == 0:
        return _roll_back(record, f"no attempt left in {record.trial.phase}: the agent ended each time")
    trial = replace(record.trial, attempts_left=record.trial.attempts_left - 1)
    return Transition(replace(record, trial=trial), Outcome.ATTEMPT_SPENT)


def _ended(record: Record) -> Transition:
    if record.trial is None:
        return Transition(record, Outcome.NOTHING)
    trial = replace(record.trial, attempts_left=record.trial.attempts_left + 1)
    return Transition(replace(record, trial=trial), Outcome.ATTEMPT_RETURNED)


def _commit(record: Record, trial: Trial) -> Transition:
    record = _with_held(record, trial.slot, Held(trial.version, trial.digest, proven=True))
    highest = max(record.highest, trial.version)
    return Transition(replace(record, active=trial.slot, trial=None, highest=highest), Outcome.COMMITTED)


def _roll_back(record: Record, reason: str) -> Transition:
    """End the trial and remember its release as bad."""
    trial = record.trial
    if trial is None:
        raise TransitionError("there is no trial to roll back")
    record = _remember(replace(record, trial=None), Held(trial.version, trial.digest), reason)
    return Transition(record, Outcome.ROLLED_BACK, reason)


def _fall_back(record: Record, reason: str) -> Transition:
    """Leave a committed release that does not run; without another one to run, blame nothing."""
    if record.active is None:
        raise TransitionError("there is no model that could have failed")
    if record.fallback is None:
        return Transition(record, Outcome.NO_MODEL, reason)
    record = _remember(replace(record, active=record.fallback), _held(record, record.active), reason)
    return Transition(record, Outcome.FELL_BACK, reason)


def _roll_back_asked(record: Record, event: Event) -> Transition:
    if record.fallback is None:
        raise TransitionError(f"{type(event).__name__}: no other slot holds a proven release")
    reason = "rolled back by hand"
    return _roll_back(record, reason) if record.trial else _fall_back(record, reason)


def _allowed(record: Record, version: int) -> Transition:
    kept = tuple(bad for bad in record.bad if bad.version != version)
    if kept == record.bad:
        raise TransitionError(f"Allowed: release {version} is not remembered as bad")
    return Transition(replace(record, bad=kept), Outcome.ALLOWED)


def _damaged(record: Record, slot: Slot) -> Transition:
    fallback = record.fallback
    record = _with_held(record, slot, None)
    if record.trial and record.trial.slot is slot:
        record = replace(record, trial=None)
    elif record.active is slot:
        # During a trial the other slot is the trial's: it goes on, with nothing to go back to.
        record = replace(record, active=None if record.trial else fallback)
    return Transition(record, Outcome.DAMAGED, "its files are not those of its release")


def _remember(record: Record, held: Held, reason: str) -> Record:
    """Add a bad release; when the list is full, its lowest version goes, and all up to that one are refused."""
    kept = [bad for bad in record.bad if bad.digest != held.digest]
    kept.append(BadRelease(held.version, held.digest, " ".join(reason.split())[:REASON_MOST]))
    refused_up_to = record.refused_up_to
    if len(kept) > MOST_BAD:
        lowest = min(kept, key=lambda bad: bad.version)
        kept.remove(lowest)
        refused_up_to = max(refused_up_to, lowest.version)
    return replace(record, bad=tuple(kept), refused_up_to=refused_up_to)


def _with_held(record: Record, slot: Slot, held: Held | None) -> Record:
    return replace(record, a=held) if slot is Slot.A else replace(record, b=held)


def _held(record: Record, slot: Slot) -> Held:
    held = record.held(slot)
    if held is None:
        raise TransitionError(f"slot {slot} holds no complete release")
    return held


def _idle(record: Record, slot: Slot, event: Event) -> Slot:
    if record.trial or slot is record.active:
        raise TransitionError(f"{type(event).__name__}: slot {slot} is in use")
    return slot


def _complete_idle(record: Record, event: Event) -> tuple[Slot, Held]:
    if record.idle is None:
        raise TransitionError(f"{type(event).__name__}: a trial is under way")
    return record.idle, _held(record, record.idle)


def _trial(record: Record, event: Event, phase: Phase) -> Trial:
    if record.trial is None or record.trial.phase is not phase:
        raise TransitionError(f"{type(event).__name__}: no {phase} is under way")
    return record.trial
