"""The familiarity score: its fields in release.json, the score itself, and how a device applies it."""

import base64
import dataclasses
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vision.classifier import load_classifier
from agent.vision.consensus import ConsensusSettings, Electorate, Votes, add_vote, decide
from cloud_tools.tflite.tflite_file import load_runner
from contract.checks import Fields
from contract.errors import InputError
from contract.familiarity import Familiarity, pack_means, parse_familiarity, unpack_means
from contract.familiarity_score import FamiliarityScore, energy
from contract.manifest import NAME, UNKNOWN, Manifest, load_bundle, parse_manifest
from tests.vision_scenes import BUNDLE, COATS

TABLES = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 255), min_size=width, max_size=width), min_size=1, max_size=6)
)
# The golden bundle's six channels: how much more red than green is in the picture, and so on. See its maker.
MEANS = ([3, 0, 0, 0, 0, 3], [0, 3, 3, 0, 0, 0], [0, 0, 0, 3, 3, 0])
DATA = Familiarity(pack_means(MEANS), 1, 0.02, 0.8)


def with_familiarity(data: Familiarity | None = DATA) -> Manifest:
    return dataclasses.replace(load_bundle(BUNDLE), familiarity=data)


def copied(folder: Path, manifest: Manifest) -> Path:
    for part in BUNDLE.iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    (folder / NAME).write_bytes(manifest.to_bytes())
    return folder


@given(TABLES)
def test_packed_means_come_back(rows: list[list[int]]) -> None:
    assert [list(row) for row in unpack_means(pack_means(rows), len(rows), len(rows[0]), "x")] == rows


@given(TABLES, st.integers(1, 8), st.integers(1, 8))
def test_means_of_another_shape_are_refused(rows: list[list[int]], labels: int, channels: int) -> None:
    if labels * channels != len(rows) * len(rows[0]):
        with pytest.raises(InputError, match="must be"):
            unpack_means(pack_means(rows), labels, channels, "x")


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode()))
def test_any_text_is_means_or_an_input_error(text: str) -> None:
    try:
        rows = unpack_means(text, 2, 3, "x")
    except InputError:
        return
    assert [len(row) for row in rows] == [3, 3]


def test_a_small_text_that_unpacks_to_gigabytes_is_refused_after_the_few_bytes_that_are_wanted() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()
    with pytest.raises(InputError, match="must be 6 values"):
        unpack_means(bomb, 2, 3, "x")
    with pytest.raises(InputError, match="are allowed"):
        unpack_means(bomb, 1000, 65536, "x")


@given(st.integers(1, 1 << 16), st.floats(0, 1e6), st.floats(-1e9, 1e9))
def test_the_fields_round_trip_as_json(stride: int, weight: float, accept: float) -> None:
    data = Familiarity(pack_means(MEANS), stride, weight, accept)
    assert parse_familiarity(Fields(json.loads(json.dumps(dataclasses.asdict(data))), "x")) == data


def test_a_manifest_with_familiarity_round_trips_and_unknown_fields_in_it_pass() -> None:
    manifest = with_familiarity()
    body = json.loads(manifest.to_bytes())
    body["familiarity"]["later"] = 1
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert parse_manifest(json.dumps(body).encode()) == manifest


def test_a_manifest_from_before_familiarity_parses_and_gains_no_field() -> None:
    before = (BUNDLE / NAME).read_bytes()
    assert b"familiarity" not in before
    manifest = parse_manifest(before)
    assert manifest.familiarity is None
    assert json.loads(manifest.to_bytes()) == json.loads(before)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "guess", "kind 'guess'"),
        ("means", "%", "not packed"),
        ("means", pack_means(MEANS[:2]), "18 values"),
        ("means", 7, "means must be a string"),
        ("stride", 0, "stride"),
        ("stride", 2, "9 values"),
        ("energy", -0.1, "energy"),
        ("energy", "x", "energy"),
        ("accept", None, "accept"),
    ],
)
def test_a_wrong_familiarity_names_the_field(field: str, value: object, message: str) -> None:
    body = json.loads(with_familiarity().to_bytes())
    body["familiarity"][field] = value
    with pytest.raises(InputError, match=message):
        parse_manifest(json.dumps(body).encode())


