"""What is said of a bundle beside its accuracy: confidence, the two splits, the worst mistakes, and the page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cloud_tools.datasets.dataset import Crop, Dataset, pixel_digest
from cloud_tools.datasets.splits import TEST
from cloud_tools.evaluation.evaluation import Evaluation, Score, Strangers
from cloud_tools.evaluation.reliability import reliability
from cloud_tools.reports.evaluation_page import render_page, write_page
from cloud_tools.reports.evaluation_report import MOST_ALIKE, MOST_MISTAKES, Mistake, Report, find_mistakes, worst
from cloud_tools.reports.evaluation_table import report_lines
from cloud_tools.reports.random_split import SplitScore, TwoSplits, draw

LABELS = ("anna", "bert")


def crop(number: int, person: str = "anna", visit: str = "", pixels: str = "") -> Crop:
    return Crop(
        file=f"crops/{person}/{number}.png",
        person=person,
        frame=number,
        time_s=float(number),
        visit=visit or f"{person}/{number}",
        split=TEST,
        pixels=pixels,
    )


def test_a_model_that_is_as_often_right_as_it_says_has_no_error() -> None:
    rows = np.array([[0.8, 0.2]] * 10, np.float32)
    found = reliability(rows, ["anna"] * 8 + ["bert"] * 2, LABELS)
    assert found.ece == pytest.approx(0, abs=1e-4)
    assert [(row.low, row.count, row.accuracy) for row in found.bins] == [(0.7, 10, 0.8)]


def test_the_error_is_the_mean_distance_weighted_by_answers() -> None:
    rows = np.array([[0.95, 0.05]] * 3 + [[0.4, 0.6]], np.float32)
    found = reliability(rows, ["anna", "anna", "bert", "bert"], LABELS)
    # Three answers of 0.95, two of them right; one answer of 0.6, right: |0.95 - 2/3| * 3/4 + |0.6 - 1| * 1/4.
    assert found.ece == pytest.approx(0.75 * abs(0.95 - 2 / 3) + 0.25 * 0.4, abs=1e-4)
    assert sum(row.count for row in found.bins) == found.answers == 4


def test_who_is_not_in_the_model_is_answered_wrongly_and_no_answers_are_no_error() -> None:
    assert reliability(np.array([[1.0, 0.0]], np.float32), ["carl"], LABELS).ece == 1.0
    assert reliability(np.zeros((0, 2), np.float32), [], LABELS).answers == 0


def test_a_random_train_side_has_as_many_crops_of_each_person_as_the_one_by_time() -> None:
    people = ["anna"] * 30 + ["bert"] * 10
    train = [True] * 18 + [False] * 12 + [True] * 6 + [False] * 4
    chosen = draw(people, train, 1)
    assert len(set(chosen)) == len(chosen)
    assert sum(i < 30 for i in chosen) == 18
    assert sum(i >= 30 for i in chosen) == 6
    assert chosen == draw(people, train, 1)
    assert chosen != draw(people, train, 2)
    assert chosen != [i for i, side in enumerate(train) if side]


def test_mistakes_are_found_worst_first() -> None:
    rows = np.array([[0.9, 0.1], [0.45, 0.55], [0.05, 0.95], [0.6, 0.4]], np.float32)
    found = find_mistakes(LABELS, [crop(0), crop(1), crop(2), crop(3, "carl")], rows)
    assert [(mistake.crop.frame, mistake.said) for mistake in found] == [(2, "bert"), (3, "anna"), (1, "bert")]
    assert found[1].truth_probability is None
    assert found[0].truth_probability == pytest.approx(0.05)
    assert [mistake.crop.frame for mistake in find_mistakes(LABELS, [crop(1), crop(2)], rows[1:3], 0.9)] == [2]


def test_a_burst_of_the_same_mistake_does_not_fill_the_page() -> None:
    burst = [Mistake(crop(i, visit="anna/0"), "bert", 0.99, 0.01) for i in range(50)]
    others = [Mistake(crop(100 + i), "bert", 0.9, 0.1) for i in range(50)]
    chosen = worst(burst + others)
    assert len(chosen) == MOST_MISTAKES
    assert sum(mistake.crop.visit == "anna/0" for mistake in chosen) == MOST_ALIKE


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    crops = []
    for i, person in enumerate(("anna", "unknown")):
        coarse = np.random.default_rng(i).integers(0, 256, (6, 4, 3), np.uint8)
        pixels = cv2.resize(coarse, (100, 300), interpolation=cv2.INTER_CUBIC)
        (tmp_path / "crops" / person).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "crops" / person / f"{i}.png"), pixels)
        crops.append(crop(i, person, pixels=pixel_digest(pixels)))
    return Dataset(tmp_path, {"names": {"crops/anna/0.png": "anna/<b>party & co</b>.jpg"}}, tuple(crops))


@pytest.fixture
def report(dataset: Dataset) -> Report:
    evaluation = Evaluation(
        model="household",
        version=7,
        dataset=dataset.digest,
        overall=Score(0.9, 0.95, 10),
        known=Score(0.9, 0.95, 10),
        per_person={"anna": Score(0.8, 0.9, 5), "bert": Score(1.0, 1.0, 5)},
        confusion={"anna": {"anna": 4, "bert": 1}, "bert": {"anna": 0, "bert": 5}, "unknown": {"anna": 1, "bert": 0}},
        strangers=Strangers(
            named=0.25, crops=1, auroc=0.875, auroc5=0.9, rejected=0.1, windows=1, people=1, held_out=True
        ),
        accept=0.6,
        baseline={"name": "colours", "accuracy": 0.95, "per_person": {"anna": 0.9, "bert": 1.0}},
    )
    rows = np.array([[0.9, 0.1]] * 4 + [[0.2, 0.8]], np.float32)
    measured = reliability(rows, ["anna"] * 5, LABELS)
    part = SplitScore(0.875, 0.9, {"anna": 0.8, "bert": 0.9}, 10)
    splits = TwoSplits("pooled", part, SplitScore(0.985, 1.0, {"anna": 0.97, "bert": 1.0}, 10))
    mistakes = tuple(Mistake(item, "bert", 0.8, None if i else 0.2) for i, item in enumerate(dataset.crops))
    return Report(
        evaluation=evaluation,
        confidence=measured,
        confidence_vote5=measured,
        splits=splits,
        no_splits="",
        mistakes=mistakes[:1],
        mistakes_in_all=1,
        strangers_named=mistakes[1:],
        strangers_named_in_all=1,
    )


def test_the_page_holds_everything_itself(report: Report, dataset: Dataset, tmp_path: Path) -> None:
    write_page(report, dataset, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "<script" not in page
    assert "http" not in page
    for text in ("90.0\N{NO-BREAK SPACE}%", "98.5\N{NO-BREAK SPACE}%", "0.875", "bert", dataset.digest, "release 7"):
        assert text in page
    assert "The colours of the clothes alone do as well" in page


def test_a_name_in_the_page_is_text_and_never_markup(report: Report, dataset: Dataset) -> None:
    page = render_page(report, dataset)
    assert "anna/&lt;b&gt;party &amp; co&lt;/b&gt;.jpg" in page
    assert "<b>party" not in page


def test_people_are_shown_by_their_names_in_page_and_table(report: Report, dataset: Dataset) -> None:
    named = replace(report, evaluation=replace(report.evaluation, names={"anna": "<i>Änne</i> & Co"}))
    page = render_page(named, dataset)
    assert page.count("&lt;i&gt;Änne&lt;/i&gt; &amp; Co") >= 4  # the tables, and who is on a picture
    assert "<i>" not in page
    assert "<i>Änne</i> & Co" in "\n".join(report_lines(named))
    assert named.to_json()["names"] == {"anna": "<i>Änne</i> & Co"}


def test_the_pictures_on_the_page_are_the_crops(report: Report, dataset: Dataset) -> None:
    import base64

    data = re.findall(r"base64,([^\"]+)", render_page(report, dataset))[0]
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape[0] == 200
    meant = cv2.resize(dataset.image(dataset.crops[0]), shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - meant).mean() < 12


def test_json_and_table_say_the_same(report: Report) -> None:
    body = json.loads(json.dumps(report.to_json()))
    assert body["splits"]["random"]["accuracy"] == 0.985
    assert body["strangers"]["auroc"] == 0.875
    assert body["mistakes"][0]["crop"] == "crops/anna/0.png"
    assert body["mistakes"][0]["truth"] == "anna"
    lines = "\n".join(report_lines(report))
    for text in (
        "0.875",
        "flatter the random split by +11.0 points",
        "1 of 10 members' crops",
        "25.0 % of their votes",
    ):
        assert text in lines
    assert f"{100 * report.confidence.ece:.1f} points" in lines


def test_without_splits_and_strangers_the_reason_is_said(report: Report, dataset: Dataset) -> None:
    from dataclasses import replace

    evaluation = replace(report.evaluation, strangers=None, baseline=None)
    bare = replace(report, evaluation=evaluation, splits=None, no_splits="no train side", strangers_named=())
    assert "random split: no train side" in report_lines(bare)
    assert any("the dataset has none" in line for line in report_lines(bare))
    page = render_page(bare, dataset)
    assert "Not measured: no train side." in page
    assert "nothing is known about them" in page
