"""agent.vision.pipeline: people of the synthetic street get their sightings, whatever happens to the model."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterable

import pytest

from agent.camera.frame import Frame
from agent.vision.classifier import load_classifier
from agent.vision.pipeline import FrameResult, Pipeline, PipelineSettings
from contract.errors import ReleaseError
from contract.manifest import UNKNOWN, load_bundle
from contract.messages import Sighting
from contract.preprocess import Image
from tests.vision_scenes import BUNDLE, COATS, FixedModel, street, walk

FOUR = dataclasses.replace(load_bundle(BUNDLE), version=2, labels=("red", "green", "blue", "yellow"))


class Run:
    """A pipeline and what came out of it."""

    def __init__(self) -> None:
        self.sightings: list[Sighting] = []
        clock = itertools.count(1_700_000_000)
        self.pipeline = Pipeline(
            PipelineSettings("porch"), self.sightings.append, wall_clock=lambda: float(next(clock))
        )
        self.number = 0

    def step(self, image: Image, loop: int = 0) -> FrameResult:
        frame = Frame(image, self.number, self.number, self.number / 10, loop)
        self.number += 1
        return self.pipeline.step(frame)

    def steps(self, images: Iterable[Image]) -> list[FrameResult]:
        return [self.step(image) for image in images]


@pytest.mark.parametrize("coat", ["red", "blue"])
def test_a_person_who_walks_by_is_named_once_by_the_real_model(coat: str) -> None:
    run = Run()
    run.pipeline.use(load_classifier(BUNDLE))
    results = run.steps([*walk(coat), *[street()] * 40])
    assert [sighting.label for sighting in run.sightings] == [coat]
    sighting = run.sightings[0]
    assert (sighting.device, sighting.version, sighting.crops) == ("porch", 1, 5)
    assert sighting.confidence > 0.8
    assert sighting.first_frame < sighting.frame == sighting.last_frame
    assert sighting.first_seen.startswith("2023-11-14T22:13:")
    assert [made for result in results for made in result.sightings] == run.sightings


def test_a_still_street_costs_no_crop() -> None:
    run = Run()
    run.pipeline.use(load_classifier(BUNDLE))
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
    assert [(sighting.label, sighting.version, sighting.crops) for sighting in run.sightings] == [("yellow", 2, 5)]


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
    assert [(sighting.label, sighting.crops) for sighting in run.sightings] == [("green", 5)]
    assert len({sighting.track for sighting in run.sightings}) == 1


def test_a_model_that_fails_loses_no_sighting_of_a_track_that_ended() -> None:
    run = Run()
    run.pipeline.use(FixedModel([1.0, 0.0, 0.0]))
    run.steps(walk("red", 30))
    run.pipeline.use(FixedModel([0.4, 0.3, 0.3], fails_after=0))
    for image in [*[street()] * 80, *walk("blue", 20, still=0)]:
        with contextlib.suppress(ReleaseError):
            run.step(image)
    assert [sighting.label for sighting in run.sightings] == ["red"]


def test_use_may_come_from_another_thread_at_any_moment() -> None:
    run = Run()
    models = [load_classifier(BUNDLE), FixedModel([0.0, 0.0, 0.0, 1.0], FOUR), None]
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
    assert fields["motion_ms"] > fields["tracking_ms"] > 0
