"""agent.vision.motion: what moves is found, what only changes is not."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vision.gate import Gate, GateSettings
from agent.vision.motion import MotionDetector, MotionSettings, join_near
from contract.errors import InputError
from contract.preprocess import Box, Image
from tests.vision_scenes import HEIGHT, PERSON, WIDTH, street, walk, with_person


def find_all(images: Iterable[Image], detector: MotionDetector | None = None, fps: float = 10.0) -> list[list[Box]]:
    """Return the boxes of each look; at 10 frames a second every frame is looked at."""
    detector, gate = detector or MotionDetector(), Gate()
    looks = (gate.look(image, number / fps) for number, image in enumerate(images))
    return [detector.find(look) for look in looks if look]


def test_a_walking_person_is_one_box_in_the_right_place() -> None:
    boxes = find_all(walk("red"))
    late = boxes[45:75]
    assert all(len(found) == 1 for found in late)
    for number, [(x, y, width, height)] in enumerate(late, 45):
        assert abs(x - ((number - 20) * 5 - PERSON[0])) <= 10
        assert abs(y - 120) <= 6
        assert abs(width - PERSON[0]) <= 16
        assert abs(height - PERSON[1]) <= 10


@pytest.mark.slow
def test_boxes_are_in_pixels_of_a_large_frame() -> None:
    large = [np.repeat(np.repeat(image, 4, 0), 4, 1) for image in walk("red")]
    [(x, y, _, height)] = find_all(large)[60]
    assert abs(x - 4 * (40 * 5 - PERSON[0])) <= 40
    assert abs(y - 480) <= 24
    assert abs(height - 360) <= 40


def test_a_frozen_frame_has_no_motion() -> None:
    assert not any(find_all([with_person(street(), 100, 100, "blue")] * 100))


@pytest.mark.slow
def test_camera_noise_is_no_motion() -> None:
    random = np.random.default_rng(5)
    noisy = (np.clip(street() + random.normal(0, 4, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8) for _ in range(80))
    assert not any(find_all(noisy))


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_a_light_switch_fires_nothing_and_blinds_for_a_moment(factor: float) -> None:
    detector = MotionDetector()
    before = street()
    after = np.clip(before * factor, 0, 255).astype(np.uint8)
    assert not any(find_all([before] * 40 + [after] * 80, detector))
    assert 0 < detector.blind_frames <= 12, "about a second"


def test_a_person_is_found_again_after_a_light_switch() -> None:
    dark = [(image * 0.6).astype(np.uint8) for image in walk("red")]
    assert all(find_all([street()] * 30 + dark)[30 + 50 : 30 + 75])


def test_a_coat_of_the_brightness_of_the_street_is_not_seen() -> None:
    """A limit, kept here so that it is known: motion sees luma, not colour."""
    dark = [(image * 0.6).astype(np.uint8) for image in walk("green")]
    assert not any(find_all(dark))


def test_one_flicker_opens_nothing() -> None:
    scene = street()
    images = [scene] * 30 + [with_person(scene, 200, 100, "red")] + [scene] * 30
    assert not any(find_all(images))


def test_a_camera_that_shakes_is_blind_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(2)
    scene = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    detector = MotionDetector(MotionSettings(blind_s=2.0))
    assert not any(find_all((np.roll(scene, 7 * n % 11, 1) for n in range(60)), detector))
    assert [record.message.split()[0] for record in caplog.records] == ["motion.blind"]
    assert detector.blind_frames > 50


def test_a_change_of_resolution_starts_anew() -> None:
    detector = MotionDetector()
    find_all(walk("red"), detector)
    assert not any(find_all([np.zeros((120, 160, 3), np.uint8)] * 20, detector))


@pytest.mark.parametrize("image", [np.zeros((10, 10), np.uint8), np.zeros((10, 10, 3), np.float32)])
def test_what_is_no_frame_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="a frame must be"):
        Gate().look(image, 0.0)


def test_settings_that_find_nothing_are_refused() -> None:
    for wrong in ({"lag_s": 0}, {"confirm": 6}, {"threshold": 0}, {"scene_share": 0.0}):
        with pytest.raises(ValueError):
            GateSettings(**wrong)
    with pytest.raises(ValueError):
        MotionSettings(live_s=0.0)


BOXES = st.lists(st.tuples(*[st.integers(0, 100)] * 2, *[st.integers(1, 60)] * 2), max_size=8)


@given(BOXES)
def test_joining_boxes_covers_all_and_is_final(boxes: list[Box]) -> None:
    joined = join_near(boxes, 4)
    assert join_near(joined, 4) == joined
    for x, y, width, height in boxes:
        assert any(a <= x and b <= y and x + width <= a + c and y + height <= b + d for a, b, c, d in joined)


def test_pieces_above_each_other_join_and_neighbours_do_not() -> None:
    assert join_near([(10, 10, 20, 30), (12, 42, 18, 30)], 4) == [(10, 10, 20, 62)]
    assert len(join_near([(10, 10, 20, 60), (31, 10, 20, 60)], 4)) == 2
