"""Owns writing a bundle: its files, what its self-test must answer, thresholds, metrics, manifest. Refuses to train.

The bundle is built in a temporary folder and run there as a device would run it; whoever gives the folder lets it
take its name last: a bundle that has a name is whole.
"""

import dataclasses
import datetime as dt
import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud_tools.datasets.dataset import Dataset
from cloud_tools.detectors.detector import FILE as DETECTOR
from cloud_tools.detectors.detector import DetectorFile
from cloud_tools.evaluation.evaluation import Answers, Evaluation, answer, measure_rule, score, window_votes
from cloud_tools.evaluation.strangers import ACCEPT, RULE, Fit
from cloud_tools.evaluation.threshold import WINDOW, ChosenThreshold, choose_threshold
from cloud_tools.progress import Progress, no_progress, ticks_of
from cloud_tools.tflite.selftest_inputs import selftest_bytes, selftest_inputs
from cloud_tools.tflite.tflite_file import Runner, TfliteFile, load_runner
from contract import __version__
from contract.bundle_runner import BundleRunner, Probabilities
from contract.checks import whole_number
from contract.errors import InputError
from contract.files import atomic_write
from contract.manifest import NAME, Manifest, Preprocess, SelfTest, Stage, Thresholds, load_bundle

BACKBONE, HEAD, SELFTEST = "backbone.tflite", "head.tflite", "selftest.npz"
WHOLE = "model.tflite"  # the one stage of a network that is no backbone and head
# Probabilities. Float kernels of different boards differ by about 1e-5; damaged weights differ by tenths.
SELFTEST_TOLERANCE = 0.02
# Integer kernels round differently: XNNPACK and TFLite's own give features that differ by 12 % of the mean, and
# probabilities by up to 0.034 on these pictures.
INTEGER_TOLERANCE = 0.1
LAST_SECOND = 253_402_300_800  # the year 10,000, which dates here cannot be in
DIGITS = 4  # of the expected probabilities: finer than the tolerance, and release.json travels with each update


@dataclass(frozen=True, kw_only=True)
class BundleParts:
    """What the trainer made: TFLite files (name, bytes), in the order in which they run, and what is known."""

    model: str
    version: int
    labels: tuple[str, ...]
    names: dict[str, str]
    preprocess: Preprocess
    stages: tuple[tuple[str, bytes], ...]
    provenance: dict[str, Any]
    detector: DetectorFile | None
    fit: Fit | None = None  # how it tells strangers; None: by the thresholds alone


def write_bundle(
    building: Path, parts: BundleParts, dataset: Dataset, base: Path | None, progress: Progress = no_progress
) -> tuple[Manifest, Evaluation]:
    """Write the bundle into the folder ``building``, evaluated on the test side of ``dataset``.

    What lies in the folder of an earlier attempt at the same release is overwritten. The self-test file is the base's
    own, where there is a base: then it costs nothing to send.

    Raises:
        InputError, ReleaseError, OSError: as the steps do.
    """
    selftest = _selftest_file(base, parts.preprocess.size)
    found = () if parts.detector is None else ((DETECTOR, parts.detector.data),)
    for name, data in (*parts.stages, *found, (SELFTEST, selftest)):
        atomic_write(building / name, data)
    manifest = _manifest(building, parts)
    runner = load_runner(building, manifest)
    answers = answer(runner, dataset, ticks_of(progress, "evaluation"))
    if parts.fit is None:
        chosen = _choose_threshold(manifest, answers)
        manifest = dataclasses.replace(manifest, thresholds=chosen.thresholds)
        rule = _threshold_metrics(chosen)
    else:
        rule = _familiarity_metrics(manifest, answers, parts.fit)
    without = parts.fit.without if parts.fit else None
    evaluation = score(manifest, dataset, answers, with_baseline=False, without=without)
    manifest = _finished(manifest, runner, dataset, evaluation, rule)
    atomic_write(building / NAME, manifest.to_bytes())
    load_bundle(building)  # what a device will check, checked here
    return manifest, evaluation


