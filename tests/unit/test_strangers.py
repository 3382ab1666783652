"""Fitting the familiarity score: what is held out, the threshold, the rates, with numpy alone."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tools.datasets.dataset import Crop
from cloud_tools.evaluation.strangers import (
    ACCEPT,
    KEEP,
    LEAST_WINDOWS,
    Fit,
    Limits,
    Sample,
    Scored,
    auroc,
    fit,
    fit_means,
    hold_out,
    rates,
    threshold,
    to_head,
    window_means,
)
from contract.familiarity import Familiarity, unpack_means
from contract.familiarity_score import energy

CHANNELS = 8
PEOPLE = ("ada", "ben")
SCORES = st.lists(st.floats(-5, 5), min_size=1, max_size=30)


def crops(person: str, visit: str, count: int, start: int = 0) -> tuple[Crop, ...]:
    """One crop every half second."""
    return tuple(
        Crop(
            file=f"{visit}{i}",
            person=person,
            frame=start + 5 * i,
            time_s=(start + 5 * i) / 10,
            visit=visit,
            split="train",
            pixels="",
        )
        for i in range(count)
    )


def look(center: int, count: int, seed: int, noise: float = 0.3) -> np.ndarray:
    """Features of somebody whose channel ``center`` is strong."""
    rng = np.random.default_rng(seed)
    return (np.eye(CHANNELS)[center] * 4 + np.abs(rng.normal(0, noise, (count, CHANNELS)))).astype(np.float32)


def sure(winner: int, count: int, least: float = 0.01) -> np.ndarray:
    row = np.full((count, 2), least, np.float32)
    row[:, winner] = 1 - least
    return row


def household(windows: int = 20) -> Sample:
    half = 5 * windows // 2
    both = crops("ada", "ada/0", half) + crops("ben", "ben/0", half)
    features = np.concatenate([look(0, half, 1), look(1, half, 2)])
    return Sample(both, features, np.concatenate([sure(0, half), sure(1, half)]))


def strangers(names: tuple[str, ...] = ("postman", "neighbour")) -> Sample:
    """People of whom softmax is as sure as of ada, and who look like nobody."""
    found = tuple(crop for name in names for crop in crops("unknown", f"{name}/0", 25))
    features = np.concatenate([look(4 + i, 25, 3 + i) for i in range(len(names))])
    return Sample(found, features, sure(0, len(found)))


def means() -> tuple[str, int]:
    known = household()
    return fit_means(known.features, np.array([PEOPLE.index(crop.person) for crop in known.crops]), 2)


def nobody() -> Sample:
    return Sample((), np.zeros((0, CHANNELS), np.float32), np.zeros((0, 2), np.float32))


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(known: list[float], foreign: list[float]) -> None:
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in known for b in foreign]
    assert auroc(np.array(known), np.array(foreign)) == pytest.approx(np.mean(pairs))


def test_auroc_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        auroc(np.zeros(0), np.ones(3))


@given(SCORES, st.lists(st.floats(-5, 5), max_size=30))
def test_a_threshold_keeps_its_share_of_the_members_whatever_the_strangers(
    known: list[float], foreign: list[float]
) -> None:
    found = threshold(np.array(known), np.array(foreign))
    assert np.mean(np.array(known) >= found) >= KEEP - 1e-9


def test_strangers_move_the_threshold_only_to_where_it_helps() -> None:
    known = np.array([0.2, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9])
    assert threshold(known, np.zeros(0)) == pytest.approx(0.6)
    assert threshold(known, np.array([0.1, 0.1])) == pytest.approx(0.2)  # all of them are under every member
    assert threshold(known, np.array([0.55] * 9)) == pytest.approx(0.6)


def test_late_crops_are_after_the_early_ones_of_their_visit_and_a_second_away() -> None:
    both = crops("ada", "ada/0", 20) + crops("ada", "ada/1", 20, start=1000) + crops("ben", "ben/0", 1)
    early, late = hold_out(both)
    assert set(early).isdisjoint(late)
    assert len(early) == 15 + 15 + 1
    for i in late:
        assert min(abs(both[i].time_s - both[j].time_s) for j in early if both[j].person == both[i].person) >= 1.0
        assert all(both[j].frame < both[i].frame for j in early if both[j].visit == both[i].visit)
    assert len(late) == 4 + 4  # the first after each cut is half a second away


def test_means_are_few_coarse_levels_and_few_channels() -> None:
    rng = np.random.default_rng(5)
    features = rng.uniform(0, 6, (40, 5, 5, 1280)).astype(np.float32)
    text, stride = fit_means(features, np.arange(40) % 2, 2)
    rows = unpack_means(text, 2, 320, "x")
    assert stride == 4
    assert {value for row in rows for value in row} <= {0, 1, 2, 3}
    assert len(text) < 250


def test_an_outlier_who_is_sure_to_softmax_is_told_by_the_score() -> None:
    fitted = fit(means(), means(), household(), strangers(), 2)
    assert fitted is not None
    known, foreign = household(), strangers()
    found = rates(scored(known, fitted), scored(foreign, fitted), PEOPLE, ACCEPT, limits(fitted))
    assert found.auroc == found.auroc5 == 1.0
    assert found.far5 == 0.0
    assert found.frr5 <= 1 - KEEP
    assert found.wrong5 == 0.0
    assert (found.member_windows, found.stranger_windows, found.strangers, found.held_out) == (20, 10, 2, True)


def scored(sample: Sample, fitted: Fit) -> Scored:
    from cloud_tools.evaluation.strangers import scores

    return Scored(sample.crops, sample.probabilities, scores(fitted.familiarity, sample, 2))


def limits(fitted: Fit) -> Limits:
    return Limits(fitted.familiarity.accept, fitted.without)


def test_a_threshold_for_a_stranger_is_chosen_without_that_stranger() -> None:
    alone = fit(means(), means(), household(), strangers(("postman",)), 2)
    nobody_there = fit(means(), means(), household(), nobody(), 2)
    assert alone is not None
    assert nobody_there is not None
    assert alone.without == {"postman": nobody_there.familiarity.accept}


def test_rates_without_strangers_are_none_and_the_members_are_still_counted() -> None:
    fitted = fit(means(), means(), household(), nobody(), 2)
    assert fitted is not None
    found = rates(scored(household(), fitted), scored(nobody(), fitted), PEOPLE, ACCEPT, limits(fitted))
    assert (found.auroc, found.auroc5, found.far5, found.held_out) == (None, None, None, False)
    assert 0 <= found.frr5 <= 1 - KEEP + 1e-9


def test_a_stranger_that_calibration_did_not_know_is_held_to_the_release_s_own_threshold() -> None:
    both = Limits(0.5, {"postman": 0.1})
    assert both.of(np.array(["postman"])).tolist() == [0.1]
    assert both.of(np.array(["postman", "other"])).tolist() == [0.5, 0.5]


def test_too_few_held_out_windows_give_no_score() -> None:
    assert fit(means(), means(), household(LEAST_WINDOWS - 2), strangers(), 2) is None


def test_a_head_with_larger_logits_gets_a_smaller_weight_for_its_energy() -> None:
    fitted = Fit(Familiarity("", 1, 0.04, 0.9), 20, 0)
    held_out, final = sure(0, 9, 0.05), sure(0, 9, 0.0001)
    brought = to_head(fitted, held_out, final)
    assert brought.familiarity.energy * energy(final).mean() == pytest.approx(
        0.04 * energy(held_out).mean(), rel=1e-3
    )
    assert dataclasses.replace(brought, familiarity=fitted.familiarity) == fitted


def test_a_window_is_five_crops_of_one_visit_and_its_score_their_mean() -> None:
    both = crops("ada", "ada/0", 7) + crops("ben", "ben/0", 2)
    assert window_means(both, np.arange(9.0)).tolist() == [2.0, 5.5, 7.5]
