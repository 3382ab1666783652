"""Owns running a release on the accelerator, else on the processor. Refuses to blame a release for an accelerator.

A part with a compiled file runs on the accelerator, whose answers to the self-test's pictures must be those of the
manifest; every other part runs here. Each answer is whole: of the accelerator, or of the processor alone. A fault
costs the time until it is noticed and one answer of the processor, and no frame is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.runtimes.accelerator import Accelerator, Job
from agent.runtimes.child import AcceleratorChild, AcceleratorError
from agent.runtimes.interpreters import build_interpreter
from agent.vision.classifier import LoadedModel
from agent.vision.expected import check_answers
from agent.vision.finding import PersonDetector
from contract.bundle_runner import BundleRunner, Interpreter, load_bundle_runner
from contract.detection.runner import Detection, DetectorRunner, load_detector
from contract.errors import ReleaseError
from contract.manifest import Detector, Manifest, Stage
from contract.preprocess import Image

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class AcceleratedParts:
    """What of a release runs on the accelerator, at least in part; None where nothing of it was compiled."""

    classifier: BundleRunner | None
    detector: DetectorRunner | None


def job_of(folder: Path, manifest: Manifest) -> Job[AcceleratedParts] | None:
    """Return what the accelerator is to do for the bundle in ``folder``; None when nothing was compiled for it."""
    compiled = [part.compiled.file for part in manifest.models if part.compiled]
    if not compiled:
        return None
    return Job(tuple(folder / name for name in compiled), lambda child: _parts(folder, manifest, child))


def _parts(folder: Path, manifest: Manifest, child: AcceleratorChild) -> AcceleratedParts:
    """Return the parts on ``child``, which answered as the manifest expects; ReleaseError when it did not."""
    numbers = {part.file: number for number, part in enumerate(part for part in manifest.models if part.compiled)}

    def interpreter(part: Stage | Detector, content: bytes) -> Interpreter:
        number = numbers.get(part.file)
        return build_interpreter(part.file, content) if number is None else child.interpreter(number)

    stages = any(stage.compiled for stage in manifest.stages)
    finds = manifest.detector is not None and manifest.detector.compiled is not None
    parts = AcceleratedParts(
        load_bundle_runner(folder, manifest, interpreter) if stages else None,
        load_detector(folder, manifest, interpreter) if finds else None,
    )
    check_answers(folder, manifest, parts.classifier, parts.detector)
    return parts


class AcceleratedModel:
    """A release that is ready to run, as ``LoadedModel``; ``allowed`` says whether the accelerator may run it now.

    The accelerator is for whichever model is asked. One thread asks all of them.
    """

    def __init__(
        self,
        plain: LoadedModel,
        job: Job[AcceleratedParts],
        accelerator: Accelerator[AcceleratedParts],
        allowed: Callable[[], bool],
    ) -> None:
        self._plain = plain
        self._job = job
        self._accelerator = accelerator
        self._allowed = allowed
        self.detector: PersonDetector | None = plain.detector and _AcceleratedDetector(self, plain.detector)

    @property
    def manifest(self) -> Manifest:
        """The release's manifest."""
        return self._plain.manifest

    def judge(self, image: Image) -> tuple[NDArray[np.float32], float | None]:
        """Return probabilities and familiarity of a crop, as ``BundleRunner.judge``."""
        parts = self._parts()
        there = parts.classifier if parts else None
        return self._answer(there.judge if there else None, self._plain.judge, image)

    def find(self, detector: DetectorRunner, frame: Image) -> list[Detection]:
        """Return the people in ``frame``; ``detector`` is the processor's."""
        parts = self._parts()
        there = parts.detector if parts else None
        return self._answer(there.find if there else None, detector.find, frame)

    def _parts(self) -> AcceleratedParts | None:
        if not self._allowed():
            return None
        if not self._accelerator.serves(self._job):
            self._accelerator.serve(self._job)
        return self._accelerator.ready(self._job)

    def _answer(
        self, there: Callable[[Image], Answer] | None, here: Callable[[Image], Answer], image: Image
    ) -> Answer:
        """Return the answer of the accelerator or, where it has none or a wrong one, of the processor.

        Raises:
            ReleaseError: of the processor.
        """
        if there is not None:
            try:
                return there(image)
            except (AcceleratorError, ReleaseError) as error:
                right = here(image)  # raises where the release itself is at fault
                self._accelerator.failed(self._job, error)
                return right
        return here(image)


class _AcceleratedDetector:
    """The detector of an ``AcceleratedModel``."""

    def __init__(self, model: AcceleratedModel, plain: DetectorRunner) -> None:
        self._model = model
        self._plain = plain

    @property
    def detector(self) -> Detector:
        """What the manifest says of it."""
        return self._plain.detector

    def find(self, frame: Image) -> list[Detection]:
        """Return the people in a BGR frame, as ``DetectorRunner.find``."""
        return self._model.find(self._plain, frame)
