"""agent.vision.zones and hours: where and when the agent looks."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.config import AgentConfig
from agent.vision.hours import HourSettings
from agent.vision.zones import Mask, Zone, masked, zone_of
from contract.config import load_config
from contract.errors import ConfigError
from tests.vision_scenes import passage

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


@pytest.mark.parametrize("size", [(288, 384), (1080, 1920), (640, 360)])
def test_a_zone_holds_who_stands_in_it_at_any_resolution_and_aspect(size: tuple[int, int]) -> None:
    height, width = size
    zones = (Zone("left", LEFT), Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))))
    assert zone_of(zones, (0.3 * width, 0.2 * height, 0.1 * width, 0.5 * height), (*size, 3)) == "left"
    assert zone_of(zones, (0.6 * width, 0.2 * height, 0.1 * width, 0.8 * height), (*size, 3)) == "all"
    assert zone_of(zones[:1], (0.6 * width, 0.2 * height, 0.1 * width, 0.5 * height), (*size, 3)) is None


def test_a_mask_is_black_before_anything_sees_the_frame() -> None:
    frame = next(iter(passage(10)))
    frame.image.flags.writeable = False  # as a camera may hand it over
    [seen] = masked([frame], (Mask(LEFT),))
    assert not seen.image[:, :190].any()
    assert np.array_equal(seen.image[:, 194:], frame.image[:, 194:])
    assert (seen.index, seen.time_s) == (frame.index, frame.time_s)


def test_a_mask_is_black_on_the_large_picture_too() -> None:
    frame = next(iter(passage(10)))
    [seen] = masked([replace(frame, large=np.full((1080, 1920, 3), 9, np.uint8))], (Mask(LEFT),))
    assert not seen.large[:, :950].any()
    assert (seen.large[:, 970:] == 9).all()


def test_without_a_mask_a_frame_is_the_cameras_own() -> None:
    frame = next(iter(passage(10)))
    assert next(masked([frame], ())) is frame


def test_polygons_outside_of_the_frame_and_lines_are_refused() -> None:
    for wrong in (((0, 0), (1, 1)), ((0, 0), (2, 0), (1, 1)), ((0, 0), (1, 0, 1), (1, 1))):
        with pytest.raises(ValueError, match="polygon"):
            Mask(wrong)
    with pytest.raises(Exception, match="plain name"):
        Zone("the/door", LEFT)


def test_zones_masks_and_hours_come_from_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    base = 'id = "porch"\ndata = "data"\n[relay]\nroot = "root.json"\n[schedule]\nhours = ["22:00-06:30"]\n'
    zone = '[[zones]]\nname = "door"\npolygon = [[0, 0], [0.5, 0], [0.5, 1.0]]\n'
    path.write_text(base + zone + "[[masks]]\npolygon = [[0.8, 0.0], [1.0, 0.0], [1.0, 0.4]]\n")
    config = load_config(path, AgentConfig)
    assert [zone.name for zone in config.zones] == ["door"]
    assert len(config.masks) == 1
    assert config.schedule.cover(dt.time(23, 0))
    path.write_text(base + zone + zone)
    with pytest.raises(ConfigError, match="same name"):
        load_config(path, AgentConfig)


def test_hours_may_go_over_midnight_and_none_are_always() -> None:
    night, day = HourSettings(("22:00-06:30",)), HourSettings(("07:00-12:00", "13:00-00:00"))
    assert [night.cover(dt.time(hour)) for hour in (0, 6, 7, 21, 22)] == [True, True, False, False, True]
    assert [day.cover(dt.time(hour)) for hour in (6, 7, 12, 13, 23)] == [False, True, False, True, True]
    assert HourSettings().cover(dt.time(3))


@pytest.mark.parametrize("span", ["", "7-8", "07:00-07:00", "25:00-26:00", "07:00", "07:00-08:00 "])
def test_what_is_no_span_of_hours_is_refused(span: str) -> None:
    with pytest.raises(ValueError, match="no span"):
        HourSettings((span,))
