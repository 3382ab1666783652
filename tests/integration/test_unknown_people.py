"""Strangers of the sample video: the familiarity score tells them, for few bytes, and the device does as measured."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.vision.classifier import load_classifier
from agent.vision.consensus import ConsensusSettings, Electorate, Votes, add_vote, decide
from cloud_tools.datasets.dataset import Crop, Dataset, load_dataset
from cloud_tools.evaluation.evaluation import Answers, answer, measure_rule
from cloud_tools.evaluation.strangers import ACCEPT
from cloud_tools.evaluation.threshold import windows
from cloud_tools.tflite.tflite_file import load_runner
from contract.files import json_bytes
from contract.manifest import UNKNOWN, Thresholds, load_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def six(vtest_dataset_six: Path) -> Dataset:
    return load_dataset(vtest_dataset_six)


@pytest.fixture(scope="module")
def answers(bundle_two: Path, six: Dataset) -> Answers:
    return answer(load_runner(bundle_two, load_bundle(bundle_two)), six)


def test_strangers_of_the_sample_are_told_from_members(bundle_two: Path, answers: Answers) -> None:
    found = measure_rule(load_bundle(bundle_two), answers)
    assert found.strangers == 4
    assert found.stranger_windows > 40
    assert found.member_windows > 60
    assert found.auroc is not None
    assert found.auroc5 is not None
    assert found.far5 is not None
    assert found.auroc >= 0.85
    assert found.auroc5 >= 0.88
    assert found.far5 <= 0.45
    assert found.frr5 <= 0.20


def test_probability_alone_names_far_more_strangers(bundle_two: Path, answers: Answers) -> None:
    manifest = load_bundle(bundle_two)
    alone = dataclasses.replace(manifest, familiarity=None, thresholds=Thresholds(ACCEPT))
    bare = dataclasses.replace(answers, familiarity=None, stranger_familiarity=None)
    with_score, without = measure_rule(manifest, answers), measure_rule(alone, bare)
    assert with_score.far5 is not None
    assert without.far5 is not None
    assert without.far5 >= with_score.far5 + 0.3
    assert (with_score.auroc or 0) >= (without.auroc or 1) + 0.05


def test_the_manifest_states_rates_for_strangers_that_the_threshold_did_not_know(
    bundle_two: Path, answers: Answers
) -> None:
    manifest = load_bundle(bundle_two)
    stated, found = manifest.metrics["threshold"], measure_rule(manifest, answers)
    assert (stated["auroc"], stated["auroc5"], stated["unnamed"]) == (found.auroc, found.auroc5, found.frr5)
    assert 0 < stated["strangers_named"] <= 0.45
    assert "held-out train crops" in stated["chosen_on"]
    assert manifest.thresholds.accept == ACCEPT


def test_the_score_costs_less_than_500_bytes_of_an_update(bundle_two: Path) -> None:
    body = json.loads((bundle_two / "release.json").read_bytes())
    whole = len(json_bytes(body))
    del body["familiarity"]
    assert 0 < whole - len(json_bytes(body)) <= 500


def test_the_device_names_the_windows_that_the_evaluation_counted(
    bundle_two: Path, six: Dataset, answers: Answers
) -> None:
    manifest = load_bundle(bundle_two)
    assert manifest.familiarity is not None
    assert answers.stranger_familiarity is not None
    chosen = [rows for rows in windows(answers.stranger_crops) if len(rows) == 5][::4]
    expected = [
        float(answers.stranger_probabilities[rows].mean(axis=0).max()) >= ACCEPT
        and float(np.mean(answers.stranger_familiarity[rows])) >= manifest.familiarity.accept
        for rows in chosen
    ]
    labels = [device_says(bundle_two, six, [answers.stranger_crops[int(i)] for i in rows]) for rows in chosen]
    assert [label != UNKNOWN for label in labels] == expected
    assert 0 < sum(expected) < len(expected)


def device_says(bundle: Path, dataset: Dataset, crops: list[Crop]) -> str:
    """What a device makes of a track of these crops, when it ends."""
    assert all(a.frame < b.frame for a, b in pairwise(crops))
    classifier, votes = load_classifier(bundle), Votes()
    electorate = Electorate.of(classifier.manifest, 1)
    for crop in crops:
        probabilities, familiarity = classifier.judge(dataset.image(crop))
        votes = add_vote(votes, electorate, probabilities.tolist(), crop.frame, familiarity)
    _, decision = decide(votes, ConsensusSettings(), ended=True)
    assert decision is not None
    return decision.label
