"""Bytes against accuracy: what is on the frontier, what is chosen, what is shown."""

from pathlib import Path

import pytest

from cloud_tools.training.frontier import Candidate, Frontier, check_plot, frontier_lines, plot_frontier
from contract.errors import InputError

SMALL, MIDDLE, LARGE = (
    Candidate(1, 2.0**-3, 500, 0.90),
    Candidate(4, 2.0**-5, 1500, 0.93),
    Candidate(40, 2.0**-9, 9000, 0.95),
)
WORSE = Candidate(2, 2.0**-4, 1600, 0.91)  # larger and less accurate than MIDDLE
ALL = (LARGE, WORSE, SMALL, MIDDLE)


def test_the_frontier_has_no_candidate_that_another_beats() -> None:
    assert Frontier(ALL, 3000, 10_000).best() == (SMALL, MIDDLE, LARGE)


def test_the_most_accurate_that_fits_comes_first_and_what_does_not_fit_never() -> None:
    assert Frontier(ALL, 3000, 4600).fitting() == (MIDDLE, WORSE, SMALL)
    assert Frontier(ALL, 3000, 4499).fitting() == (SMALL,)
    assert Frontier(ALL, 3000, 3499).fitting() == ()


def test_of_equals_the_smaller_update_is_chosen() -> None:
    twin = Candidate(8, 2.0**-6, 1400, MIDDLE.accuracy)
    assert Frontier((*ALL, twin), 3000, 5000).fitting()[0] == twin


def test_a_candidate_that_turned_out_too_large_is_not_tried_again() -> None:
    left = Frontier(ALL, 3000, 4500).without(MIDDLE, 3100)
    assert left.fitting() == (SMALL,)
    assert left.smallest() == 3600


def test_the_table_marks_what_was_chosen_and_what_does_not_fit() -> None:
    lines = frontier_lines(Frontier(ALL, 3000, 4600).choose(MIDDLE, 1480, 3010))
    assert lines[2].split() == [">", "2^-5", "4", "4,490", "1,480", "93.0", "%"]
    assert lines[3].split() == ["-", "2^-9", "40", "12,010", "9,000", "95.0", "%"]
    assert len(lines) == 5
    assert "4,600" in lines[-1]


def test_json_has_every_candidate_with_the_whole_bytes() -> None:
    body = Frontier(ALL, 3000, 4600).choose(MIDDLE, 1480, 3010).to_json()
    assert [row["bytes"] for row in body["candidates"]] == [12_010, 4610, 3510, 4490]
    assert [row["chosen"] for row in body["candidates"]] == [False, False, False, True]
    assert [row["best"] for row in body["candidates"]] == [True, False, True, True]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "begin"), [("plot.png", b"\x89PNG"), ("plot.svg", b"<?xml")])
def test_the_plot_is_a_picture(tmp_path: Path, name: str, begin: bytes) -> None:
    plot_frontier(Frontier(ALL, 3000, 4600, MIDDLE), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_a_plot_that_cannot_be_made_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=".png or .svg"):
        check_plot(tmp_path / "plot.pdf")
    with pytest.raises(InputError, match="is no folder"):
        check_plot(tmp_path / "nowhere" / "plot.png")
