"""Running a bundle, on the device and in the cloud: whatever is not as its manifest says is a ReleaseError."""

import dataclasses
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import doctor
from agent.camera.settings import CameraSettings
from agent.config import AgentConfig, RelaySettings
from agent.runtimes import interpreters
from agent.updates.selftest import check_bundle
from agent.vision.classifier import load_classifier
from cloud_tools.tflite.tflite_file import TfliteFile, load_runner
from contract.bundle_runner import BundleRunner, checked_probabilities
from contract.errors import ReleaseError
from contract.manifest import NAME, Manifest, load_bundle
from tests.vision_scenes import BUNDLE, COATS

Change = Callable[[Manifest], Manifest]


def load_in_cloud(folder: Path) -> BundleRunner:
    """Load a bundle as training and ``evaluate`` do."""
    return load_runner(folder, load_bundle(folder, verify=False))


BOTH_SIDES = pytest.mark.parametrize("load", [load_classifier, load_in_cloud])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the golden bundle that a test may spoil."""
    for part in BUNDLE.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    return tmp_path


def spoil(folder: Path, change: Change) -> None:
    (folder / NAME).write_bytes(change(load_bundle(folder, verify=False)).to_bytes())


def stage_with(manifest: Manifest, number: int, end: str, **fields: Any) -> Manifest:
    stage = manifest.stages[number]
    changed = dataclasses.replace(stage, **{end: dataclasses.replace(getattr(stage, end), **fields)})
    stages = [changed if i == number else other for i, other in enumerate(manifest.stages)]
    return dataclasses.replace(manifest, stages=tuple(stages))


def test_the_golden_bundle_is_whole_and_small() -> None:
    load_bundle(BUNDLE, verify=True)
    assert sum(part.stat().st_size for part in BUNDLE.iterdir()) < 60_000


@pytest.mark.parametrize("coat", COATS)
@pytest.mark.parametrize("shape", [(90, 36), (8, 8), (5, 200)])
def test_a_coat_has_its_colour_whatever_the_size_of_the_crop(coat: str, shape: tuple[int, int]) -> None:
    classifier = load_classifier(BUNDLE)
    probabilities = classifier.judge(np.full((*shape, 3), COATS[coat], np.uint8))[0]
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (3,)
    assert classifier.manifest.labels[int(probabilities.argmax())] == coat
    assert probabilities.max() > 0.9


def test_the_self_test_of_the_golden_bundle_passes() -> None:
    assert check_bundle(BUNDLE).worst <= 0.02


def test_prepared_pictures_and_crops_get_the_same_answer() -> None:
    classifier = load_classifier(BUNDLE)
    rgb = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    one_by_one = [classifier.judge(np.ascontiguousarray(picture[:, :, ::-1]))[0] for picture in rgb]
    assert np.array_equal(classifier.run(rgb), np.stack(one_by_one))


@pytest.mark.parametrize(
    "inputs",
    [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 16, 16, 3), np.float32), np.zeros((0, 16, 16, 3), np.uint8)],
)
def test_pictures_of_another_form_are_refused(inputs: np.ndarray) -> None:
    with pytest.raises(ReleaseError, match="pictures are"):
        load_classifier(BUNDLE).run(inputs)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: stage_with(m, 0, "input", dtype="uint8"), "input is .* the manifest says"),
        (lambda m: stage_with(m, 0, "input", scale=0.5), "input is quantised by"),
        (lambda m: stage_with(m, 0, "output", zero_point=3), "output is quantised by"),
        (
            lambda m: stage_with(stage_with(m, 0, "output", shape=(1, 5)), 1, "input", shape=(1, 5)),
            r"output is \(1, 6\)",
        ),
    ],
)
@BOTH_SIDES
def test_a_model_that_is_not_the_manifests_is_refused_by_device_and_cloud_alike(
    bundle: Path, change: Change, text: str, load: Callable[[Path], BundleRunner]
) -> None:
    spoil(bundle, change)
    with pytest.raises(ReleaseError, match=rf"backbone\.tflite: its {text}"):
        load(bundle)


@pytest.mark.parametrize("content", [b"", b"no model at all", (BUNDLE / "head.tflite").read_bytes()[:600]])
def test_a_file_that_is_no_model_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "head.tflite").write_bytes(content)
    with pytest.raises(ReleaseError, match=r"head\.tflite: not a model that loads here"):
        load_classifier(bundle)


def test_a_missing_file_and_a_missing_manifest_are_refused(bundle: Path) -> None:
    (bundle / "head.tflite").unlink()
    with pytest.raises(ReleaseError, match=r"missing file of the bundle: .*head\.tflite"):
        load_classifier(bundle)
    (bundle / NAME).unlink()
    with pytest.raises(ReleaseError, match="is no bundle"):
        load_classifier(bundle)


@BOTH_SIDES
def test_an_answer_that_is_not_finite_is_refused(bundle: Path, load: Callable[[Path], BundleRunner]) -> None:
    content = (bundle / "head.tflite").read_bytes()
    steep = struct.pack("<f", 6.0)
    assert content.count(steep) >= 6, "the weights of make_bundle.py"
    (bundle / "head.tflite").write_bytes(content.replace(steep, struct.pack("<f", float("nan"))))
    with pytest.raises(ReleaseError, match="not finite"):
        load(bundle).judge(np.full((20, 20, 3), COATS["red"], np.uint8))


@pytest.mark.parametrize("values", [[0.5, 0.2, 0.1], [1.2, 0.0, 0.0], [1.1, -0.1, 0.0], [np.nan, 0.5, 0.5]])
def test_what_is_no_distribution_is_refused(values: list[float]) -> None:
    spec = load_bundle(BUNDLE).stages[-1].output
    with pytest.raises(ReleaseError):
        checked_probabilities(np.asarray(values, np.float32), spec)


def test_quantised_probabilities_may_miss_1_by_their_steps() -> None:
    spec = dataclasses.replace(load_bundle(BUNDLE).stages[-1].output, dtype="int8", scale=1 / 256)
    row = np.full(20, 12 / 256, np.float32)  # twenty times 0.05, rounded down: the sum is 0.9375
    row[0] += 0.03
    assert checked_probabilities(row, spec) is row


class BrokenRuntime(types.ModuleType):
    """tflite-runtime 2.14 beside numpy 2: it imports, and building an interpreter is a SystemError."""

    def Interpreter(self, **_: object) -> object:
        raise SystemError("CreateWrapperFromBuffer returned a result with an exception set")


def test_a_runtime_that_imports_and_does_not_work_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "broken_runtime.interpreter", BrokenRuntime("broken_runtime.interpreter"))
    monkeypatch.setattr(interpreters, "RUNTIMES", ("broken_runtime.interpreter", *interpreters.RUNTIMES))
    assert load_classifier(BUNDLE).manifest.version == 1
    monkeypatch.setattr(interpreters, "RUNTIMES", ("broken_runtime.interpreter", "no_such_runtime"))
    with pytest.raises(ReleaseError, match=r"no TFLite runtime works here \(broken_runtime: .*install"):
        load_classifier(BUNDLE)


def test_the_probe_of_a_runtime_is_a_model_of_one_operator_that_runs_here() -> None:
    assert len(interpreters.PROBE) < 300
    assert TfliteFile(interpreters.PROBE).operators() == ("RELU",)
    assert interpreters.working_runtime() == "ai_edge_litert"


def test_the_doctor_finds_a_runtime_that_imports_and_does_not_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = AgentConfig(
        "porch", tmp_path, CameraSettings(str(tmp_path / "none.avi")), RelaySettings(tmp_path / "root")
    )
    assert doctor.check("runtime", config).text == "ai_edge_litert"
    monkeypatch.setitem(sys.modules, "broken_runtime.interpreter", BrokenRuntime("broken_runtime.interpreter"))
    monkeypatch.setattr(interpreters, "RUNTIMES", ("broken_runtime.interpreter",))
    finding = doctor.check("runtime", config)
    assert not finding.ok
    assert "broken_runtime: CreateWrapperFromBuffer" in finding.text


def test_a_delegate_that_is_not_there_is_one_clear_line(bundle: Path) -> None:
    with pytest.raises(ReleaseError, match="no delegate: libedgetpu-is-not-here"):
        interpreters.build_interpreter("the probe", interpreters.PROBE, "libedgetpu-is-not-here.so.1")
    first = dataclasses.replace(load_bundle(bundle).stages[0], edge_tpu=True)
    spoil(bundle, lambda manifest: dataclasses.replace(manifest, stages=(first, *manifest.stages[1:])))
    assert load_classifier(bundle), "on the processor it needs none, whatever it may run on"
