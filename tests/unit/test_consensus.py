"""agent.vision.consensus: the rule in the module's docstring, sentence by sentence."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vision.consensus import (
    ConsensusSettings,
    Decision,
    Electorate,
    Votes,
    add_vote,
    counted,
    decide,
    hears,
    wants_crop,
)
from contract.manifest import UNKNOWN

SETTINGS = ConsensusSettings()
OLD = Electorate(1, 1, ("anna", "ben"), accept=0.6, least_crops=3)
NEW = Electorate(2, 2, ("anna", "ben", "cleo"), accept=0.6, least_crops=3)
SURE, UNSURE, OTHER = (0.9, 0.1), (0.5, 0.5), (0.0, 1.0)


def poll(rows: list[tuple[float, ...]], electorate: Electorate = OLD, votes: Votes | None = None) -> Votes:
    votes = votes or Votes()
    for row in rows:
        votes, _ = decide(add_vote(votes, electorate, row, (votes.last_s or 0.0) + 0.5), SETTINGS)
    return votes


def test_five_sure_crops_name_a_track_and_four_do_not_yet() -> None:
    assert poll([SURE] * 4).decision is None
    decision = poll([SURE] * 5).decision
    assert decision is not None
    assert decision == Decision("anna", decision.confidence, 5, 1)
    assert decision.confidence == pytest.approx(0.9)


def test_a_release_may_ask_for_more_crops() -> None:
    strict = dataclasses.replace(OLD, least_crops=8)
    assert poll([SURE] * 7, strict).decision is None
    assert poll([SURE] * 8, strict).decision is not None


def test_a_track_that_is_not_sure_goes_on_voting_and_may_become_sure() -> None:
    unsure = poll([UNSURE] * 6)
    assert unsure.decision is None
    assert poll([SURE] * 9, votes=unsure).decision is not None


def test_a_track_that_ends_unsure_is_unknown() -> None:
    _, decision = decide(poll([UNSURE] * 6), SETTINGS, ended=True)
    assert decision is not None
    assert (decision.label, decision.crops) == (UNKNOWN, 6)


def test_a_track_that_ends_early_is_named_by_least_crops_and_unknown_below() -> None:
    for crops, label in ((3, "anna"), (2, UNKNOWN)):
        _, decision = decide(poll([SURE] * crops), SETTINGS, ended=True)
        assert decision is not None
        assert decision.label == label


def test_a_track_without_a_crop_is_never_decided() -> None:
    assert decide(Votes(), SETTINGS, ended=True) == (Votes(), None)


def test_an_upgrade_needs_twice_the_crops_and_happens_once() -> None:
    votes = poll([SURE] * 5)
    votes = poll([OTHER] * 6, votes=votes)  # the mean of ben is now (5 * 0.1 + 6) / 11 = 0.59
    assert votes.decision is not None
    assert votes.decision.label == "anna"
    votes = poll([OTHER], votes=votes)
    assert votes.decision is not None
    assert (votes.decision.label, votes.upgraded) == ("ben", True)
    votes = poll([SURE] * 60, votes=votes)
    assert votes.decision is not None
    assert votes.decision.label == "ben"


def test_a_decided_track_is_not_decided_again_when_it_ends() -> None:
    assert decide(poll([SURE] * 5), SETTINGS, ended=True)[1] is None


def test_the_first_vote_of_a_new_release_begins_anew() -> None:
    votes = add_vote(poll([SURE] * 4), NEW, (0.0, 0.0, 1.0), 30)
    assert (votes.crops, votes.total, votes.electorate) == (1, (0.0, 0.0, 1.0), NEW)


def test_until_the_new_release_votes_the_old_votes_stand() -> None:
    _, decision = decide(poll([SURE] * 4), SETTINGS, ended=True)
    assert decision is not None
    assert (decision.label, decision.version) == ("anna", 1)


def test_a_decided_track_hears_no_new_release() -> None:
    votes = poll([SURE] * 5)
    assert hears(votes, OLD)
    assert not hears(votes, NEW)
    with pytest.raises(ValueError, match="decided"):
        add_vote(votes, NEW, (0.0, 0.0, 1.0), 99)


def test_the_same_version_loaded_again_is_another_electorate() -> None:
    again = dataclasses.replace(OLD, generation=7)
    assert add_vote(poll([SURE] * 2), again, SURE, 50).crops == 1


def test_probabilities_must_fit_the_labels() -> None:
    with pytest.raises(ValueError, match="2 probabilities for 3 labels"):
        add_vote(Votes(), NEW, SURE, 1)


def test_votes_are_counted_by_the_label_that_each_crop_is_most_like() -> None:
    assert counted(Votes()) == {}
    assert counted(poll([SURE] * 4)) == {"anna": 4}
    assert counted(poll([SURE, OTHER, SURE])) == {"anna": 2, "ben": 1}
    assert counted(add_vote(poll([SURE] * 4), NEW, (0.0, 0.0, 1.0), 30)) == {"cleo": 1}


def test_crops_are_spaced_then_seldom_then_none() -> None:
    votes, taken = Votes(), []
    for tenth in range(2000):
        if wants_crop(votes, tenth / 10, SETTINGS):
            taken.append(tenth)
            votes = add_vote(votes, OLD, UNSURE, tenth / 10)
    assert taken[:7] == [0, 4, 8, 12, 16, 36, 56]
    assert len(taken) == SETTINGS.most_crops


def test_settings_that_decide_nothing_are_refused() -> None:
    for wrong in ({"crops": 0}, {"spacing_s": 0.0}, {"most_crops": 4}):
        with pytest.raises(ValueError):
            ConsensusSettings(**wrong)


STEP = st.tuples(st.sampled_from([OLD, NEW]), st.floats(0, 1), st.booleans())


@given(st.lists(STEP, max_size=40))
def test_a_track_is_decided_at_most_twice_and_by_its_own_release_alone(steps: list[tuple]) -> None:
    votes, made, newest = Votes(), [], OLD
    for number, (electorate, share, _) in enumerate(steps):
        newest = NEW if electorate is NEW else newest  # releases only go forward
        if not hears(votes, newest):
            continue
        row = (share, 1 - share) if newest is OLD else (share, 0.0, 1 - share)
        votes, decision = decide(add_vote(votes, newest, row, number), SETTINGS)
        made += [decision] if decision else []
    _, last = decide(votes, SETTINGS, ended=True)
    made += [last] if last else []
    assert len(made) <= 2
    assert bool(made) == bool(steps)
    assert votes.electorate is None or len(votes.total) == len(votes.electorate.labels)
    for decision in made:
        assert 0 <= decision.confidence <= 1
        assert decision.label == UNKNOWN or decision.confidence >= 0.6
    assert len({decision.version for decision in made}) <= 1
