"""Owns comparing a loaded bundle's answers with those that its manifest expects. Refuses to say what comes of it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.bundle_runner import BundleRunner
from contract.detection.runner import DetectorRunner
from contract.errors import ReleaseError
from contract.manifest import Detector, Manifest, SelfTest


def check_answers(
    folder: Path, manifest: Manifest, classifier: BundleRunner | None, detector: DetectorRunner | None
) -> float:
    """Return the largest difference of an answer to the self-test's pictures from what is expected.

    Raises:
        ReleaseError: a model does not run, or an answer is off by more than the manifest's tolerance.
    """
    with np.load(folder / manifest.selftest.file, allow_pickle=False) as stored:
        inputs = stored["inputs"]
    worst = 0.0
    if classifier is not None:
        worst = _worst(classifier.run(inputs), manifest.selftest)
    if detector is not None:
        worst = max(worst, _worst(np.asarray(detector.summaries(inputs), np.float32), detector.detector))
    return worst


def _worst(given: NDArray[np.float32], expected: SelfTest | Detector) -> float:
    """Return the largest difference of an answer from what the manifest expects; ReleaseError if it is too large."""
    wanted = np.asarray(expected.expected, np.float32)
    if given.shape != wanted.shape:
        raise ReleaseError(f"answers of shape {list(given.shape)}, expected {list(wanted.shape)}")
    worst = float(np.max(np.abs(given - wanted)))
    if not worst <= expected.tolerance:  # not "worst > tolerance": NaN must fail
        raise ReleaseError(f"an answer is off by {worst:.4g}, allowed is {expected.tolerance:g}")
    return worst
