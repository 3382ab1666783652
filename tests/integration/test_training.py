"""Training on the real video: accuracy, bytes, determinism, self-test, and what is refused in one clear line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cloud_tools.datasets.dataset import Dataset, load_dataset
from cloud_tools.evaluation.evaluation import Evaluation, evaluate_bundle
from cloud_tools.inputs import LABELS
from cloud_tools.tflite.tflite_file import TfliteFile, load_runner
from cloud_tools.training.features import embed
from cloud_tools.training.run import Base
from cloud_tools.training.weight_grid import STEPS
from contract.errors import InputError, KinwatchError
from contract.manifest import load_bundle
from demo.broken_models import write_crashing_in_trial, write_failing_selftest
from tests.training_fixtures import SIXTH, train_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def evaluation(bundle_two: Path, vtest_dataset_six: Path) -> Evaluation:
    return evaluate_bundle(bundle_two, load_dataset(vtest_dataset_six))


def test_baseline_and_strangers_stand_beside_the_accuracy(evaluation: Evaluation) -> None:
    assert evaluation.baseline is not None
    assert 0.7 < evaluation.baseline["accuracy"] < 1
    assert evaluation.strangers is not None
    assert evaluation.strangers.crops > 200


def test_release_one_does_not_know_the_sixth_person(bundle_one: Path, vtest_dataset_six: Path) -> None:
    before = evaluate_bundle(bundle_one, load_dataset(vtest_dataset_six), with_baseline=False)
    assert not before.per_person[SIXTH].in_model
    assert before.per_person[SIXTH].accuracy == 0
    assert before.known is not None
    assert before.known.accuracy >= 0.88


def test_the_manifest_states_what_an_evaluation_measures(bundle_two: Path, evaluation: Evaluation) -> None:
    manifest = load_bundle(bundle_two)
    assert manifest.metrics["accuracy"] == evaluation.overall.accuracy
    assert {name: part["crops"] for name, part in manifest.metrics["per_person"].items()} == {
        name: part.crops for name, part in evaluation.per_person.items()
    }
    assert manifest.provenance["dataset"] == evaluation.dataset
    assert manifest.version == 2
    assert manifest.labels[-1] == SIXTH


def test_the_self_test_answers_as_the_manifest_expects(bundle_two: Path) -> None:
    manifest = load_bundle(bundle_two)
    with np.load(bundle_two / manifest.selftest.file, allow_pickle=False) as arrays:
        inputs = arrays["inputs"]
    assert inputs.dtype == np.uint8
    found = load_runner(bundle_two, manifest).run(inputs)
    assert np.abs(found - np.array(manifest.selftest.expected)).max() < 1e-3


def test_the_head_lies_on_its_grid_and_learned(bundle_one: Path, bundle_two: Path) -> None:
    step = load_bundle(bundle_two).provenance["head"]["grid_step"]
    assert step in STEPS
    heads = [TfliteFile((folder / "head.tflite").read_bytes()) for folder in (bundle_one, bundle_two)]
    old, new = (head.constants("FULLY_CONNECTED")[0] for head in heads)
    assert np.array_equal(np.rint(new / step) * step, new)
    assert not np.signbit(new[new == 0]).any()
    assert (new[:5] != old).mean() > 0.01  # a head that did not learn would make a false small patch


def test_the_same_seed_gives_the_same_bytes(
    vtest_dataset_six: Path, bundle_one: Path, bundle_two: Path, tmp_path: Path
) -> None:
    again = train_bundle(vtest_dataset_six, tmp_path / "again", base=bundle_one)
    names = sorted(path.name for path in bundle_two.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert [name for name in names if (bundle_two / name).read_bytes() != (again / name).read_bytes()] == []


def test_a_second_embedding_comes_from_the_cache(vtest_dataset_six: Path, bundle_two: Path) -> None:
    dataset = load_dataset(vtest_dataset_six)
    manifest = load_bundle(bundle_two)
    crops = dataset.crops[:5]
    backbone = Base(bundle_two, manifest).backbone
    first = embed(dataset, crops, backbone, manifest.preprocess)
    gone = Dataset(vtest_dataset_six / "gone", dataset.source, dataset.crops)  # no picture can be read there
    assert np.array_equal(embed(gone, crops, backbone, manifest.preprocess), first)


def cloud_tools(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cloud_tools", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=REPOSITORY)


def failed_in_one_line(done: "subprocess.CompletedProcess[str]", said: str) -> bool:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert said in lines[0]
    return True


def test_wrong_inputs_of_the_command_line_are_one_clear_line(
    sample_video: Path, vtest_dataset_six: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.avi"
    text.write_text("no video")
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    assert failed_in_one_line(cloud_tools("dataset", "from-video", text, LABELS, out), "not the video of these")
    assert failed_in_one_line(cloud_tools("train", empty, out), "is no dataset")
    assert failed_in_one_line(cloud_tools("evaluate", empty, vtest_dataset_six), "is no bundle")
    assert failed_in_one_line(
        cloud_tools("dataset", "from-video", sample_video, LABELS, out, "--people", "nobody"), "'nobody'"
    )
    assert not out.exists()


def test_a_household_of_one_cannot_be_trained(sample_video: Path, tmp_path: Path) -> None:
    from cloud_tools.datasets.from_video import dataset_from_video
    from cloud_tools.datasets.labels import load_labels

    dataset_from_video(sample_video, load_labels(LABELS), tmp_path / "one", people=[SIXTH], every=10)
    with pytest.raises(InputError, match="at least two"):
        train_bundle(tmp_path / "one", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_bundle(
    vtest_dataset_five: Path, bundle_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "head.tflite")

    monkeypatch.setattr("cloud_tools.training.bundle_writer.atomic_write", full)
    monkeypatch.setattr("cloud_tools.training.train.train_head", _small_head(bundle_one))
    with pytest.raises(OSError, match="No space"):
        train_bundle(vtest_dataset_five, tmp_path / "made" / "out", base=bundle_one)
    assert list((tmp_path / "made").iterdir()) == []


def _small_head(bundle: Path) -> object:
    """Return a stand-in for the minutes of training: the head of ``bundle`` as it is."""
    from cloud_tools.training.heads import TrainedHead

    data = (bundle / "head.tflite").read_bytes()
    return lambda *args, **named: TrainedHead(data, STEPS[0], 1.0, 1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int8"], "int8"),
        (["--head", "stripes"], "stripes"),
        (["--weights", "nowhere.h5"], "nowhere.h5"),
        (["--model", "office"], "office"),
        (["--version", "1"], "--version 1"),
    ],
)
def test_a_setting_that_cannot_be_is_one_clear_line(
    vtest_dataset_five: Path, bundle_one: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = cloud_tools("train", vtest_dataset_five, tmp_path / "out", "--base", bundle_one, *options)
    assert failed_in_one_line(done, said)
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_no_such_head_is_refused(vtest_dataset_five: Path, bundle_one: Path, tmp_path: Path) -> None:
    from cloud_tools.training.settings import Settings
    from cloud_tools.training.train import train

    with pytest.raises(KinwatchError, match="conv32"):
        train(load_dataset(vtest_dataset_five), tmp_path / "out", Settings(head="conv32"), bundle_one)


RUN_CROPS = """
import sys
from pathlib import Path
from cloud_tools.tflite.tflite_file import load_runner
from cloud_tools.datasets.dataset import load_dataset
from contract.manifest import load_bundle
bundle, dataset = Path(sys.argv[1]), load_dataset(Path(sys.argv[2]))
runner = load_runner(bundle, load_bundle(bundle))
print("loaded", flush=True)
runner.judge_all([dataset.image(dataset.crops[int(sys.argv[3])])])
print("survived", flush=True)
"""


def test_the_first_broken_release_is_whole_and_answers_its_self_test_wrongly(
    bundle_two: Path, tmp_path: Path
) -> None:
    manifest = write_failing_selftest(bundle_two, tmp_path / "broken", 3)
    assert load_bundle(tmp_path / "broken") == manifest
    with np.load(tmp_path / "broken" / manifest.selftest.file, allow_pickle=False) as arrays:
        found = load_runner(tmp_path / "broken", manifest).run(arrays["inputs"])
    assert np.abs(found - np.array(manifest.selftest.expected)).max() > 10 * manifest.selftest.tolerance


def test_the_second_broken_release_passes_its_self_test_and_aborts_on_people(
    bundle_two: Path, vtest_dataset_six: Path, tmp_path: Path
) -> None:
    manifest = write_crashing_in_trial(bundle_two, tmp_path / "broken", 4)
    assert load_bundle(tmp_path / "broken") == manifest
    with np.load(tmp_path / "broken" / manifest.selftest.file, allow_pickle=False) as arrays:
        found = load_runner(tmp_path / "broken", manifest).run(arrays["inputs"])
    assert np.abs(found - np.array(manifest.selftest.expected)).max() < manifest.selftest.tolerance
    for index in (0, 500, 1000):
        command = [sys.executable, "-c", RUN_CROPS, str(tmp_path / "broken"), str(vtest_dataset_six), str(index)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
        assert done.stdout.split() == ["loaded"]
        assert done.returncode == -6
