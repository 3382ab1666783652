"""Owns loading the bundle in a slot: what finds people, and what names them. Refuses to vote and to trust digests.

Whoever owns the slot verifies digests (``updates.slots``); what a bundle answers is checked by ``contract``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.runtimes.interpreters import build_interpreter
from contract.bundle_runner import BundleRunner, Interpreter, load_bundle_runner
from contract.detection.runner import DetectorRunner, load_detector
from contract.errors import InputError, ReleaseError
from contract.manifest import Detector, Manifest, Stage, load_bundle
from contract.preprocess import Image


@dataclass(frozen=True)
class LoadedModel:
    """A release that is ready to run. Not for two threads at once."""

    classifier: BundleRunner
    detector: DetectorRunner | None

    @property
    def manifest(self) -> Manifest:
        """The release's manifest."""
        return self.classifier.manifest

    def judge(self, image: Image) -> tuple[NDArray[np.float32], float | None]:
        """Return probabilities and familiarity of a crop, as ``BundleRunner.judge``."""
        return self.classifier.judge(image)


def load_model(folder: Path) -> LoadedModel:
    """Load the bundle in ``folder`` for the processor; its digests are not checked here.

    Raises:
        ReleaseError: no bundle, a missing file, or a model that does not load or is not the manifest's.
        NoRuntimeError: no runtime works here.
    """

    def interpreter(part: Stage | Detector, content: bytes) -> Interpreter:
        return build_interpreter(part.file, content)

    try:
        manifest = load_bundle(folder, verify=False)
    except InputError as error:
        raise ReleaseError(str(error)) from error
    return LoadedModel(
        load_bundle_runner(folder, manifest, interpreter), load_detector(folder, manifest, interpreter)
    )


def load_classifier(folder: Path) -> BundleRunner:
    """Load what names people of the bundle in ``folder``; as ``load_model``."""
    return load_model(folder).classifier
