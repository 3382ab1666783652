"""Owns making ``tests/vectors/bundle_tiny``: a bundle of two real TFLite models, so that tests need no TensorFlow.

The model names the colour of a coat. Backbone (int8): one 1x1 convolution to six channels, each for what one colour
has more of than another, averaged over the picture. Head (float32): a dense layer and softmax over red, green and
blue. Weights are set by hand: nothing is trained, and a person can check the answers.

    python tests/vectors/make_bundle.py tests/vectors/bundle_tiny
"""

import hashlib
import io
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.files import atomic_write
from contract.manifest import NAME, Manifest, Preprocess, SelfTest, Stage, TensorSpec, Thresholds

SIDE = 16
LABELS = ("red", "green", "blue")
PAIRS = ((0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2))  # a channel: how much more of the first than of the second
STEEPNESS = 6.0


def backbone() -> bytes:
    """Return the int8 model: picture (1, 16, 16, 3) in -1..1 to six averages."""
    import tensorflow as tf
    from keras import Sequential, layers

    kernel = np.zeros((1, 1, 3, len(PAIRS)), np.float32)
    for channel, (more, less) in enumerate(PAIRS):
        kernel[0, 0, more, channel], kernel[0, 0, less, channel] = 1.0, -1.0
    model = Sequential(
        [
            layers.Input((SIDE, SIDE, 3), batch_size=1),
            layers.Conv2D(len(PAIRS), 1, activation="relu", use_bias=False, name="more_than"),
            layers.GlobalAveragePooling2D(name="average"),
        ]
    )
    model.get_layer("more_than").set_weights([kernel])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([normalised(picture)[np.newaxis]] for picture in pictures())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def head() -> bytes:
    """Return the float32 model: six averages to three probabilities."""
    import tensorflow as tf
    from keras import Sequential, layers

    weights = np.zeros((len(PAIRS), len(LABELS)), np.float32)
    for channel, (more, less) in enumerate(PAIRS):
        weights[channel, more], weights[channel, less] = STEEPNESS, -STEEPNESS
    model = Sequential(
        [layers.Input((len(PAIRS),), batch_size=1), layers.Dense(len(LABELS), activation="softmax", name="decision")]
    )
    model.get_layer("decision").set_weights([weights, np.zeros(len(LABELS), np.float32)])
    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def pictures() -> NDArray[np.uint8]:
    """Return twelve pictures, n x 16 x 16 x 3 of uint8, RGB: three pure colours, grey, and eight seeded ones."""
    plain = np.zeros((4, SIDE, SIDE, 3), np.uint8)
    for channel in range(3):
        plain[channel, :, :, channel] = 255
    plain[3] = 128
    return np.concatenate([plain, np.random.default_rng(3).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)])


def normalised(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a picture's values in -1..1, as the manifest's preprocess says."""
    return picture.astype(np.float32) / np.float32(127.5) - np.float32(1)


def stage(file: str, content: bytes) -> Stage:
    """Describe a model's ends as its file has them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()

    def spec(found: dict) -> TensorSpec:
        scale, zero_point = found["quantization"]
        shape = tuple(int(size) for size in found["shape"])
        return TensorSpec(shape, np.dtype(found["dtype"]).name, float(scale), int(zero_point))

    digest = hashlib.sha256(content).hexdigest()
    ends = spec(interpreter.get_input_details()[0]), spec(interpreter.get_output_details()[0])
    return Stage(file, digest, len(content), *ends)


def write(folder: Path) -> None:
    """Write the bundle; what the agent answers to the self-test's pictures becomes what is expected."""
    from agent.vision.classifier import load_classifier

    folder.mkdir(parents=True, exist_ok=True)
    models = {"backbone.tflite": backbone(), "head.tflite": head()}
    archive = io.BytesIO()
    np.savez_compressed(archive, inputs=pictures()[:6])
    for name, data in {**models, "selftest.npz": archive.getvalue()}.items():
        atomic_write(folder / name, data)
    tests = SelfTest(
        "selftest.npz",
        hashlib.sha256(archive.getvalue()).hexdigest(),
        len(archive.getvalue()),
        ((1.0, 0.0, 0.0),),
        tolerance=0.02,
    )
    manifest = Manifest(
        "household",
        1,
        "2026-01-01T00:00:00Z",
        LABELS,
        tuple(stage(name, data) for name, data in models.items()),
        Preprocess((SIDE, SIDE), context=0.0, scale=1 / 127.5, offset=-1.0),
        Thresholds(accept=0.6, least_crops=3),
        tests,
        provenance={"made": "tests/vectors/make_bundle.py"},
    )
    atomic_write(folder / NAME, manifest.to_bytes())
    answers = load_classifier(folder).run(pictures()[:6])
    expected = tuple(tuple(round(float(value), 6) for value in row) for row in answers)
    final = Manifest(**{**vars(manifest), "selftest": SelfTest(**{**vars(tests), "expected": expected})})
    atomic_write(folder / NAME, final.to_bytes())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
