"""The labels file: the project's own reads, a person's mistake is named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tools.datasets.labels import load_labels, parse_labels
from cloud_tools.inputs import LABELS, VIDEO_SHA256
from contract.errors import InputError


def small(**changes: Any) -> dict[str, Any]:
    body = {
        "schema": 1,
        "video": {"width": 64, "height": 48, "frames": 10},
        "household": {"anna": [[0, 1, 2, 8, 9]]},
        "strangers": {},
    }
    return body | changes


def parse(body: Any) -> Any:
    return parse_labels(json.dumps(body).encode(), "labels.json")


def test_the_labels_of_the_sample_video_name_six_members_and_four_strangers() -> None:
    labels = load_labels(LABELS)
    assert labels.sha256 == VIDEO_SHA256
    assert {name: len(boxes) for name, boxes in labels.household.items()} == {
        "bald_jeans": 458,
        "black_coat": 374,
        "leather_paper": 279,
        "brown_jeans": 409,
        "red_navy": 182,
        "red_woman": 237,
    }
    assert sum(map(len, labels.strangers.values())) == 455
    assert LABELS.stat().st_size < 100_000


def test_the_labels_of_the_sample_video_state_their_limits() -> None:
    body = json.loads(LABELS.read_bytes())
    assert "assigned by hand" in body["made"]
    assert "clothes" in body["limits"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "not a JSON object"),
        (small(schema=2), "schema"),
        (small(houshold={}), "unknown key 'houshold'"),
        (small(household={}), "names nobody"),
        (small(household={"unknown": []}), "nobody may be called"),
        (small(household={"../x": []}), "plain name"),
        (small(household={"anna": [[0, 1, 2, 8]]}), "anna[0]"),
        (small(household={"anna": [[0, 1, 2, 8, 9.5]]}), "whole numbers"),
        (small(household={"anna": [[10, 1, 2, 8, 9]]}), "frame 10"),
        (small(household={"anna": [[0, 64, 2, 8, 9]]}), "no pixel"),
        (small(household={"anna": [[0, 1, 2, 0, 9]]}), "no pixel"),
        (small(household={"anna": [[0, 1, 2, 8, 9], [0, 1, 2, 8, 9]]}), "already"),
        (small(strangers={"anna": []}), "both"),
        (small(video={"width": 64, "height": 48}), "frames"),
        (small(video={"width": 64, "height": 48, "frames": 10, "sha256": "x"}), "sha256"),
    ],
)
def test_a_mistake_in_a_labels_file_is_named(body: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse(body)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["schema", "video", "household", "a"]), inner)
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_is_in_the_file_it_reads_or_is_an_input_error(data: bytes) -> None:
    try:
        labels = parse_labels(data, "labels.json")
    except InputError:
        return
    assert labels.household


def test_boxes_come_in_the_order_of_frames() -> None:
    labels = parse(small(household={"anna": [[5, 1, 2, 8, 9], [2, 1, 2, 8, 9]]}))
    assert list(labels.household["anna"]) == [2, 5]
