"""Owns the import of TensorFlow and Keras: late (it takes seconds), quiet, deterministic. Refuses to use them.

The device never imports this; nor do ``evaluate`` and ``dataset``.
"""

import functools
import os
import warnings
from typing import Any

from cloud_tools.tflite.quiet import quiet


@functools.cache
def tensorflow() -> Any:
    """Return the module ``tensorflow``, set so that the same seed gives the same bytes.

    Raises:
        ImportError: it is not installed (`pip install .[cloud]`).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # kernels of a GPU add up in another order each time
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        import tensorflow
    tensorflow.get_logger().setLevel("ERROR")
    tensorflow.config.experimental.enable_op_determinism()
    return tensorflow


@functools.cache
def keras() -> Any:
    """Return the module ``keras``, on TensorFlow."""
    tensorflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    return keras


def fresh_session(seed: int) -> None:
    """Forget graph names of earlier models and seed every generator, so that a second export has the same names."""
    keras().utils.clear_session()
    keras().utils.set_random_seed(seed)
