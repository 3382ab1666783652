"""Owns turning a variant into the files that are patched: TFLite in five precisions, SavedModel, safetensors.

Refuses a TFLite file that does not say what the Keras model says (float32), or that lost more than LEAST_AGREEING of
its decisions to quantisation. Names in the graphs are explicit and the session is cleared before each export.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.patches import samples
from benchmarks.patches.small_heads import small_head
from benchmarks.patches.variants import Variant
from cloud_tools.tflite.engine import fresh_session, keras, tensorflow
from cloud_tools.tflite.export import ExportError, export_tflite
from cloud_tools.tflite.quiet import quiet
from cloud_tools.tflite.tflite_file import Runner

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8-recalibrated")
CALIBRATION_CROPS, CALIBRATION_SEEDS = 48, {"int8": 21, "int8-recalibrated": 22}
TOLERANCE = 1e-3  # probabilities; a wrong graph is off by far more
CHECKED_CROPS, LEAST_AGREEING = 40, 0.7


def to_tflite(variant: Variant, precision: str) -> bytes:
    """Convert the whole model (batch of 1) to TFLite.

    ``int8`` and ``int8-recalibrated`` take different crops as calibration data; weights and activations are int8,
    the ends stay float32.

    Raises:
        ExportError: the file does not say what the Keras model says.
    """
    network = variant.into(1)
    pixels = samples.pictures(samples.test_side(6).some(CHECKED_CROPS, 8).crops).astype(np.float32)
    if precision == "float32":
        return export_tflite(network.model, pixels[:8], TOLERANCE)
    converter = tensorflow().lite.TFLiteConverter.from_keras_model(network.model)
    converter.optimizations = [tensorflow().lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tensorflow().float16]
    elif precision in CALIBRATION_SEEDS:
        converter.representative_dataset = lambda: _calibration(CALIBRATION_SEEDS[precision])
        converter.target_spec.supported_ops = [tensorflow().lite.OpsSet.TFLITE_BUILTINS_INT8]
    with quiet():
        data = bytes(converter.convert())
    _check_decisions(data, network.model, pixels, precision)
    return data


def head_to_tflite(kind: str, weights: list[NDArray[np.float32]]) -> bytes:
    """Convert a head alone, ``pooled`` or ``conv32``, float32. Errors as ``to_tflite``."""
    fresh_session(0)
    model = small_head(kind, weights[-1].shape[0], 1)
    model.set_weights(weights)
    return export_tflite(model, samples.maps(samples.test_side(6).some(8, 8).crops), TOLERANCE)


def to_saved_model(variant: Variant, folder: Path, *, slots: bool) -> None:
    """Write a SavedModel to ``folder``; with ``slots``, the Adam variables of the head are among its variables."""
    tf = tensorflow()
    network = variant.into()
    root = tf.Module(name="deployed")
    root.model = network.model
    if slots:
        root.optimizer = keras().optimizers.Adam()
        root.optimizer.build(network.trainer.trainable_variables)
        for variable, value in zip(root.optimizer.variables, variant.slots, strict=True):
            variable.assign(value)
    signature = [tf.TensorSpec((None, *network.model.input_shape[1:]), tf.float32, name="pixels")]
    serve = tf.function(lambda pixels: network.model(pixels, training=False), input_signature=signature)
    with quiet():
        tf.saved_model.save(root, str(folder), signatures=serve)


def to_safetensors(variant: Variant) -> bytes:
    """Return the weights as a safetensors file, named ``layer.number``."""
    from safetensors.numpy import save

    named: Mapping[str, NDArray[np.float32]] = {
        f"{layer}.{i}": np.ascontiguousarray(value)
        for layer, values in variant.weights.items()
        for i, value in enumerate(values)
    }
    return bytes(save(dict(named)))


def _calibration(seed: int) -> Iterator[list[NDArray[np.float32]]]:
    for picture in samples.pictures(samples.train_side(6).some(CALIBRATION_CROPS, seed).crops):
        yield [picture[None].astype(np.float32)]


def _check_decisions(data: bytes, model: Any, pixels: NDArray[np.float32], precision: str) -> None:
    runner = Runner(data, f"{model.name} ({precision})")
    said = np.concatenate([runner.run(picture[None]) for picture in pixels])
    meant = model.predict(pixels, batch_size=1, verbose=0)
    agreeing = float((said.argmax(1) == meant.argmax(1)).mean())
    if not np.isfinite(said).all() or agreeing < LEAST_AGREEING:
        raise ExportError(f"{runner.name}: agrees with Keras on {agreeing:.0%} of {len(pixels)} crops")
