"""agent.vision.pipeline: people of the synthetic street get their sightings, whatever happens to the model."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import pytest

from agent.camera.frame import Frame
from agent.vision.cadence import DetectionSettings
from agent.vision.classifier import load_model
from agent.vision.pipeline import FrameResult, Pipeline
from agent.vision.settings import VisionSettings
from agent.vision.zones import Zone
from contract.errors import ReleaseError
from contract.manifest import UNKNOWN, load_bundle
from contract.messages import Sighting
from contract.preprocess import Image
from tests.vision_scenes import BUNDLE, COATS, WIDTH, CoatDetector, FixedModel, passage, street, walk, with_person

FOUR = dataclasses.replace(load_bundle(BUNDLE), version=2, labels=("red", "green", "blue", "yellow"))


class Run:
    """A pipeline and what came out of it."""

    def __init__(self, **settings: Any) -> None:
        self.sightings: list[Sighting] = []
        clock = itertools.count(1_700_000_000)
        self.pipeline = Pipeline(
            "porch",
            VisionSettings(**settings),
            self.sightings.append,
            wall_clock=lambda: float(next(clock)),
        )
        self.number = 0

    def step(self, image: Image, loop: int = 0) -> FrameResult:
        frame = Frame(image, self.number, self.number, self.number / 10, loop)
        self.number += 1
        return self.pipeline.step(frame)

    def steps(self, images: Iterable[Image]) -> list[FrameResult]:
        return [self.step(image) for image in images]

    @property
    def visits(self) -> list[Sighting]:
        """One sighting a visit, as whoever counts them takes them."""
        return [sighting for sighting in self.sightings if sighting.end]


@pytest.mark.parametrize("coat", ["red", "blue"])
def test_a_person_who_walks_by_is_named_once_by_the_real_model(coat: str) -> None:
    run = Run()
    run.pipeline.use(load_model(BUNDLE))
    results = run.steps([*walk(coat), *[street()] * 40])
    assert [sighting.label for sighting in run.visits] == [coat]
    sighting, ended = run.sightings
    assert (sighting.device, sighting.version, sighting.crops) == ("porch", 1, 5)
    assert (sighting.visit, sighting.end, sighting.upgrade) == (ended.visit, None, False)
    assert sighting.confidence > 0.8
    assert sighting.first_frame <= sighting.frame <= sighting.last_frame < ended.last_frame
    assert sighting.start == ended.start
    assert sighting.start.startswith("2023-11-14T22:13:")
    assert sighting.votes == {coat: 5}
    assert [made for result in results for made in result.sightings] == run.sightings


def test_a_still_street_costs_no_crop() -> None:
    run = Run()
    run.pipeline.use(load_model(BUNDLE))
    results = run.steps([street()] * 60)
    assert not any(result.motion or result.boxes or result.crops_classified for result in results)
    assert (run.pipeline.counters.frames, run.pipeline.counters.motion_frames) == (60, 0)


def test_somebody_the_model_does_not_know_is_unknown_when_the_track_ends() -> None:
    run = Run()
    run.pipeline.use(FixedModel([0.4, 0.3, 0.3]))
    run.steps([*walk("red"), *[street()] * 80])
    assert [sighting.label for sighting in run.sightings] == [UNKNOWN]
    assert run.sightings[0].crops > 5


def test_finish_decides_who_is_still_in_view_and_only_once() -> None:
    run = Run()
    run.pipeline.use(FixedModel([0.4, 0.3, 0.3]))
    run.steps(walk("red", 50))
    assert [sighting.label for sighting in run.pipeline.finish()] == [UNKNOWN]
    assert run.pipeline.finish() == []
    assert len(run.sightings) == 1


def test_a_film_that_begins_again_ends_the_tracks_of_the_last_round() -> None:
    run = Run()
    run.pipeline.use(FixedModel([0.4, 0.3, 0.3]))
    run.steps(walk("red", 50))
    assert [sighting.label for sighting in run.step(street(), loop=1).sightings] == [UNKNOWN]


def test_without_a_model_people_are_tracked_and_nobody_is_named() -> None:
    run = Run()
    results = run.steps([*walk("red"), *[street()] * 40])
    assert any(result.tracks for result in results)
    assert sum(result.crops_classified for result in results) == 0
    assert run.sightings == []


def test_a_hot_swap_loses_no_frame_and_never_mixes_votes() -> None:
    run = Run()
    images = list(walk("red"))
    first, second = FixedModel([1.0, 0.0, 0.0]), FixedModel([0.0, 0.0, 0.0, 1.0], FOUR)
    run.pipeline.use(first)
    done = 0
    for image in images:
        run.step(image)
        done += 1
        if len(first.crops) == 4:
            break
    run.pipeline.use(second)
    run.steps(images[done:])
    assert run.pipeline.counters.frames == len(images)
    run.pipeline.finish()
    assert [(sighting.label, sighting.version) for sighting in run.visits] == [("yellow", 2)]
    assert run.sightings[0].votes == {"yellow": 5}


def test_a_track_that_ends_after_a_swap_without_a_new_vote_keeps_the_old_votes() -> None:
    run = Run()
    model = FixedModel([1.0, 0.0, 0.0])
    run.pipeline.use(model)
    for image in walk("red"):
        run.step(image)
        if len(model.crops) == 4:
            break
    run.pipeline.use(FixedModel([0.0, 0.0, 0.0, 1.0], FOUR))
    run.steps([street()] * 60)
    assert [(sighting.label, sighting.version, sighting.crops) for sighting in run.sightings] == [("red", 1, 4)]


def test_a_model_that_fails_raises_and_the_next_one_finishes_the_track() -> None:
    run = Run()
    run.pipeline.use(FixedModel([1.0, 0.0, 0.0], fails_after=2))
    good = FixedModel([0.0, 1.0, 0.0])
    failures = 0
    for image in walk("red"):
        try:
            run.step(image)
        except ReleaseError:
            failures += 1
            run.pipeline.use(good)
    assert failures == 1
    run.pipeline.finish()
    assert [sighting.label for sighting in run.visits] == ["green"]
    assert run.sightings[0].crops == 5
    assert len({sighting.track for sighting in run.sightings}) == 1


def test_a_model_that_fails_loses_no_sighting_of_a_track_that_ended() -> None:
    run = Run()
    run.pipeline.use(FixedModel([1.0, 0.0, 0.0]))
    run.steps(walk("red", 30))
    run.pipeline.use(FixedModel([0.4, 0.3, 0.3], fails_after=0))
    for image in [*[street()] * 80, *walk("blue", 20, still=0)]:
        with contextlib.suppress(ReleaseError):
            run.step(image)
    assert [sighting.label for sighting in run.visits] == ["red"]


@pytest.mark.slow
def test_use_may_come_from_another_thread_at_any_moment() -> None:
    run = Run()
    models = [load_model(BUNDLE), FixedModel([0.0, 0.0, 0.0, 1.0], FOUR), None]
    stop = threading.Event()

    def swap() -> None:
        for model in itertools.cycle(models):
            run.pipeline.use(model)
            if stop.wait(0.001):
                return

    thread = threading.Thread(target=swap)
    thread.start()
    run.steps([*walk("red"), *walk("blue"), *walk("red")])
    stop.set()
    thread.join()
    assert run.pipeline.counters.frames == 240
    assert all(sighting.label in (*FOUR.labels, UNKNOWN) for sighting in run.sightings)


def test_crops_are_cut_from_the_person() -> None:
    run = Run()
    model = FixedModel([1.0, 0.0, 0.0])
    run.pipeline.use(model)
    run.steps(walk("red"))
    assert len(model.crops) >= 5
    for picture in model.crops:
        blue, green, red = picture.reshape(-1, 3).mean(0)
        assert red > 1.5 * max(blue, green), f"mostly {COATS['red']}"


def test_the_counters_add_up() -> None:
    run = Run()
    run.pipeline.use(FixedModel([1.0, 0.0, 0.0]))
    results = run.steps(walk("red"))
    fields = run.pipeline.counters.fields()
    assert fields["frames"] == len(results)
    assert fields["motion_frames"] == sum(result.motion for result in results)
    assert fields["crops"] == sum(result.crops_classified for result in results)
    assert fields["sightings"] == len(run.sightings) == 1
    assert fields["motion_ms"] + fields["detect_ms"] > fields["tracking_ms"] > 0


# --- with a detector ------------------------------------------------------------------------------------------------


def sees(row: Iterable[float] = (1.0, 0.0, 0.0), **options: Any) -> FixedModel:
    return FixedModel(list(row), detector=CoatDetector(), **options)


def visit(fps: float, scale: float = 1.0) -> tuple[Run, FixedModel]:
    run, model = Run(), sees()
    run.pipeline.use(model, "a")
    for frame in passage(fps, scale=scale):
        run.pipeline.step(frame)
    return run, model


@pytest.mark.parametrize("fps", [2, 3, 5, 7.5, 10, 12, 15, 25, 30, 60])
def test_a_visit_is_one_sighting_at_any_frame_rate(fps: float) -> None:
    run, model = visit(fps)
    assert [(sighting.label, sighting.upgrade) for sighting in run.sightings] == [("red", False)] * 2
    assert len({sighting.visit for sighting in run.sightings}) == 1
    assert run.visits[0].slot == "a"
    assert run.visits[0].last_frame - run.visits[0].first_frame == pytest.approx(5.5 * fps, abs=0.7 * fps)
    assert model.detector is not None
    assert model.detector.asked <= 6 * 11, "some five looks a second, whatever the camera gives"


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 2.0, 4.0])
def test_a_visit_is_one_sighting_at_any_resolution(scale: float) -> None:
    run, _ = visit(10, scale)
    [told], [usual] = run.visits, visit(10)[0].visits
    assert (told.first_frame, told.last_frame, told.crops) == (usual.first_frame, usual.last_frame, usual.crops)
    assert told.picture == (scale * usual.picture[0], scale * usual.picture[1])


def test_people_are_found_on_the_small_picture_and_cut_out_of_the_large_one() -> None:
    run, model = Run(), sees()
    run.pipeline.use(model, "a")
    for small, large in zip(passage(10), passage(10, scale=3.0), strict=True):
        run.pipeline.step(dataclasses.replace(small, large=large.image))
    usual, crops = visit(10)
    assert run.visits[0].box == usual.visits[0].box
    assert run.visits[0].picture == usual.visits[0].picture
    assert len(model.crops) == len(crops.crops)
    for large_crop, crop in zip(model.crops, crops.crops, strict=True):
        assert np.divide(large_crop.shape[:2], crop.shape[:2]) == pytest.approx((3.0, 3.0), rel=0.06)
        assert large_crop.mean((0, 1)) == pytest.approx(crop.mean((0, 1)), abs=6.0)


def test_an_empty_room_is_looked_at_seldom_and_who_sits_there_from_the_start_is_found() -> None:
    run, model = Run(), sees()
    run.pipeline.use(model)
    run.steps([street()] * 600)
    assert model.detector is not None
    assert model.detector.asked <= 4
    sitting = Run()
    sitting.pipeline.use(sees())
    sitting.steps([with_person(street(), 100, 100, "red")] * 100)
    assert [sighting.label for sighting in sitting.sightings] == ["red"]


@pytest.mark.slow
def test_who_stands_still_stays_and_costs_two_looks_a_second() -> None:
    run, model = Run(), sees()
    run.pipeline.use(model)
    image = with_person(street(), 150, 100, "blue")
    run.steps([*walk("blue", 35), *[image] * 600])
    assert model.detector is not None
    before = model.detector.asked
    run.steps([image] * 600)
    assert 100 <= model.detector.asked - before <= 125
    assert len(run.sightings) == 1
    assert not run.visits, "still there"
    run.steps([street()] * 150)
    assert len(run.visits) == 1


def test_two_people_are_two_sightings() -> None:
    run = Run()
    run.pipeline.use(sees())
    scene = street()
    for number in range(40):
        run.step(with_person(with_person(scene, 20 + 4 * number, 60, "red"), 300 - 4 * number, 170, "blue"))
    run.steps([scene] * 130)
    assert len(run.visits) == 2
    assert len({sighting.visit for sighting in run.visits}) == 2


def test_who_is_cut_off_by_the_edge_casts_no_vote_and_an_arm_is_nobody() -> None:
    run, model = Run(), sees()
    run.pipeline.use(model)
    run.steps([with_person(street(), WIDTH - 20, 100, "red")] * 60)
    run.steps([street()] * 150)
    assert model.crops == []
    assert run.sightings == []


def test_crops_are_taken_when_they_are_sharpest() -> None:
    run, model = Run(), sees()
    run.pipeline.use(model)
    for number in range(60):
        image = with_person(street(), 100 + number, 100, "red")
        image[130:132, 104 + number : 132 + number] = 0
        run.step(image if number % 4 < 2 else cv2.GaussianBlur(image, (0, 0), 3))
    sharp = [float(cv2.Laplacian(crop, cv2.CV_32F).var()) for crop in model.crops[1:]]
    assert len(sharp) >= 4
    assert min(sharp) > 0.5 * max(sharp)


def test_zones_are_told_by_the_feet() -> None:
    left, right = (((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), ((0.7, 0.0), (1.0, 0.0), (1.0, 1.0), (0.7, 1.0)))
    run = Run(zones=(Zone("left", left), Zone("right", right)))
    run.pipeline.use(sees())
    for place in (80, 210, 310):
        run.steps([with_person(street(), place + number // 4, 100, "red") for number in range(40)])
        run.steps([street()] * 150)
    assert [sighting.zone for sighting in run.visits] == ["left", None, "right"]


def test_motion_of_no_person_is_told_only_where_it_is_asked_for() -> None:
    for other in (False, True):
        run = Run(detection=DetectionSettings(other_motion=other))
        run.pipeline.use(sees())
        cat = [cv2.circle(street(), (20 + 5 * number, 200), 15, (0, 0, 0), -1) for number in range(40)]
        results = run.steps([*[street()] * 20, *cat])
        assert any(result.motion for result in results) is other
        assert run.sightings == []


def test_a_pause_ends_the_visit_and_after_it_is_another_one() -> None:
    run = Run()
    run.pipeline.use(sees())
    run.steps([with_person(street(), 150, 100, "red")] * 60)
    run.pipeline.rest()
    assert len(run.visits) == 1
    run.steps([with_person(street(), 150, 100, "red")] * 60)
    run.pipeline.finish()
    assert len(run.visits) == 2


def test_a_hot_swap_brings_another_detector_and_keeps_the_visit() -> None:
    run, first, second = Run(), sees(), sees()
    run.pipeline.use(first)
    images = [with_person(street(), 100 + number, 100, "red") for number in range(60)]
    run.steps(images[:30])
    run.pipeline.use(second)
    run.steps(images[30:])
    run.pipeline.finish()
    assert first.detector is not None
    assert second.detector is not None
    assert min(first.detector.asked, second.detector.asked) >= 10
    assert len(run.visits) == 1


def test_a_release_without_a_detector_after_one_with_it_has_boxes_of_motion() -> None:
    run = Run()
    run.pipeline.use(sees())
    run.steps(walk("red", 40))
    run.pipeline.use(FixedModel([1.0, 0.0, 0.0]))
    run.steps([*[street()] * 60, *walk("red", 60, still=0), *[street()] * 60])
    assert len(run.visits) == 2


def test_a_detector_that_fails_raises_and_the_next_one_goes_on_with_the_visit() -> None:
    run = Run()
    run.pipeline.use(FixedModel([1.0, 0.0, 0.0], detector=CoatDetector(fails_after=20)))
    failures = 0
    for image in walk("red"):
        try:
            run.step(image)
        except ReleaseError:
            failures += 1
            run.pipeline.use(sees())
    run.pipeline.finish()
    assert failures == 1
    assert len(run.visits) == 1
