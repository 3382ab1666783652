"""agent.vision.bodies: what is cut off is no whole body, colours tell coats apart, sharp and large shows most."""

import cv2
import numpy as np
import pytest

from agent.vision.bodies import colours_of, detail, is_whole
from agent.vision.boxes import Region
from agent.vision.tracking import likeness
from tests.vision_scenes import street, with_person

FRAME = (480, 640, 3)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((300, 100, 80, 240), True),  # somebody who stands
        ((300, 200, 150, 160), True),  # who sits
        ((300, 240, 150, 240), True),  # at a desk: the legs are cut off below
        ((300, 100, 240, 160), False),  # a car
        ((300, 380, 140, 100), False),  # hands from below
        ((0, 100, 80, 240), False),  # cut off at the left,
        ((560, 100, 80, 240), False),  # at the right,
        ((300, 0, 80, 240), False),  # and above: no head
        ((300, 100, 10, 240), False),  # a pole
    ],
)
def test_a_body_is_whole_by_its_shape_and_by_where_the_frame_cuts_it(box: Region, whole: bool, scale: float) -> None:
    x, y, width, height = (scale * value for value in box)
    frame = (round(scale * FRAME[0]), round(scale * FRAME[1]), 3)
    assert is_whole((x, y, width, height), frame) is whole


def test_coats_are_told_apart_and_a_step_changes_little() -> None:
    box = (100, 100, 36, 90)
    red, step = (colours_of(with_person(street(), x, 100, "red"), box) for x in (100, 103))
    blue = colours_of(with_person(street(), 100, 100, "blue"), box)
    assert likeness(red, red) == pytest.approx(1)
    assert likeness(red, step) > 0.9
    assert likeness(red, blue) < 0.3
    assert likeness(red, None) == 1


def test_a_box_that_reaches_out_of_the_frame_has_colours() -> None:
    image = street()
    for box in ((-20.0, -20.0, 60.0, 120.0), (380.0, 250.0, 30.0, 90.0), (10.0, 10.0, 1.0, 2.0)):
        assert likeness(colours_of(image, box), colours_of(image, box)) == pytest.approx(1)


def test_sharp_and_large_shows_most() -> None:
    sharp = np.random.default_rng(3).integers(0, 255, (180, 90, 3), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2), np.uint8)
    assert detail(sharp, 0.4) > detail(blurred, 0.4)
    assert detail(sharp, 0.4) > detail(sharp, 0.2)
