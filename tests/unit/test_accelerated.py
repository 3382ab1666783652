"""Whose answer it is, the accelerator's or the processor's, for each picture; no release is blamed for a fault."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from agent.runtimes.accelerator import Accelerator, Job
from agent.runtimes.child import AcceleratorError
from agent.runtimes.settings import RuntimeSettings
from agent.vision.accelerated import AcceleratedModel, AcceleratedParts, job_of
from agent.vision.classifier import LoadedModel, load_model
from contract.detection.runner import DetectorRunner
from contract.errors import KinwatchError, ReleaseError
from contract.manifest import Compiled
from tests.detectors import sides, small_detector, told_runner
from tests.vision_scenes import BUNDLE

PICTURE = np.zeros((32, 64, 3), np.uint8)


class FakeAccelerator:
    """Is ready with ``parts``; remembers what it was told."""

    def __init__(self, parts: AcceleratedParts | None) -> None:
        self.parts = parts
        self.job: Job[AcceleratedParts] | None = None
        self.faults: list[KinwatchError] = []

    def serves(self, job: Job[AcceleratedParts]) -> bool:
        return self.job is job

    def serve(self, job: Job[AcceleratedParts] | None) -> None:
        self.job = job

    def ready(self, job: Job[AcceleratedParts]) -> AcceleratedParts | None:
        return self.parts

    def failed(self, job: Job[AcceleratedParts], error: KinwatchError) -> None:
        self.faults.append(error)
        self.parts = None


def detector_at(cell: int) -> DetectorRunner:
    return told_runner({cell: (0.9, sides(1, 1, 1, 1))})[0]


def failing(error: KinwatchError) -> DetectorRunner:
    class Failing(DetectorRunner):
        def find(self, *_: Any) -> Any:
            raise error

    made = detector_at(0)
    made.__class__ = Failing
    return made


def model(
    here: DetectorRunner, there: DetectorRunner | None, allowed: Callable[[], bool] = lambda: True
) -> tuple[AcceleratedModel, FakeAccelerator]:
    """Return a model whose detector is ``here`` on the processor and ``there`` on an accelerator."""
    accelerator = FakeAccelerator(AcceleratedParts(None, there) if there else None)
    plain = LoadedModel(load_model(BUNDLE).classifier, here)
    job: Job[AcceleratedParts] = Job((), lambda child: AcceleratedParts(None, there))
    return AcceleratedModel(plain, job, cast("Accelerator[AcceleratedParts]", accelerator), allowed), accelerator


def boxes(made: AcceleratedModel) -> list[tuple[int, int, int, int]]:
    assert made.detector
    return [one.box for one in made.detector.find(PICTURE)]


HERE, THERE = ([one.box for one in detector_at(cell).find(PICTURE)] for cell in (0, 5))


def test_people_are_found_there_when_it_is_ready_and_here_until_then() -> None:
    assert HERE != THERE
    assert boxes(model(detector_at(0), detector_at(5))[0]) == THERE
    made, accelerator = model(detector_at(0), None)
    assert boxes(made) == HERE
    assert accelerator.job is not None, "it was asked to begin"
    assert made.detector
    assert made.detector.detector.cells == small_detector().cells


@pytest.mark.parametrize("error", [AcceleratorError("no answer in 2 s"), ReleaseError("the answer is not finite")])
def test_a_fault_there_is_answered_here_and_told_to_the_accelerator_alone(error: KinwatchError) -> None:
    made, accelerator = model(detector_at(0), failing(error))
    assert boxes(made) == HERE
    assert accelerator.faults == [error]
    assert boxes(made) == HERE
    assert len(accelerator.faults) == 1


def test_what_fails_on_both_is_the_releases_fault() -> None:
    made, accelerator = model(failing(ReleaseError("here")), failing(ReleaseError("there")))
    with pytest.raises(ReleaseError, match="here"):
        boxes(made)
    assert accelerator.faults == []


def test_while_it_is_not_allowed_the_accelerator_is_not_even_asked_to_begin() -> None:
    made, accelerator = model(detector_at(0), detector_at(5), lambda: False)
    assert boxes(made) == HERE
    made.judge(PICTURE)
    assert accelerator.job is None


def test_a_part_that_was_not_compiled_runs_here() -> None:
    made, accelerator = model(detector_at(0), detector_at(5))
    assert made.judge(PICTURE)[0].shape == (3,)
    assert accelerator.faults == []


@pytest.mark.parametrize(
    "wrong", [{"accelerator": "gpu"}, {"library": ""}, {"answer_s": 0.0}, {"answer_s": 60.0}, {"start_s": 0.0}]
)
def test_a_setting_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(wrong)):
        RuntimeSettings(**wrong)


def test_the_job_is_the_compiled_files_in_the_manifests_order(tmp_path: Path) -> None:
    manifest = load_model(BUNDLE).manifest
    assert job_of(tmp_path, manifest) is None
    compiled = [Compiled(f"{name}_edgetpu.tflite", "0" * 64, 1) for name in ("head", "detector")]
    changed = replace(
        manifest,
        stages=(manifest.stages[0], replace(manifest.stages[1], compiled=compiled[0])),
        detector=small_detector(compiled=compiled[1]),
    )
    job = job_of(tmp_path, changed)
    assert job is not None
    assert job.models == (tmp_path / "head_edgetpu.tflite", tmp_path / "detector_edgetpu.tflite")
