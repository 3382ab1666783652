"""Owns two releases that are broken on purpose, for the demo and the tests; refuses to pass for good ones elsewhere.

Both are whole and can be signed: every digest in their manifests is right. One answers its self-test wrongly. The
other answers it rightly, and ends the process that shows it anything else: the failure that only a trial finds.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cloud_tools.tflite.engine import fresh_session, keras, tensorflow
from cloud_tools.tflite.quiet import quiet
from cloud_tools.tflite.tflite_file import Runner, TfliteFile, load_runner
from cloud_tools.training.bundle_writer import HEAD, describe_stage, expected_rows
from contract.errors import InputError
from contract.files import atomic_write
from contract.manifest import NAME, Manifest, load_bundle
from contract.preprocess import to_tensor

# TFLite's comparison kernels take tensors of at most this many dimensions and abort the process on more.
MOST_DIMENSIONS = 8
# Squared distance of pooled features: 0 for the self-test's own pictures, 839 to 1723 for the crops of vtest.
NEAR = 1.0


def write_failing_selftest(good_bundle: Path, out: Path, version: int) -> Manifest:
    """Write a release whose head has the signs of its weights turned round, and the good head's expected answers.

    Raises:
        InputError: ``good_bundle`` is no bundle of backbone and head, or ``out`` exists.
    """
    good = _copy(good_bundle, out)
    head = (out / HEAD).read_bytes()
    weights = TfliteFile(head).buffer_of("FULLY_CONNECTED")
    if head.count(weights) != 1:
        raise InputError(f"{good_bundle}: the weights of {HEAD} are not found in it")
    turned = (-np.frombuffer(weights, "<f4")).tobytes()
    return _write(out, good, version, head.replace(weights, turned))


def write_crashing_in_trial(good_bundle: Path, out: Path, version: int) -> Manifest:
    """Write a release that passes its self-test and ends the process (SIGABRT) on any other picture.

    It measures how far the features are from those of the self-test's pictures. Far from all of them, it reshapes a
    tensor to more dimensions than TFLite's comparison takes, and TFLite aborts: no memory is used, no error raised.

    Raises:
        InputError: as ``write_failing_selftest``.
    """
    good = _copy(good_bundle, out)
    known = _pooled_selftest(out, good)
    weights, bias = TfliteFile((out / HEAD).read_bytes()).layer("FULLY_CONNECTED")
    manifest = _write(out, good, version, _crashing_head(known, weights.T, bias))
    expected = expected_rows(load_runner(out, manifest).run(_inputs(out, manifest)))
    manifest = dataclasses.replace(manifest, selftest=dataclasses.replace(manifest.selftest, expected=expected))
    atomic_write(out / NAME, manifest.to_bytes())
    return manifest


def _copy(good_bundle: Path, out: Path) -> Manifest:
    if out.exists():
        raise InputError(f"{out} exists; name a folder that does not")
    good = load_bundle(good_bundle)
    if len(good.stages) != 2 or good.stages[1].file != HEAD or "FULLY_CONNECTED" not in good.stages[1].operators:
        raise InputError(f"{good_bundle} has no backbone and head to break")
    shutil.copytree(good_bundle, out)
    return good


def _write(out: Path, good: Manifest, version: int, head: bytes) -> Manifest:
    atomic_write(out / HEAD, head)
    stages = (good.stages[0], describe_stage(out / HEAD))
    manifest = dataclasses.replace(good, version=version, stages=stages)
    atomic_write(out / NAME, manifest.to_bytes())
    return load_bundle(out)


def _inputs(folder: Path, manifest: Manifest) -> Any:
    with np.load(folder / manifest.selftest.file, allow_pickle=False) as arrays:
        return arrays["inputs"]


def _pooled_selftest(folder: Path, manifest: Manifest) -> Any:
    """Return the pooled features of the self-test's pictures, n x 1280."""
    stage = manifest.stages[0]
    runner = Runner((folder / stage.file).read_bytes(), stage.file)
    pictures = _inputs(folder, manifest)
    maps = [runner.run(to_tensor(picture[None], manifest.preprocess, stage.input)) for picture in pictures]
    return np.concatenate(maps).mean(axis=(1, 2))


def _crashing_head(known: Any, weights: Any, bias: Any) -> bytes:
    """Return the TFLite file; ``weights`` is 1280 x labels."""
    fresh_session(0)
    tf, layers = tensorflow(), keras().layers

    class Trap(layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, pooled: Any) -> Any:
            distances = tf.reduce_sum(tf.math.squared_difference(pooled, tf.constant(known)), axis=1)
            far = tf.cast(tf.reduce_min(distances) > NEAR, tf.int32)
            extra = tf.fill(tf.reshape(far * MOST_DIMENSIONS, [1]), 1)
            shaped = tf.reshape(pooled, tf.concat([extra, tf.constant([1, 2, pooled.shape[-1] // 2])], 0))
            compared = tf.cast(tf.less(shaped, tf.constant([[1.0], [2.0]])), tf.float32)
            # Multiplied by next to nothing: the answer stays, and the converter cannot leave the trap out.
            return pooled + tf.reshape(compared, [-1])[0] * 1e-12

    maps = keras().Input((5, 5, weights.shape[0]), batch_size=1, name="features")
    decide = layers.Dense(weights.shape[1], activation="softmax", name="decide")
    outputs = decide(Trap(name="trap")(layers.GlobalAveragePooling2D(name="mean")(maps)))
    model = keras().Model(maps, outputs, name="head")
    decide.set_weights([weights, bias])
    with quiet():  # not export_tflite: its comparison with Keras would spring the trap
        return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
