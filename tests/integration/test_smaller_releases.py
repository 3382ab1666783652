"""Releases with fewer people and smaller updates: who is forgotten is gone, a limit is kept, the test side decides
nothing."""

import os
from pathlib import Path

import numpy as np
import pytest

from cloud_tools.commands.terminal import options_named
from cloud_tools.datasets.dataset import Dataset, load_dataset
from cloud_tools.datasets.splits import TEST
from cloud_tools.tflite.tflite_file import TfliteFile
from cloud_tools.training.settings import Settings
from cloud_tools.training.train import Trained, train
from cloud_tools.training.update_size import update_size
from contract.errors import InputError
from contract.manifest import NAME, load_bundle
from tests.training_fixtures import SIXTH

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHORT = 8  # epochs: enough to learn, a fifth of the time
FULL, SMALL = 7000, 4500  # bytes


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="module")
def forgotten(vtest_dataset_six: Path, bundle_two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sixth person, who is in the dataset and in the base, forgotten."""
    out = tmp_path_factory.mktemp("forget") / "out"
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    try:
        train(load_dataset(vtest_dataset_six), out, Settings(forget=(SIXTH,)), bundle_two)
    finally:
        del os.environ["SOURCE_DATE_EPOCH"]
    return out


def test_who_is_forgotten_is_in_no_file_of_the_release(forgotten: Path) -> None:
    assert SIXTH.encode() not in b"".join(path.read_bytes() for path in forgotten.iterdir())
    manifest = load_bundle(forgotten)
    assert len(manifest.labels) == 5
    assert manifest.version == 3
    assert SIXTH not in manifest.metrics["per_person"]
    matrix, bias = TfliteFile((forgotten / "head.tflite").read_bytes()).layer("FULLY_CONNECTED")
    assert matrix.shape == (5, 1280)
    assert bias.shape == (5,)


def test_what_a_forgotten_person_taught_is_gone_too(forgotten: Path, bundle_one: Path, bundle_two: Path) -> None:
    """Release 1 never saw the sixth person: head, means and thresholds must be its own, byte by byte."""
    never, now = load_bundle(bundle_one), load_bundle(forgotten)
    assert (forgotten / "head.tflite").read_bytes() == (bundle_one / "head.tflite").read_bytes()
    assert (forgotten / "head.tflite").read_bytes() != (bundle_two / "head.tflite").read_bytes()
    assert now.familiarity is not None
    assert now.familiarity == never.familiarity
    assert now.provenance["dataset"] == never.provenance["dataset"]
    assert now.metrics == never.metrics


def test_a_renamed_person_keeps_place_and_weights(vtest_dataset_five: Path, bundle_one: Path, tmp_path: Path) -> None:
    old = load_bundle(bundle_one).labels
    dataset = load_dataset(vtest_dataset_five)
    settings = Settings(rename=(f"{old[1]}=zoe",), name=(f"{old[0]}=李雷",), epochs=1)
    trained = train(dataset, tmp_path / "out", settings, bundle_one)
    assert trained.manifest.names == {old[0]: "李雷"}
    assert trained.manifest.labels == (old[0], "zoe", *old[2:])
    assert trained.evaluation.per_person["zoe"].accuracy >= 0.8
    assert old[1].encode() not in (tmp_path / "out" / NAME).read_bytes()


def limited(dataset: Path, base: Path, out: Path, limit: int) -> Trained:
    return train(load_dataset(dataset), out, Settings(max_update_bytes=limit, epochs=SHORT), base)


@pytest.mark.parametrize("limit", [FULL, SMALL])
def test_an_update_is_no_larger_than_asked_and_learned_something(
    vtest_dataset_six: Path, bundle_one: Path, tmp_path: Path, limit: int
) -> None:
    trained = limited(vtest_dataset_six, bundle_one, tmp_path / "out", limit)
    manifest, evaluation, frontier = trained.manifest, trained.evaluation, trained.frontier
    size = update_size(bundle_one, tmp_path / "out")
    assert size.total <= limit
    assert size.files["backbone.tflite"] == size.files["selftest.npz"] == 0
    assert frontier is not None
    chosen = frontier.chosen
    assert chosen is not None
    assert chosen.head_bytes == size.files["head.tflite"]
    assert chosen.head_bytes + frontier.overhead == size.total
    assert manifest.provenance["head"]["grid_step"] == chosen.step
    assert evaluation.per_person[SIXTH].accuracy >= 0.5  # whom the base does not know at all
    assert evaluation.overall.accuracy >= 0.8


def test_an_update_that_cannot_be_is_one_line_and_leaves_nothing(
    vtest_dataset_six: Path, bundle_one: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no head fits in an update of 1,000 bytes: the smallest is about [12],"):
        limited(vtest_dataset_six, bundle_one, tmp_path / "made" / "out", 1000)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "settings", [Settings(forget=("anna",)), Settings(rename=("anna=zoe",)), Settings(max_update_bytes=5000)]
)
def test_what_is_about_a_base_needs_one(vtest_dataset_six: Path, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InputError, match="needs --base"), options_named():
        train(load_dataset(vtest_dataset_six), tmp_path / "out", settings)


def test_the_test_side_has_no_say_in_the_head(vtest_dataset_six: Path, bundle_one: Path, tmp_path: Path) -> None:
    whole = load_dataset(vtest_dataset_six)
    kept = tuple(crop for i, crop in enumerate(whole.crops) if crop.split != TEST or i % 7 == 0)
    heads = []
    for name, crops in (("whole", whole.crops), ("part", kept)):
        dataset = Dataset(whole.folder, whole.source, crops)
        manifest = train(dataset, tmp_path / name, Settings(epochs=SHORT), bundle_one).manifest
        heads.append((manifest.provenance["head"]["grid_step"], (tmp_path / name / "head.tflite").read_bytes()))
    assert heads[0] == heads[1]


def test_a_stripes_head_is_trained_and_can_be_a_base(
    vtest_dataset_five: Path, bundle_one: Path, tmp_path: Path
) -> None:
    from cloud_tools.training.heads import warm_start

    dataset = load_dataset(vtest_dataset_five)
    thin = Dataset(dataset.folder, dataset.source, dataset.crops[::4])
    trained = train(thin, tmp_path / "out", Settings(head="stripes", epochs=SHORT, weights=None))
    manifest = trained.manifest
    assert trained.evaluation.overall.accuracy >= 0.7
    assert manifest.stages[1].operators == tuple(sorted(manifest.stages[1].operators))
    data = (tmp_path / "out" / "head.tflite").read_bytes()
    start = warm_start("stripes", data, manifest.labels, (*manifest.labels, SIXTH), seed=0)
    matrix = TfliteFile(data).layer("FULLY_CONNECTED")[0]
    assert start[0].shape == (5 * 1280, 6)
    assert np.array_equal(start[0][:, :5], matrix.T)
