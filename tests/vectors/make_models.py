"""Owns making the model files in tests/vectors/models, with TensorFlow: run it only when a kind of file is added.

python -m tests.vectors.make_models
"""

import shutil
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "models"


def main() -> None:
    """Write a sharded TensorBundle, the index of one with Adam slots, and one network in four precisions."""
    FOLDER.mkdir(exist_ok=True)
    _sharded_bundle()
    network = _network()
    with tempfile.TemporaryDirectory() as folder:
        import tensorflow as tf

        tf.saved_model.save(network, folder)
        shutil.copy(Path(folder, "variables", "variables.index"), FOLDER / "slots.index")
    for precision in ("float32", "float16", "dynamic", "int8"):
        (FOLDER / f"{precision}.tflite").write_bytes(_converted(network, precision))


def _sharded_bundle() -> None:
    import numpy as np
    import tensorflow as tf

    kernel = tf.constant(np.arange(300, dtype="f4").reshape(3, 100))
    shards = [
        {"a/kernel": kernel, "note": tf.constant(["x", "yy"])},
        {
            "b": tf.constant(np.arange(50)),
            "c": tf.cast(kernel, tf.bfloat16),
            "d": tf.cast(kernel, tf.float16),
        },
    ]
    with tempfile.TemporaryDirectory() as folder:
        prefixes = [f"{folder}/part{i}" for i in range(len(shards))]
        for prefix, tensors in zip(prefixes, shards, strict=True):
            names = list(tensors)
            tf.raw_ops.SaveV2(
                prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(tensors.values())
            )
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=prefixes, destination_prefix=str(FOLDER / "sharded"), delete_old_dirs=False
        )


def _network():  # type: ignore[no-untyped-def]
    import keras
    import numpy as np

    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3))
    found = keras.layers.Conv2D(8, 3, activation="relu", name="look")(image)
    found = keras.layers.Flatten()(found)
    network = keras.Model(image, keras.layers.Dense(6, activation="softmax", name="who")(found))
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(_pixels(), np.arange(64) % 6, epochs=1, verbose=0)
    return network


def _pixels():  # type: ignore[no-untyped-def]
    import numpy as np

    return np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("f4")


def _converted(network, precision: str) -> bytes:  # type: ignore[no-untyped-def]
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([row[None]] for row in _pixels())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return bytes(converter.convert())


if __name__ == "__main__":
    main()
