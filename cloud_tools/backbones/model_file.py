"""Owns taking a Keras model from a file as a backbone. Refuses code in files, and networks that take no picture.

A model's configuration can name any Python object. Before Keras sees the file, every class that it names must be in
the lists here (layers that look at pictures, and Keras' own initialisers, regularisers, constraints); Keras' safe
mode is on besides, and nothing is compiled. Layers that read other files or run code (Lambda, StringLookup,
TFSMLayer, wrappers of other engines) are in no list.

Features are the network's last feature map; what comes after it (pooling, classes) is left out. The normalisation
must be in the file (Rescaling, Normalization) or be said: a file does not tell what pixels it was trained on.
"""

import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from cloud_tools.backbones.networks import SIZE, Network
from cloud_tools.backbones.weights import HDF5, MOST_BYTES, WeightsFile
from cloud_tools.setting_errors import Setting, SettingError
from cloud_tools.tflite.engine import fresh_session, keras
from cloud_tools.tflite.quiet import quiet
from contract.errors import InputError, one_line
from contract.files import read_capped

MOST_CONFIG_BYTES = 16 << 20
LEAST_SIDE, MOST_SIDE = 32, 1024  # pixels
PIXELS = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0)}  # scale, offset
NORMALISING = frozenset(("Rescaling", "Normalization"))
NOT_WHOLE = "not a whole Keras model (.keras or .h5)"
# fmt: off
LAYERS = frozenset(
    (
        "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D",
        "Cropping2D", "Dense", "DepthwiseConv2D", "Dropout", "ELU", "Flatten", "Functional", "GaussianNoise",
        "GlobalAveragePooling2D", "GlobalMaxPooling2D", "GroupNormalization", "InputLayer",
        "LayerNormalization", "LeakyReLU", "MaxPooling2D", "Maximum", "Minimum", "Model", "Multiply",
        "Normalization", "PReLU", "Permute", "ReLU", "Rescaling", "Reshape", "Resizing", "SeparableConv2D",
        "Sequential", "Softmax", "SpatialDropout2D", "Subtract", "UpSampling2D", "ZeroPadding2D",
    )
)
# fmt: on
# Types of values that a configuration may hold besides layers and Keras' own small objects.
VALUES = frozenset(
    ("DTypePolicy", "Policy", "TensorShape", "__keras_tensor__", "__tuple__", "__tensor__", "__numpy__")
)


def network_from_file(path: Path, pixels: str | None = None) -> Network:
    """Return the network in a ``.keras`` or ``.h5`` file, by its last feature map.

    Raises:
        InputError: no Keras model, a model that names code, or one whose input is no picture.
        OSError: the file cannot be read.
    """
    weights = model_file_weights(path)
    names = _checked_classes(_config(weights.data, path), path)
    scale, offset = _pixel_rule(names, pixels, path)
    size = _size(_load(weights.data, path), path)
    return Network(
        name=f"file-{size[0]}x{size[1]}",
        recipe=f"1 {scale} {offset}",
        size=size,
        scale=scale,
        offset=offset,
        build=lambda: _feature_model(_load(weights.data, path), size, path),
        load=lambda model, same: None,  # the file brought them
    )


def model_file_weights(path: Path) -> WeightsFile:
    """Return the file as its own weights: its digest names the backbone."""
    data = read_capped(path, MOST_BYTES)
    return WeightsFile("model file", hashlib.sha256(data).hexdigest(), data)


def _config(data: bytes, path: Path) -> Any:
    """Return the configuration of the model, as JSON values."""
    try:
        text = _h5_config(data) if data.startswith(HDF5) else _zip_config(data)
        config = None if text is None else json.loads(text)
    except Exception as error:  # zipfile, zlib, h5py and json raise a dozen kinds for what is damaged
        raise InputError(f"{path}: {NOT_WHOLE}: {one_line(error)}") from error
    if text is None:
        alone = "it has weights alone; give the model, or name the backbone and use "
        raise SettingError(f"{path}: {NOT_WHOLE}: {alone}", Setting.WEIGHTS)
    return config


