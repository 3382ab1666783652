"""What all tests share: the hypothesis profile, and no leftovers of the environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.accelerators import TestDelegate, compile_delegate
from tests.brokers import KINDS, Broker, start_broker

pytest_plugins = ["tests.server_fixtures", "tests.training_fixtures"]

# Derandomised: CI and a desk see the same cases. HYPOTHESIS_PROFILE=explore searches new ones.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile(
    "explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A real broker, each kind in turn."""
    running = start_broker(request.param, tmp_path / "broker")
    yield running
    running.stop()


@pytest.fixture
def embedded_broker(tmp_path: Path) -> Iterator[Broker]:
    """The embedded broker alone, where the kind does not matter."""
    running = start_broker("iotcore", tmp_path / "broker")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def delegate_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An external TFLite delegate."""
    return compile_delegate(tmp_path_factory.mktemp("delegate"))


@pytest.fixture
def delegate(delegate_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestDelegate:
    """It, working until it is told otherwise; children of this process obey."""
    made = TestDelegate(tmp_path, delegate_library)
    for key, value in made.environment.items():
        monkeypatch.setenv(key, value)
    return made
