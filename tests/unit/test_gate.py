"""agent.vision.gate: it opens for what moves, at any rate and resolution, and for nothing else."""

from collections.abc import Iterable

import cv2
import numpy as np
import pytest

from agent.vision.gate import Gate, Look
from contract.preprocess import Image
from tests.vision_scenes import HEIGHT, WIDTH, passage, street, with_person


def looks(images: Iterable[Image], fps: float = 10.0) -> list[Look]:
    gate = Gate()
    return [look for number, image in enumerate(images) if (look := gate.look(image, number / fps))]


@pytest.mark.slow
@pytest.mark.parametrize("fps", [2, 3, 5, 10, 25, 60])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_it_is_open_while_somebody_walks_and_shut_when_they_are_gone(fps: float, scale: float) -> None:
    gate = Gate()
    found = [look for frame in passage(fps, scale=scale) if (look := gate.look(frame.image, frame.time_s))]
    open_s = [look.time_s for look in found if look.open]
    assert len(found) <= 13 * 11, "some ten looks a second at most"
    assert open_s[0] < 1.6
    assert 5.5 <= open_s[-1] <= 8.5
    assert not found[-1].open


def test_noise_and_a_frozen_picture_open_nothing() -> None:
    random = np.random.default_rng(5)
    noisy = (np.clip(street() + random.normal(0, 4, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8) for _ in range(60))
    assert not any(look.open or look.scene for look in looks(noisy))
    assert not any(look.open for look in looks([with_person(street(), 100, 100, "blue")] * 60))


def test_one_flicker_opens_nothing() -> None:
    images = [street()] * 20 + [with_person(street(), 200, 100, "red")] + [street()] * 20
    assert not any(look.open for look in looks(images))


def test_a_light_switch_is_a_change_of_the_scene_and_opens_nothing() -> None:
    dark = (street() * 0.5).astype(np.uint8)
    found = looks([street()] * 20 + [dark] * 20)
    assert any(look.scene for look in found)
    assert not any(look.open for look in found)


def test_frames_that_come_too_soon_cost_nothing() -> None:
    gate = Gate()
    assert gate.look(street(), 1.0)
    assert gate.look(street(), 1.03) is None
    assert gate.look(street(), 1.1)


def test_a_portrait_camera_is_looked_at_as_closely() -> None:
    tall = np.asarray(cv2.resize(street(), (768, 1366)), np.uint8)
    [look] = looks([tall])
    assert max(look.plane.shape) <= 1.5 * 384
