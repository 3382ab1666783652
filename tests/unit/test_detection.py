"""The detector of a bundle: a frame in, boxes out, on numbers made by hand; its entry in the manifest."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.bundle_runner import ModelRunner
from contract.detection.decode import cells, decode, distances, summarise, suppress
from contract.detection.letterbox import letterbox
from contract.detection.runner import Detection, DetectorRunner, load_detector
from contract.errors import InputError, ReleaseError
from contract.manifest import parse_manifest
from tests.detectors import CELLS, FAR, HEIGHT, REG_MAX, WIDTH, FakeInterpreter, sides, small_detector, told_runner
from tests.unit.test_contract import small_manifest

FRAME = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


# --- letterbox ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "inner"),
    [(32, 64, (32, 64)), (64, 64, (32, 32)), (10, 640, (1, 64)), (16, 16, (32, 32)), (1080, 1920, (32, 57))],
)
def test_a_frame_keeps_its_shape_at_the_top_left_and_the_rest_is_grey(
    height: int, width: int, inner: tuple[int, int]
) -> None:
    picture = letterbox(np.full((height, width, 3), 255, np.uint8), (HEIGHT, WIDTH), 114).picture
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert (picture[: inner[0], : inner[1]] == 255).all()
    assert (picture[inner[0] :] == 114).all()
    assert (picture[:, inner[1] :] == 114).all()


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_what_is_found_is_a_box_of_the_frame_whatever_its_size(height: int, width: int) -> None:
    placed = letterbox(np.zeros((height, width, 3), np.uint8), (HEIGHT, WIDTH), 114)
    whole = placed.in_frame(np.array([[-9, -9, 999, 999]], np.float32))
    assert whole.tolist() == [[0, 0, width, height]]


# --- decode ---------------------------------------------------------------------------------------------------------


def test_cells_are_middles_row_by_row_the_finest_stride_first() -> None:
    grid = cells(small_detector())
    assert grid.shape == (CELLS, 3)
    assert grid[[0, 1, 4, 8, 9]].tolist() == [[8, 8, 16], [24, 8, 16], [8, 24, 16], [16, 16, 32], [48, 16, 32]]


def test_a_distance_is_the_mean_of_its_distribution() -> None:
    logits = np.array([[0, FAR, 0, 0], [FAR, 0, 0, FAR], [0, 0, 0, 0], [-FAR, -FAR, 1, 1 + np.log(3)]], np.float32)
    assert distances(logits[np.newaxis])[0].tolist() == pytest.approx([1.0, 1.5, 1.5, 2.75])


def test_boxes_are_around_the_middles_of_their_cells_the_surest_first() -> None:
    scores = np.array([0.3, 0, 0, 0, 0.9, 0, 0, 0, 0.5, 0.1], np.float32)
    logits = np.zeros((CELLS, 4, REG_MAX + 1), np.float32)
    logits[0], logits[4], logits[8] = sides(0, 0, 1, 2), sides(1, 1, 2, 3), sides(0, 1, 1, 0)
    corners, sure = decode(scores, logits, cells(small_detector()), 0.25)
    assert sure.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert corners.tolist() == [[-8, 8, 40, 72], [16, -16, 48, 16], [8, 8, 24, 40]]


def test_nobody_is_an_answer() -> None:
    corners, sure = decode(
        np.zeros(CELLS, np.float32), np.zeros((CELLS, 4, 4), np.float32), cells(small_detector()), 0.1
    )
    assert corners.shape == (0, 4)
    assert sure.shape == (0,)
    assert suppress(corners, 0.5) == []


def test_of_two_boxes_of_one_person_the_surer_stays_and_two_people_beside_each_other_both() -> None:
    corners = np.array([[0, 0, 10, 20], [1, 0, 11, 20], [8, 0, 18, 20], [0, 0, 10, 9]], np.float32)
    assert suppress(corners, 0.5) == [0, 2, 3]
    assert suppress(corners, 0.4) == [0, 2]


def test_a_summary_has_the_surest_score_and_the_mean_distance_of_each_stride() -> None:
    scores = np.array([0.3, 0, 0, 0, 0.9, 0, 0, 0, 0.5, 0.1], np.float32)
    logits = np.tile(sides(3, 3, 3, 3), (CELLS, 1, 1))
    logits[8:] = sides(0, 0, 3, 3)
    assert summarise(scores, logits, small_detector()) == pytest.approx((0.9, 1.0, 0.5, 0.5))


# --- runner ---------------------------------------------------------------------------------------------------------


def test_people_are_found_in_pixels_of_the_frame_and_cut_off_at_its_edges() -> None:
    runner, _ = told_runner({4: (0.9, sides(1, 1, 2, 1)), 3: (0.3, sides(0, 0, 1, 1)), 9: (0.2, sides(1, 1, 1, 1))})
    assert runner.find(FRAME) == [
        Detection((0, 8, 40, 24), pytest.approx(0.9)),
        Detection((56, 8, 8, 16), pytest.approx(0.3)),
    ]
    twice = runner.find(np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8))
    assert [one.box for one in twice] == [(0, 16, 80, 48), (112, 16, 16, 32)]
    assert len(runner.find(FRAME, least=0.1)) == 3


def test_a_box_in_the_grey_beside_the_frame_is_nobody() -> None:
    runner, _ = told_runner({3: (0.9, sides(1, 0, 0, 1))})
    assert runner.find(np.zeros((64, 64, 3), np.uint8)) == []


def test_pixels_go_in_as_rgb() -> None:
    runner, interpreter = told_runner({})
    frame = FRAME.copy()
    frame[...] = (1, 2, 3)
    runner.find(frame)
    assert interpreter.given[0, 0, 0].tolist() == [3, 2, 1]
    assert interpreter.given.dtype == np.float32


@pytest.mark.parametrize("at", [0, 1])
def test_an_answer_that_is_no_number_is_the_release_s_fault(at: int) -> None:
    runner, interpreter = told_runner({})
    interpreter.outputs[at][0, 3] = np.nan
    with pytest.raises(ReleaseError, match="not finite"):
        runner.find(FRAME)


def test_another_model_than_the_manifest_s_is_refused() -> None:
    scores, logits = np.zeros((1, CELLS, 1), np.float32), np.zeros((1, CELLS, 16), np.float32)
    with pytest.raises(ReleaseError, match="1 outputs, 2 are needed"):
        ModelRunner("detector.tflite", FakeInterpreter(logits), 2)
    swapped = ModelRunner("detector.tflite", FakeInterpreter(scores, logits), 2)
    with pytest.raises(ReleaseError, match=r"its output is \(1, 10, 1\)"):
        DetectorRunner(small_detector(), swapped)
    wider = ModelRunner("detector.tflite", FakeInterpreter(logits, scores, shape=(1, 64, 64, 3)), 2)
    with pytest.raises(ReleaseError, match="its input"):
        DetectorRunner(small_detector(), wider)


def test_a_bundle_without_a_detector_has_none(tmp_path: Any) -> None:
    assert load_detector(tmp_path, small_manifest(), lambda entry, content: FakeInterpreter()) is None
    with pytest.raises(ReleaseError, match="missing file"):
        load_detector(tmp_path, with_detector(), lambda entry, content: FakeInterpreter())


# --- manifest -------------------------------------------------------------------------------------------------------


def with_detector() -> Any:
    return dataclasses.replace(small_manifest(), detector=small_detector())


def test_a_manifest_with_a_detector_round_trips_and_names_its_file() -> None:
    manifest = with_detector()
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert set(manifest.files()) == {"backbone.tflite", "head.tflite", "selftest.npz", "detector.tflite"}


def test_only_a_manifest_with_a_detector_is_of_the_schema_that_older_programs_refuse() -> None:
    old, new = (json.loads(manifest.to_bytes()) for manifest in (small_manifest(), with_detector()))
    assert (old["schema"], new["schema"]) == (1, 2)
    assert "detector" not in old
    assert {**new, "schema": 1, "detector": None} == {**old, "detector": None}
    # An older program would read this and lose a file of the bundle.
    assert parse_manifest(json.dumps({**new, "schema": 1}).encode()).detector is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "head.tflite"}, "two files have the same name"),
        ({"file": "../x"}, "not a plain name"),
        ({"kind": "yolo"}, "kind 'yolo' is not known"),
        ({"strides": []}, "strides"),
        ({"strides": [0]}, "strides"),
        ({"strides": [24]}, "no multiple of the strides"),
        ({"strides": [16]}, "outputs must be of the shapes"),
        ({"reg_max": 7}, "outputs must be of the shapes"),
        ({"outputs": []}, "outputs must be of the shapes"),
        ({"fill": 256}, "fill must be from 0 to 255"),
        ({"begin": 0.2}, "go_on must not be over begin"),
        ({"overlap": 2}, "overlap must be from 0 to 1"),
        ({"expected": []}, "expected must have two values a stride for each of 1 pictures"),
        ({"expected": [[0.5]]}, "expected must have two values"),
        ({"expected": [[0.5, 0.5, 0.5, 2]]}, "must be probabilities"),
        ({"operators": [1]}, "operators must be strings"),
        ({"input": {"shape": [1, 32, 64], "dtype": "float32", "scale": 0, "zero_point": 0}}, "no picture"),
    ],
)
def test_a_wrong_detector_names_the_field(changes: dict[str, object], message: str) -> None:
    top = json.loads(with_detector().to_bytes())
    top["detector"] |= changes
    with pytest.raises(InputError, match=message):
        parse_manifest(json.dumps(top).encode())
