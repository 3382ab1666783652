"""A clock that was never set is told from one that was, by a date that moves with the releases."""

import re
from pathlib import Path

import pytest

from agent.clock import WRITTEN, is_set
from contract import __date__, __version__

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
RELEASE = re.compile(r"## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)")
BEGINNING = "2026-01-01"


def test_the_date_of_the_program_is_that_of_its_newest_release() -> None:
    headings = [line for line in CHANGELOG.splitlines() if line.startswith("## ") and line != "## Unreleased"]
    released = [RELEASE.fullmatch(line) for line in headings]
    assert all(released), f"a release is written '## 1.2.3 - 2027-01-31': {headings}"
    newest = released[0].groups() if released and released[0] else (__version__, BEGINNING)
    assert (__version__, __date__) == newest


@pytest.mark.parametrize(("before_s", "said"), [(1, False), (0, True), (-86_400 * 365, True)])
def test_a_time_before_the_program_was_written_is_no_time(before_s: float, said: bool) -> None:
    assert is_set(WRITTEN.timestamp() - before_s) is said


def test_a_board_that_starts_in_1970_is_not_set() -> None:
    assert not is_set(0.0)
