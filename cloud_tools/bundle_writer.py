"""Owns writing a bundle: its files, what its self-test must answer, thresholds, metrics, manifest. Refuses to train.

The bundle is built in a temporary folder, run there as a device would run it, and takes its name last: a bundle that
has a name is whole.
"""

import dataclasses
import datetime as dt
import hashlib
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud_tools.calibration import Calibration, calibrate
from cloud_tools.chain import Chain, Probabilities
from cloud_tools.dataset import Dataset
from cloud_tools.evaluation import Answers, Evaluation, answer, score, window_means
from cloud_tools.selftest_inputs import selftest_bytes, selftest_inputs
from cloud_tools.tflite_file import Runner, TfliteFile
from contract import __version__
from contract.errors import InputError
from contract.files import atomic_folder, atomic_write
from contract.manifest import NAME, Manifest, Preprocess, SelfTest, Stage, Thresholds, load_bundle

BACKBONE, HEAD, SELFTEST = "backbone.tflite", "head.tflite", "selftest.npz"
# Probabilities. Float kernels of different boards differ by about 1e-5; damaged weights differ by tenths.
SELFTEST_TOLERANCE = 0.02
LAST_SECOND = 253_402_300_800  # the year 10,000, which dates here cannot be in
DIGITS = 4  # of the expected probabilities: finer than the tolerance, and release.json travels with each update


@dataclass(frozen=True)
class BundleParts:
    """What the trainer made: two TFLite files and what is known about them."""

    model: str
    version: int
    labels: tuple[str, ...]
    preprocess: Preprocess
    backbone: bytes
    head: bytes
    provenance: dict[str, Any]


def write_bundle(
    out: Path,
    parts: BundleParts,
    dataset: Dataset,
    base: Path | None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[Manifest, Evaluation]:
    """Write the bundle to the new folder ``out``, evaluated on the test side of ``dataset``.

    The self-test file is the base's own, where there is a base: then it costs nothing to send.

    Raises:
        InputError, ReleaseError, OSError: as the steps do; nothing is left at ``out``.
    """
    with atomic_folder(out) as building:
        for name, data in ((BACKBONE, parts.backbone), (HEAD, parts.head), (SELFTEST, _selftest_file(base))):
            atomic_write(building / name, data)
        manifest = _manifest(building, parts)
        chain = Chain(building, manifest)
        answers = answer(chain, dataset, lambda done, total: progress("evaluation", done, total))
        calibration = _calibration(manifest, answers)
        manifest = dataclasses.replace(manifest, thresholds=calibration.thresholds)
        evaluation = score(manifest, dataset, answers, with_baseline=False)
        manifest = _finished(manifest, chain, dataset, evaluation, calibration)
        atomic_write(building / NAME, manifest.to_bytes())
        load_bundle(building)  # what a device will check, checked here
    return manifest, evaluation


def created_now() -> str:
    """Give the time of creation in UTC; SOURCE_DATE_EPOCH sets it, for bundles that are the same bytes twice.

    Raises:
        InputError: the variable is no number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not (epoch.isdecimal() and int(epoch) < LAST_SECOND):
        raise InputError(f"SOURCE_DATE_EPOCH={epoch!r} is no number of seconds since 1970")
    moment = dt.datetime.fromtimestamp(int(epoch), dt.UTC) if epoch else dt.datetime.now(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _selftest_file(base: Path | None) -> bytes:
    if base is not None:
        kept = (base / load_bundle(base, verify=False).selftest.file).read_bytes()
        if kept == selftest_bytes():
            return kept
    return selftest_bytes()


def _manifest(folder: Path, parts: BundleParts) -> Manifest:
    """Give the manifest without what only a run of the chain can say."""
    data = (folder / SELFTEST).read_bytes()
    blank = (tuple(0.0 for _ in parts.labels),)
    return Manifest(
        model=parts.model,
        version=parts.version,
        created=created_now(),
        labels=parts.labels,
        stages=(describe_stage(folder / BACKBONE), describe_stage(folder / HEAD)),
        preprocess=parts.preprocess,
        thresholds=Thresholds(),
        selftest=SelfTest(SELFTEST, hashlib.sha256(data).hexdigest(), len(data), blank, SELFTEST_TOLERANCE),
        provenance=parts.provenance,
    )


def describe_stage(path: Path) -> Stage:
    """Give the manifest's entry for a TFLite file."""
    data = path.read_bytes()
    runner = Runner(data, path.name)
    return Stage(
        path.name,
        hashlib.sha256(data).hexdigest(),
        len(data),
        runner.input,
        runner.output,
        operators=TfliteFile(data).operators(),
    )


def expected_rows(probabilities: Probabilities) -> tuple[tuple[float, ...], ...]:
    """Give probabilities as the manifest keeps them."""
    return tuple(tuple(round(float(np.clip(value, 0, 1)), DIGITS) for value in row) for row in probabilities)


def _calibration(manifest: Manifest, answers: Answers) -> Calibration:
    people, known = window_means(answers.crops, answers.probabilities)
    _, foreign = window_means(answers.foreign_crops, answers.foreign)
    truth = np.array([manifest.labels.index(person) for person in people], np.int64)
    return calibrate(known, truth, foreign)


def _finished(
    manifest: Manifest, chain: Chain, dataset: Dataset, evaluation: Evaluation, calibration: Calibration
) -> Manifest:
    expected = expected_rows(chain.run(selftest_inputs()))
    return dataclasses.replace(
        manifest,
        selftest=dataclasses.replace(manifest.selftest, expected=expected),
        metrics=_metrics(evaluation, calibration),
        provenance={**manifest.provenance, "dataset": dataset.digest, "versions": _versions()},
    )


def _metrics(evaluation: Evaluation, calibration: Calibration) -> dict[str, Any]:
    false_accept = calibration.false_accept
    return {
        "split": "time",
        "accuracy": evaluation.overall.accuracy,
        "vote5": evaluation.overall.vote5,
        "crops": evaluation.overall.crops,
        "per_person": {
            name: {"accuracy": part.accuracy, "crops": part.crops} for name, part in evaluation.per_person.items()
        },
        "threshold": {
            "rule": calibration.rule,
            "chosen_on": "the test side of the dataset, windows of five crops",
            "right": round(calibration.right, 4),
            "wrong": round(calibration.wrong, 4),
            "strangers_named": None if false_accept is None else round(false_accept, 4),
        },
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("ai-edge-litert", "keras", "numpy", "tensorflow")}
    return {"kinwatch": __version__, "python": platform.python_version(), **libraries}
