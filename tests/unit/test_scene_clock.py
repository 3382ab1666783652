"""agent.vision.scene_clock: time passes as in the picture, and never back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.camera.frame import Frame
from agent.vision.scene_clock import LONGEST_S, SceneClock

IMAGE = np.zeros((2, 2, 3), np.uint8)
FRAMES = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(0, 3)), max_size=30)


def times(*frames: tuple[float, float, int]) -> list[float]:
    """Of frames given as (position, time of reading, loop)."""
    clock = SceneClock()
    return [clock.at(Frame(IMAGE, 0, 0, read_s, loop, position_s)) for position_s, read_s, loop in frames]


def test_a_file_at_eight_times_its_pace_takes_as_long_as_it_shows() -> None:
    assert times((0.0, 50.0, 0), (0.8, 50.1, 0), (1.6, 50.2, 0)) == [0.0, 0.8, 1.6]


def test_a_device_without_positions_has_the_time_of_reading() -> None:
    assert times((0.0, 7.0, 0), (0.0, 7.25, 0), (0.0, 7.5, 0)) == [0.0, 0.25, 0.5]


def test_between_two_connections_and_rounds_the_time_of_reading_goes_on() -> None:
    assert times((9.0, 1.0, 0), (0.0, 1.5, 0), (0.25, 1.5, 0), (0.5, 2.5, 1)) == [0.0, 0.5, 0.75, 1.75]


def test_a_container_that_jumps_by_hours_costs_no_hours() -> None:
    assert times((0.0, 1.0, 0), (LONGEST_S + 1, 1.5, 0)) == [0.0, 0.5]


@given(FRAMES)
def test_it_never_goes_back(frames: list[tuple[float, float, int]]) -> None:
    found = times(*frames)
    assert found == sorted(found)