def created_now() -> str:
    """Return the time of creation in UTC; SOURCE_DATE_EPOCH sets it, for bundles that are the same bytes twice.

    Raises:
        InputError: the variable is no number of seconds.
    """
    named = os.environ.get("SOURCE_DATE_EPOCH")
    epoch = None if named is None else whole_number(named, LAST_SECOND - 1)
    if named is not None and epoch is None:
        raise InputError(f"SOURCE_DATE_EPOCH={named!r} is no number of seconds since 1970")
    moment = dt.datetime.now(dt.UTC) if epoch is None else dt.datetime.fromtimestamp(epoch, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _selftest_file(base: Path | None, size: tuple[int, int]) -> bytes:
    if base is not None:
        kept = (base / load_bundle(base, verify=False).selftest.file).read_bytes()
        if kept == selftest_bytes(size):
            return kept
    return selftest_bytes(size)


def _manifest(folder: Path, parts: BundleParts) -> Manifest:
    """Return the manifest without what only a run of the bundle can say."""
    data = (folder / SELFTEST).read_bytes()
    blank, found = (tuple(0.0 for _ in parts.labels),), parts.detector
    stages = tuple(describe_stage(folder / name) for name, _ in parts.stages)
    integer = any(stage.input.dtype != "float32" for stage in stages)
    tolerance = INTEGER_TOLERANCE if integer else SELFTEST_TOLERANCE
    return Manifest(
        model=parts.model,
        version=parts.version,
        created=created_now(),
        labels=parts.labels,
        names=parts.names,
        stages=stages,
        preprocess=parts.preprocess,
        thresholds=Thresholds(accept=ACCEPT),
        selftest=SelfTest(SELFTEST, hashlib.sha256(data).hexdigest(), len(data), blank, tolerance),
        provenance=parts.provenance | ({"detector": found.origin} if found else {}),
        familiarity=parts.fit.familiarity if parts.fit else None,
        detector=found.entry(selftest_inputs(parts.preprocess.size)) if found else None,
    )


def describe_stage(path: Path) -> Stage:
    """Return the manifest's entry for a TFLite file."""
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
    """Return probabilities as the manifest keeps them."""
    return tuple(tuple(round(float(np.clip(value, 0, 1)), DIGITS) for value in row) for row in probabilities)


def _choose_threshold(manifest: Manifest, answers: Answers) -> ChosenThreshold:
    people, members = window_votes(answers.crops, answers.probabilities)
    _, strangers = window_votes(answers.stranger_crops, answers.stranger_probabilities)
    truth = np.array([manifest.labels.index(person) for person in people], np.int64)
    return choose_threshold(members, truth, strangers)


def _finished(
    manifest: Manifest, runner: BundleRunner, dataset: Dataset, evaluation: Evaluation, rule: dict[str, Any]
) -> Manifest:
    expected = expected_rows(runner.run(selftest_inputs(manifest.preprocess.size)))
    return dataclasses.replace(
        manifest,
        selftest=dataclasses.replace(manifest.selftest, expected=expected),
        metrics=_metrics(evaluation, rule),
        provenance={**manifest.provenance, "dataset": dataset.digest, "versions": _versions()},
    )


def _metrics(evaluation: Evaluation, rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "split": "time",
        "accuracy": evaluation.overall.accuracy,
        "vote5": evaluation.overall.vote5,
        "crops": evaluation.overall.crops,
        "per_person": {
            # What `publish` compares with the release before: see cloud_tools.publishing.regression.
            name: {"accuracy": part.accuracy, "crops": part.crops, "held_out": part.held_out}
            for name, part in evaluation.per_person.items()
        },
        "threshold": rule,
    }


def _threshold_metrics(chosen: ChosenThreshold) -> dict[str, Any]:
    false_accept = chosen.false_accept
    return {
        "rule": chosen.rule,
        "chosen_on": "the test side of the dataset, windows of five crops",
        "right": round(chosen.right, 4),
        "wrong": round(chosen.wrong, 4),
        "strangers_named": None if false_accept is None else round(false_accept, 4),
    }


def _familiarity_metrics(manifest: Manifest, answers: Answers, fit: Fit) -> dict[str, Any]:
    """Return what the rule does on the test side; strangers at a threshold chosen without the one in question."""
    found = measure_rule(manifest, answers, fit.without)
    sizes = f"{fit.member_windows} windows of {WINDOW}, {fit.stranger_windows} strangers'"
    return {
        "rule": RULE,
        "chosen_on": f"held-out train crops: {sizes}",
        "right": round(1 - found.frr5 - found.wrong5, 4),
        "wrong": found.wrong5,
        "unnamed": found.frr5,
        "strangers_named": found.far5,
        "auroc": found.auroc,
        "auroc5": found.auroc5,
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("ai-edge-litert", "keras", "numpy", "tensorflow")}
    return {"kinwatch": __version__, "python": platform.python_version(), **libraries}
