"""A pause: how its length is said, what its file holds, and that no jump of a clock makes it last for ever."""

import datetime as dt
import logging
from pathlib import Path

import pytest

from agent import pause
from agent.clock import WRITTEN
from agent.pause import LONGEST_S, LOOK_S, NAME, Pause, PauseSwitch, begin_pause, end_pause, parse_pause, read_length
from contract.errors import InputError
from tests.foreign_input import only_ours, spoilt_json

NOW = dt.datetime(2026, 11, 25, 22, 30, 20).astimezone()
WALL_S = NOW.timestamp()


class Clocks:
    """Both clocks of a device, and the kernel's name of this boot."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic_s, self.wall_s, self.boot = 1000.0, WALL_S, "first"
        monkeypatch.setattr(pause, "boot_id", lambda: self.boot)
        monkeypatch.setattr(pause.time, "time", lambda: self.wall_s)
        monkeypatch.setattr(pause.time, "monotonic", lambda: self.monotonic_s)

    def pass_s(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_s += seconds

    def reboot(self, wall_s: float) -> None:
        self.boot, self.monotonic_s, self.wall_s = self.boot + "'", 5.0, wall_s

    def switch(self, data: Path) -> PauseSwitch:
        """A new start of the agent."""
        return PauseSwitch(data, monotonic=lambda: self.monotonic_s, wall_clock=lambda: self.wall_s)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["30m"], 1800),
        (["2h"], 7200),
        (["45s"], 45),
        (["7d"], LONGEST_S),
        (["on"], None),
        (["until", "23:00"], 1780),
        (["until", "7:05"], 8 * 3600 + 34 * 60 + 40),
        (["until", "22:30"], 86_400 - 20),
    ],
)
def test_a_length_is_said_in_words(words: list[str], seconds: float | None) -> None:
    assert read_length(words, NOW) == seconds


@pytest.mark.parametrize(
    "words",
    [
        ["30"],
        ["0m"],
        ["-5m"],
        ["8d"],
        ["9999999999m"],
        ["until"],
        ["until", "24:00"],
        ["until", "noon"],
        ["٣m"],
        ["1m", "2m"],
    ],
)
def test_what_says_no_length_is_one_clear_line(words: list[str]) -> None:
    with pytest.raises(InputError, match="is no pause: 30m, 2h, until 07:00"):
        read_length(words, NOW)


def test_a_time_of_day_needs_a_clock_that_is_set_and_a_length_does_not() -> None:
    unset = dt.datetime(1970, 1, 1, 0, 3).astimezone()
    with pytest.raises(InputError, match="not set: say how long"):
        read_length(["until", "07:00"], unset)
    assert read_length(["30m"], unset) == 1800
    assert unset.timestamp() < WRITTEN.timestamp()


def test_a_pause_begins_within_a_second_and_ends_and_its_file_goes(tmp_path: Path, clocks: Clocks) -> None:
    switch = clocks.switch(tmp_path)
    assert not switch.paused()
    begin_pause(tmp_path, 60)
    clocks.pass_s(LOOK_S)
    assert switch.paused()
    clocks.pass_s(58)
    assert switch.paused()
    clocks.pass_s(2)
    assert not switch.paused()
    clocks.pass_s(LOOK_S)
    assert not switch.paused()
    assert not (tmp_path / NAME).exists()


def test_off_ends_a_pause_without_an_end(tmp_path: Path, clocks: Clocks) -> None:
    begin_pause(tmp_path, None)
    switch = clocks.switch(tmp_path)
    clocks.pass_s(100 * LONGEST_S)
    assert switch.paused()
    assert end_pause(tmp_path)
    clocks.pass_s(LOOK_S)
    assert not switch.paused()
    assert not end_pause(tmp_path)


@pytest.mark.parametrize("jump_s", [-WALL_S, -3600.0, 3600.0, 1e9])
def test_a_jump_of_the_clock_changes_nothing_in_the_same_boot(tmp_path: Path, clocks: Clocks, jump_s: float) -> None:
    begin_pause(tmp_path, 600)
    before = clocks.switch(tmp_path)
    assert before.paused()
    clocks.wall_s += jump_s
    after = clocks.switch(tmp_path)  # an agent that starts after the jump
    clocks.pass_s(598)
    assert (before.paused(), after.paused()) == (True, True)
    clocks.pass_s(3)
    assert (before.paused(), after.paused()) == (False, False)


def test_after_a_reboot_with_the_clock_at_1970_it_lasts_its_own_length_at_most_once(
    tmp_path: Path, clocks: Clocks
) -> None:
    begin_pause(tmp_path, 600)
    clocks.reboot(wall_s=3.0)
    switch = clocks.switch(tmp_path)
    assert switch.paused()
    clocks.pass_s(601)
    assert not switch.paused()
    clocks.reboot(wall_s=3.0)
    assert not clocks.switch(tmp_path).paused(), "the file of a pause that is over is gone"


def test_after_a_reboot_with_a_right_clock_it_lasts_until_its_end(tmp_path: Path, clocks: Clocks) -> None:
    begin_pause(tmp_path, 600)
    clocks.reboot(wall_s=WALL_S + 500)
    switch = clocks.switch(tmp_path)
    assert switch.paused()
    clocks.pass_s(101)
    assert not switch.paused()


def test_a_file_of_another_program_says_until_alone_and_never_pauses_for_over_a_week(
    tmp_path: Path, clocks: Clocks
) -> None:
    (tmp_path / NAME).write_text('{"v": 1, "until": 900000000000, "who": "mqtt"}')
    switch = clocks.switch(tmp_path)
    assert switch.paused()
    clocks.pass_s(LONGEST_S + LOOK_S)
    assert not switch.paused()


def test_a_spoilt_file_is_an_error_of_ours_pauses_and_can_be_ended(
    tmp_path: Path, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    valid = Pause(WALL_S, 60.0, "first", 5.0).to_bytes()
    assert parse_pause(valid) == Pause(WALL_S, 60.0, "first", 5.0)
    for data in spoilt_json(valid):
        only_ours(lambda data=data: parse_pause(data))  # type: ignore[misc]
    (tmp_path / NAME).write_bytes(b"{")
    switch = clocks.switch(tmp_path)
    with caplog.at_level(logging.ERROR):
        assert switch.paused()
        clocks.pass_s(LOOK_S)
        assert switch.paused()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["pause.unreadable"]
    end_pause(tmp_path)
    clocks.pass_s(LOOK_S)
    assert not switch.paused()