def _zip_config(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = set(archive.namelist())
        # assets/ is where layers keep files of their own
        extra = sorted(names - {"config.json", "metadata.json", "model.weights.h5"})
        if extra or archive.getinfo("config.json").file_size > MOST_CONFIG_BYTES:
            raise ValueError(f"it holds {extra[0]}" if extra else "too long a configuration")
        return archive.read("config.json")


def _h5_config(data: bytes) -> bytes | None:
    """Return the configuration in an .h5; None when it has weights alone."""
    import h5py

    with h5py.File(io.BytesIO(data), "r") as top:
        found = top.attrs.get("model_config")
    if found is None:
        return None
    if not isinstance(found, str | bytes):
        raise TypeError("its configuration is no text")
    return found.encode() if isinstance(found, str) else bytes(found)


def _checked_classes(config: Any, path: Path) -> set[str]:
    """Return the class names in the configuration, wherever they stand; refuse one that is in no list."""
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a whole Keras model: its configuration is no object")
    config.pop("compile_config", None)  # optimiser and loss of the training; ``compile=False`` leaves them out
    allowed, waiting, names = LAYERS | VALUES | _own_objects(), [config], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and "class_name" in value:
            named, module = value["class_name"], value.get("module")
            # "package>name" is code that somebody registered
            if str(named) not in allowed or not _is_keras(module) or ">" in str(value.get("registered_name")):
                raise InputError(f"{path}: its model names {named!r} of {module}, which no backbone may")
            names.add(str(named))
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return names


def _is_keras(module: Any) -> bool:
    return module is None or module == "keras" or str(module).startswith("keras.")  # .h5 names no module


def _own_objects() -> set[str]:
    """Return the names of Keras' own initialisers, regularisers and constraints."""
    api = keras()
    kinds = (
        (api.initializers, api.initializers.Initializer),
        (api.regularizers, api.regularizers.Regularizer),
        (api.constraints, api.constraints.Constraint),
    )
    return {
        name
        for module, kind in kinds
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, kind)
    }


def _pixel_rule(names: set[str], pixels: str | None, path: Path) -> tuple[float, float]:
    if pixels is None and not names & NORMALISING:
        known = " | ".join(PIXELS)
        raise SettingError(f"{path}: no layer normalises pixels; say what it takes: ", Setting.PIXELS, f" {known}")
    if pixels is not None and pixels not in PIXELS:
        raise SettingError(Setting.PIXELS, f" {pixels!r} is not known (known: {', '.join(PIXELS)})")
    return PIXELS[pixels or "0..255"]


def _load(data: bytes, path: Path) -> Any:
    with tempfile.NamedTemporaryFile(suffix=".h5" if data.startswith(HDF5) else ".keras") as file:
        file.write(data)  # what was checked is what is loaded, whatever happens to the path meanwhile
        file.flush()
        try:
            with quiet():
                return keras().models.load_model(file.name, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever its layers raise for a configuration that makes no sense
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"{path}: Keras cannot load it: {one_line(error)}") from error


def _size(model: Any, path: Path) -> tuple[int, int]:
    shapes = [tuple(tensor.shape) for tensor in model.inputs or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3:
        raise InputError(f"{path}: its input is {shapes}, not one picture of height x width x 3")
    height, width = (given or usual for given, usual in zip(shapes[0][1:3], SIZE, strict=True))
    if not all(LEAST_SIDE <= side <= MOST_SIDE for side in (height, width)):
        raise InputError(f"{path}: it takes {height}x{width} pixels, not {LEAST_SIDE} to {MOST_SIDE}")
    return height, width


def _feature_model(model: Any, size: tuple[int, int], path: Path) -> Any:
    """Return the model up to its last feature map (4 axes, more than one place)."""
    fresh_session(0)
    pixels = keras().Input((*size, 3), name="scaled")
    maps: list[Any] = []

    def call(layer: Any, *values: Any, **named: Any) -> Any:
        out = layer(*values, **named)
        if len(getattr(out, "shape", ())) == 4 and not isinstance(layer, keras().layers.InputLayer):
            maps.append(out)
        return out

    if isinstance(model, keras().Sequential):
        out = pixels
        for layer in model.layers:
            out = call(layer, out)
    else:
        keras().models.clone_model(
            model, input_tensors=pixels, clone_function=lambda layer: layer, call_function=call
        )
    if not maps:
        raise InputError(f"{path}: it has no feature map (height x width x channels) to put a head on")
    return keras().Model(pixels, maps[-1], name="features")
