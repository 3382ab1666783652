"""agent.vision.tracking: one box, one track; ids never come back; tracks end."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vision.tracking import Advance, Track, Tracks, TrackSettings, advance, counts
from contract.preprocess import Box

SETTINGS = TrackSettings()
BOX = st.tuples(st.integers(0, 700), st.integers(0, 500), st.integers(5, 90), st.integers(20, 150))
VIDEO = st.lists(st.lists(BOX, max_size=5), max_size=30)


def run(video: list[list[Box]], settings: TrackSettings = SETTINGS) -> list[Advance]:
    tracks, done = Tracks(), []
    for number, boxes in enumerate(video):
        done.append(advance(tracks, boxes, number, settings))
        tracks = done[-1].tracks
    return done


def seen_ids(done: list[Advance]) -> list[set[int]]:
    return [{track.id for track in step.seen} for step in done]


@given(VIDEO, st.integers(1, 6))
def test_every_box_has_one_living_track_and_no_track_two_boxes(video: list[list[Box]], hits: int) -> None:
    for boxes, step in zip(video, run(video, TrackSettings(least_hits=hits)), strict=True):
        newest = max((track.last_frame for track in step.tracks.living), default=-1)
        now = [track.box for track in step.tracks.living if boxes and track.last_frame == newest]
        assert sorted(now) == sorted(boxes)


@given(VIDEO)
def test_ids_are_new_and_never_come_back(video: list[list[Box]]) -> None:
    gone: set[int] = set()
    before: set[int] = set()
    for step in run(video):
        ids = {track.id for track in step.tracks.living}
        assert len(ids) == len(step.tracks.living)
        assert not ids & gone
        gone |= before - ids
        before = ids
        assert all(track_id < step.tracks.next_id for track_id in ids)


@given(VIDEO)
def test_a_counted_track_ends_exactly_once(video: list[list[Box]]) -> None:
    done = run(video + [[]] * (SETTINGS.timeout_frames + 2))
    counted = set().union(*seen_ids(done))
    ended = [track.id for step in done for track in step.ended]
    assert sorted(ended) == sorted(counted)
    assert not done[-1].tracks.living


@given(VIDEO, st.randoms(use_true_random=False))
def test_the_order_of_boxes_changes_no_box_but_the_ids(video: list[list[Box]], random: Random) -> None:
    shuffled = [random.sample(boxes, len(boxes)) for boxes in video]
    for first, second in zip(run(video), run(shuffled), strict=True):
        assert len(first.tracks.living) == len(second.tracks.living)


def test_a_walk_with_gaps_is_one_track() -> None:
    video = [[] if number % 7 in (3, 4, 5) else [(4 * number, 100, 40, 100)] for number in range(60)]
    ids = set().union(*seen_ids(run(video)))
    assert ids == {1}


def test_two_people_who_pass_each_other_in_one_box_keep_their_tracks() -> None:
    video: list[list[Box]] = []
    for number in range(60):
        left, right = 20 + 6 * number, 374 - 6 * number
        apart = abs(left - right) > 40
        both = (min(left, right), 100, abs(left - right) + 40, 100)
        video.append([(left, 100, 40, 100), (right, 104, 40, 96)] if apart else [both])
    done = run(video)
    tracks = {track.id: track for track in done[-1].seen}
    assert tracks[1].box[0] == 20 + 6 * 59, "the one who walks right"
    assert tracks[2].box[0] == 374 - 6 * 59, "the one who walks left"


def test_a_shared_box_is_not_alone() -> None:
    one, two = (100, 100, 40, 100), (160, 100, 40, 100)
    video: list[list[Box]] = [[one, two]] * 8 + [[(110, 100, 80, 100)]]
    last = run(video, TrackSettings(most_growth=3.0))[-1]
    assert [track.alone for track in last.seen] == [False]
    assert all(track.alone for track in run(video)[7].seen)


def test_a_flicker_never_counts() -> None:
    assert not any(seen_ids(run([[(10, 10, 30, 80)]] * (SETTINGS.least_hits - 1) + [[]] * 40)))


def test_a_box_far_away_is_another_thing() -> None:
    ids = seen_ids(run([[(10, 10, 30, 80)]] * 10 + [[(300, 10, 30, 80)]] * 10))
    assert set().union(*ids) == {1, 2}


def test_a_frame_from_the_past_is_refused() -> None:
    tracks = advance(Tracks(), [(1, 1, 9, 30)], 5, SETTINGS).tracks
    with pytest.raises(ValueError, match="frame 5"):
        advance(tracks, [], 5, SETTINGS)


def test_settings_without_a_living_track_are_refused() -> None:
    for wrong in ({"timeout_frames": 0}, {"least_hits": 0}, {"reach": 0.0}, {"most_growth": 1.0}):
        with pytest.raises(ValueError):
            TrackSettings(**wrong)


def test_counting_needs_least_hits() -> None:
    assert not counts(Track(1, (0, 0, 9, 30), 3, hits=4), SETTINGS)
    assert counts(Track(1, (0, 0, 9, 30), 4, hits=5), SETTINGS)
