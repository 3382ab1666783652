"""The split by time: what is promised about train and test, for any frames."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cloud_tools.datasets.splits import GAP, HOLE_FRAMES, TEST, TRAIN, split_by_time, split_visits

FRAMES = st.lists(st.integers(0, 2000), min_size=1, max_size=200, unique=True).map(sorted)


@given(FRAMES)
def test_visits_are_the_frames_in_order_and_break_only_at_holes(frames: list[int]) -> None:
    visits = split_visits(frames)
    assert [frame for visit in visits for frame in visit] == frames
    for before, after in itertools.pairwise(visits):
        assert after[0] - before[-1] > HOLE_FRAMES
    for visit in visits:
        assert all(b - a <= HOLE_FRAMES for a, b in itertools.pairwise(visit))


@given(FRAMES, st.floats(0, 100))
def test_no_test_crop_is_within_the_gap_of_a_train_crop(frames: list[int], gap: float) -> None:
    sides = split_by_time(split_visits(frames), gap)
    train = [frame for frame, side in sides.items() if side == TRAIN]
    test = [frame for frame, side in sides.items() if side == TEST]
    assert train
    assert all(abs(a - b) >= gap for a in train for b in test)


@given(FRAMES, st.floats(0, 100))
def test_every_frame_has_one_side_and_train_comes_first_in_each_visit(frames: list[int], gap: float) -> None:
    visits = split_visits(frames)
    sides = split_by_time(visits, gap)
    assert sorted(sides) == frames
    for visit in visits:
        said = [sides[frame] for frame in visit]
        cut = said.count(TRAIN)
        assert cut == max(1, len(visit) * 60 // 100)
        assert set(said[:cut]) == {TRAIN}
        assert set(said[cut:]) <= {TEST, GAP}


def test_ten_frames_a_second_without_a_gap_split_six_to_four() -> None:
    sides = split_by_time([list(range(10))], 0)
    assert list(sides.values()) == [TRAIN] * 6 + [TEST] * 4


def test_a_gap_drops_the_near_duplicates_after_the_cut() -> None:
    sides = split_by_time([list(range(10))], 3)
    assert list(sides.values()) == [TRAIN] * 6 + [GAP] * 2 + [TEST] * 2
