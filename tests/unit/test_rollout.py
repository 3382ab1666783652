"""Which devices a rollout takes, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.rollout import in_rollout, rollout_seed

LEAST = {"porch": 60, "garden": 81, "hall": 68}  # percent at which each is in


def test_a_rollout_takes_its_share_and_only_ever_grows() -> None:
    devices = [f"device-{number}" for number in range(2000)]
    for percent in (0, 10, 50, 100):
        share = sum(in_rollout("seed", device, percent) for device in devices) / len(devices) * 100
        assert abs(share - percent) < 3
    for device in devices[:200]:
        steps = [in_rollout("seed", device, percent) for percent in range(0, 101, 5)]
        assert steps == sorted(steps)


def test_another_seed_takes_other_devices_first() -> None:
    devices = [f"device-{number}" for number in range(500)]
    first = {device for device in devices if in_rollout("a", device, 20)}
    second = {device for device in devices if in_rollout("b", device, 20)}
    assert len(first & second) < len(first) / 2


@given(st.text(max_size=20), st.text(max_size=20), st.floats(0, 100), st.floats(0, 100))
def test_nobody_drops_out_when_the_share_grows(seed: str, device: str, one: float, other: float) -> None:
    few, many = sorted((one, other))
    assert in_rollout(seed, device, few) <= in_rollout(seed, device, many)
    assert in_rollout(seed, device, 100)
    assert not in_rollout(seed, device, 0)


@pytest.mark.parametrize(("device", "least"), LEAST.items())
def test_who_goes_when_is_the_same_in_every_version_of_the_programs(device: str, least: int) -> None:
    assert not in_rollout("44136fa355b3678a", device, least - 1)
    assert in_rollout("44136fa355b3678a", device, least)


def test_the_seed_comes_from_the_manifest() -> None:
    assert rollout_seed(b"{}") == "44136fa355b3678a"
    assert rollout_seed(b"{} ") != rollout_seed(b"{}")
