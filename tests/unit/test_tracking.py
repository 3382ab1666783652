"""agent.vision.tracking: one person, one track; ids never come back; tracks end; no rate or resolution matters."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vision.tracking import Advance, Colours, Observation, Track, Tracks, TrackSettings, advance, counts

SETTINGS = TrackSettings()
RED, BLUE = (1.0, 0.0), (0.0, 1.0)  # colours that have nothing in common
BOX = st.tuples(
    st.integers(0, 700).map(float), st.integers(0, 500).map(float), st.integers(5, 90), st.integers(20, 150)
)
SEEN = st.builds(Observation, BOX, st.booleans(), st.booleans(), st.sampled_from([None, RED, BLUE]))
VIDEO = st.lists(st.lists(SEEN, max_size=5), max_size=30)
LOOK_S = 0.2


def run(
    video: Sequence[Sequence[Observation]], look_s: float = LOOK_S, settings: TrackSettings = SETTINGS
) -> list[Advance]:
    tracks, done = Tracks(), []
    for number, found in enumerate(video):
        done.append(advance(tracks, found, number * look_s, settings))
        tracks = done[-1].tracks
    return done


def person(x: float, y: float = 100, colours: Colours | None = None, *, height: float = 100) -> Observation:
    return Observation((x, y, 0.4 * height, height), colours=colours)


def seen_ids(done: list[Advance]) -> list[set[int]]:
    return [{track.id for track in step.seen} for step in done]


def ids(done: list[Advance]) -> set[int]:
    return set().union(*seen_ids(done))


def walk(look_s: float, seconds: float = 8.0, scale: float = 1.0) -> list[list[Observation]]:
    """A person who walks in, stands for two seconds and goes back: 1.2 of their heights a second."""
    video = []
    for number in range(round(seconds / look_s)):
        time_s = number * look_s
        away = time_s if time_s < 3 else 3 if time_s < 5 else max(0.0, 8 - time_s)
        video.append([Observation((scale * 120 * away, scale * 100, scale * 40, scale * 100))])
    return video


@pytest.mark.slow
@given(VIDEO)
def test_every_sure_detection_has_at_most_one_track_and_no_track_two(video: list[list[Observation]]) -> None:
    for number, (found, step) in enumerate(zip(video, run(video), strict=True)):
        now = [track.box for track in step.tracks.living if track.last_s == number * LOOK_S]
        rest = [one.box for one in found]
        for box in now:
            rest.remove(box)


@pytest.mark.slow
@given(VIDEO)
def test_ids_are_new_and_never_come_back(video: list[list[Observation]]) -> None:
    gone: set[int] = set()
    before: set[int] = set()
    for step in run(video):
        now = {track.id for track in step.tracks.living}
        assert len(now) == len(step.tracks.living)
        assert not now & gone
        gone |= before - now
        before = now
        assert all(track_id < step.tracks.next_id for track_id in now)


@pytest.mark.slow
@given(VIDEO)
def test_a_counted_track_ends_exactly_once(video: list[list[Observation]]) -> None:
    done = run([*video, *[[]] * (round(SETTINGS.still_memory_s / LOOK_S) + 2)])
    ended = [track.id for step in done for track in step.ended]
    assert sorted(ended) == sorted(ids(done))
    assert not done[-1].tracks.living


@pytest.mark.slow
@given(VIDEO, st.randoms(use_true_random=False))
def test_the_order_of_detections_changes_nothing(video: list[list[Observation]], random: Random) -> None:
    shuffled = [random.sample(found, len(found)) for found in video]
    for first, second in zip(run(video), run(shuffled), strict=True):
        assert [(one.id, one.box, one.hits) for one in first.tracks.living] == [
            (one.id, one.box, one.hits) for one in second.tracks.living
        ]


@pytest.mark.slow
@given(VIDEO, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_a_camera_of_another_resolution_gives_the_same_tracks(video: list[list[Observation]], scale: float) -> None:
    """Powers of two: no rounding, so that the very same comparisons come out."""

    def scaled(one: Observation) -> Observation:
        x, y, width, height = one.box
        return Observation((scale * x, scale * y, scale * width, scale * height), one.sure, one.whole, one.colours)

    for first, second in zip(run(video), run([[scaled(one) for one in found] for found in video]), strict=True):
        assert [(one.id, one.hits, one.clear) for one in first.tracks.living] == [
            (one.id, one.hits, one.clear) for one in second.tracks.living
        ]


@pytest.mark.parametrize("look_s", [0.5, 0.34, 0.25, 0.2, 0.17])
@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_a_walk_is_one_track_at_any_rate_and_resolution(look_s: float, scale: float) -> None:
    done = run(walk(look_s, scale=scale), look_s)
    assert ids(done) == {1}
    assert len(done[-1].seen) == 1


def test_a_walk_with_gaps_is_one_track() -> None:
    video = [found if number % 7 not in (3, 4, 5) else [] for number, found in enumerate(walk(LOOK_S))]
    assert ids(run(video)) == {1}


def test_who_is_perhaps_there_goes_on_with_a_track_and_begins_none() -> None:
    doubtful = [[Observation(one.box, sure=False)] for [one] in walk(LOOK_S)]
    assert ids(run(doubtful)) == set()
    assert ids(run([*walk(LOOK_S)[:5], *doubtful[5:]])) == {1}


def test_who_stands_still_is_waited_for_longer_than_who_walked_away() -> None:
    still = [[person(200)]] * 20
    away = [[]] * 20
    assert ids(run([*still, *away, *still])) == {1}
    left = [[person(20.0 * number)] for number in range(20)]
    assert len(ids(run([*left, *away, *left[-3:]]))) == 2


def test_two_people_who_pass_each_other_keep_their_tracks() -> None:
    video = []
    for number in range(30):
        left, right = 20 + 12 * number, 374 - 12 * number
        apart = abs(left - right) > 20
        both = [person(left, colours=RED), person(right, 104, BLUE, height=96)]
        video.append(both if apart else both[:1])
    tracks = {track.id: track for track in run(video)[-1].seen}
    assert set(tracks) == {1, 2}
    assert sorted((track.box[0], track.colours) for track in tracks.values()) == [(26, BLUE), (368, RED)]


def test_after_contact_another_colour_is_another_person() -> None:
    together = [[person(100, colours=RED), person(110, colours=BLUE)]] * 6
    after = [[person(105, colours=(0.0, 0.0, 1.0)[:2])]] * 6
    done = run([*together, *after])
    assert not ids(done[-3:]) & ids(done[:6])


def test_colours_are_not_asked_while_nobody_is_near() -> None:
    turning = [[person(100 + 5 * number, colours=RED if number % 2 else BLUE)] for number in range(20)]
    assert ids(run(turning)) == {1}


def test_somebody_in_the_box_makes_it_unclear() -> None:
    apart = [[person(100), person(200)]] * 5
    near = [[person(100), person(120)]]
    done = run([*apart, *near])
    assert [track.clear for track in done[4].seen] == [True, True]
    assert [track.clear for track in done[5].seen if track.box[0] == 100] == [False]


def test_a_flicker_never_counts() -> None:
    assert not ids(run([*[[person(10)]] * (SETTINGS.least_hits - 1), *[[]] * 40]))


def test_an_arm_never_counts_until_a_body_follows() -> None:
    arm = [[Observation((0, 100, 120, 60), whole=False)]] * 20
    assert not ids(run(arm))
    body = [[Observation((10, 100, 120, 90))]] * 5
    assert ids(run([*arm, *body])) == {1}


def test_a_detection_far_away_is_another_person() -> None:
    assert ids(run([*[[person(10)]] * 10, *[[person(400)]] * 10])) == {1, 2}


def test_half_of_a_person_begins_no_second_track() -> None:
    head = Observation((110, 100, 20, 30))
    assert ids(run([[person(100), head]] * 10)) == {1}


def test_a_look_from_the_past_is_refused() -> None:
    tracks = advance(Tracks(), [person(1)], 5, SETTINGS).tracks
    with pytest.raises(ValueError, match="a look at 5"):
        advance(tracks, [], 5, SETTINGS)


def test_settings_without_a_living_track_are_refused() -> None:
    for wrong in ({"memory_s": 0.1}, {"least_hits": 0}, {"reach": 0.0}, {"most_growth": 1.0}, {"most_jump": 1.0}):
        with pytest.raises(ValueError):
            TrackSettings(**wrong)


def test_counting_needs_least_hits() -> None:
    assert not counts(Track(1, (0, 0, 9, 30), 0, 3, hits=2, whole_hits=2), SETTINGS)
    assert counts(Track(1, (0, 0, 9, 30), 0, 4, hits=3, whole_hits=2), SETTINGS)
    assert not counts(Track(1, (0, 0, 9, 30), 0, 4, hits=9, whole_hits=1), SETTINGS)