def test_a_release_of_one_stage_has_no_features_to_be_familiar_with() -> None:
    whole = with_familiarity()
    stage = dataclasses.replace(whole.stages[0], output=whole.stages[1].output)
    with pytest.raises(InputError, match="before the last"):
        parse_manifest(dataclasses.replace(whole, stages=(stage,)).to_bytes())


@given(st.lists(st.floats(0, 6, width=32), min_size=6, max_size=6))
def test_a_score_is_finite_whatever_the_features(values: list[float]) -> None:
    for row in ([1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]):
        score = FamiliarityScore(DATA, 3, 6).score(np.array([values], np.float32), np.array([row], np.float32))
        assert np.isfinite(score).all()
        assert -1.001 <= score[0] <= 1.001 + 0.02 * 28


def test_sure_answers_have_more_energy_than_unsure_ones() -> None:
    low, middle, high = energy(np.array([[0.4, 0.3, 0.3], [0.9, 0.05, 0.05], [1.0, 0.0, 0.0]], np.float32))
    assert low < middle < high < 28


def test_a_map_and_its_mean_have_the_same_score() -> None:
    rng = np.random.default_rng(0)
    maps = rng.uniform(0, 6, (4, 5, 5, 6)).astype(np.float32)
    rows = rng.dirichlet(np.ones(3), 4).astype(np.float32)
    score = FamiliarityScore(DATA, 3, 6).score
    assert score(maps, rows) == pytest.approx(score(maps.mean(axis=(1, 2)), rows), abs=1e-6)


def test_the_device_and_the_cloud_give_a_crop_the_same_score(tmp_path: Path) -> None:
    folder = copied(tmp_path, with_familiarity())
    pictures = [np.full((40, 20, 3), color, np.uint8) for color in (*COATS.values(), (128, 120, 128))]
    probabilities, scores = load_runner(folder, load_bundle(folder)).judge_all(pictures)
    assert scores is not None
    classifier = load_classifier(folder)
    for picture, row, score in zip(pictures, probabilities, scores, strict=True):
        given_row, given_score = classifier.judge(picture)
        assert given_row == pytest.approx(row, abs=1e-6)
        assert given_score == pytest.approx(score, abs=1e-6)


def test_coats_of_members_are_familiar_and_a_grey_one_is_not(tmp_path: Path) -> None:
    classifier = load_classifier(copied(tmp_path, with_familiarity()))
    for color in COATS.values():
        assert (classifier.judge(np.full((40, 20, 3), color, np.uint8))[1] or 0) >= DATA.accept
    grey = classifier.judge(np.full((40, 20, 3), 128, np.uint8))[1]
    assert grey is not None
    assert grey < DATA.accept


def test_an_older_release_gives_no_familiarity_and_is_decided_by_probability_alone() -> None:
    classifier = load_classifier(BUNDLE)
    assert classifier.judge(np.full((40, 20, 3), 128, np.uint8))[1] is None
    assert Electorate.of(classifier.manifest, 1).familiar is None


def poll(familiarity: list[float], *, ended: bool = False) -> tuple[Votes, str | None]:
    electorate, votes = Electorate.of(with_familiarity(), 1), Votes()
    for i, value in enumerate(familiarity):
        votes = add_vote(votes, electorate, (0.98, 0.01, 0.01), 3 * i, value)
    votes, decision = decide(votes, ConsensusSettings(), ended=ended)
    return votes, decision.label if decision else None


def test_a_stranger_of_whom_softmax_is_sure_stays_unknown() -> None:
    assert poll([0.95] * 5)[1] == load_bundle(BUNDLE).labels[0]
    assert poll([0.5] * 5)[1] is None
    assert poll([0.5] * 9, ended=True)[1] == UNKNOWN


def test_the_mean_over_the_track_decides_not_a_single_crop() -> None:
    assert poll([0.5, 0.95, 0.95, 0.95, 0.95])[1] == load_bundle(BUNDLE).labels[0]
    assert poll([0.95, 0.5, 0.5, 0.5, 0.5])[1] is None


def test_a_vote_without_the_score_that_the_release_needs_is_a_fault() -> None:
    with pytest.raises(ValueError, match="familiarity"):
        add_vote(Votes(), Electorate.of(with_familiarity(), 1), (1.0, 0.0, 0.0), 1)
