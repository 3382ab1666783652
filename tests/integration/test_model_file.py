"""Any Keras model from a file as a backbone: what is taken of it, and what is refused before Keras sees it."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cloud_tools.backbones.backbone import make_backbone
from cloud_tools.backbones.choice import network
from cloud_tools.backbones.model_file import model_file_weights, network_from_file
from cloud_tools.backbones.networks import build_backbone
from cloud_tools.commands.terminal import options_named
from cloud_tools.tflite.engine import fresh_session, keras
from cloud_tools.tflite.tflite_file import Runner
from contract.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FORMS = (".keras", ".h5")


def classifier(*, normalise: bool = True, shape: tuple[Any, ...] = (48, 32, 3)) -> Any:
    """Return a small whole classifier, compiled, with a branch and a nested model."""
    fresh_session(1)
    layers = keras().layers
    inner_in = keras().Input((None, None, 8))
    inner = keras().Model(inner_in, layers.Conv2D(8, 3, padding="same", activation="relu")(inner_in), name="inner")
    pixels = keras().Input(shape)
    x = layers.Rescaling(1 / 255)(pixels) if normalise else pixels
    x = layers.Conv2D(8, 3, strides=2, padding="same", kernel_initializer="he_normal", kernel_regularizer="l2")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    features = layers.Add(name="features")([x, inner(x)])
    out = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(features))
    model = keras().Model(pixels, out)
    model.compile("adam", "categorical_crossentropy")
    return model


def saved(model: Any, path: Path) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras calls .h5 old
        model.save(path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_features_are_the_last_feature_map_of_the_file(form: str, tmp_path: Path) -> None:
    model = classifier()
    pictures = np.random.default_rng(0).uniform(0, 255, (1, 48, 32, 3)).astype(np.float32)
    wanted = np.asarray(keras().Model(model.input, model.get_layer("features").output)(pictures, training=False))
    path = saved(model, tmp_path / f"own{form}")
    chosen = network(str(path))
    assert chosen.size == (48, 32)
    backbone = build_backbone(chosen, model_file_weights(path))
    assert np.allclose(np.asarray(backbone(pictures)), wanted, atol=1e-6)


def test_a_model_from_a_file_becomes_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINWATCH_CACHE", str(tmp_path / "cache"))
    path = saved(classifier(), tmp_path / "own.keras")
    made = make_backbone(network(str(path)), model_file_weights(path))
    assert made.preprocess.size == (48, 32)
    assert made.features == Runner(made.data, "own").output.shape[1:] == (24, 16, 8)
    assert made.origin["weights"] == "model file"


def test_a_sequential_model_is_taken_too(tmp_path: Path) -> None:
    fresh_session(0)
    layers = keras().layers
    stack = [keras().Input((32, 32, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.Flatten()]
    path = saved(keras().Sequential([*stack, layers.Dense(2)]), tmp_path / "own.keras")
    assert build_backbone(network(str(path)), model_file_weights(path)).output_shape == (1, 30, 30, 4)


def test_a_file_that_does_not_normalise_must_be_told_its_pixels(tmp_path: Path) -> None:
    path = saved(classifier(normalise=False), tmp_path / "own.keras")
    with pytest.raises(InputError, match="--pixels 0..255"), options_named():
        network(str(path))
    chosen = network(str(path), "-1..1")
    assert (chosen.scale, chosen.offset) == (1 / 127.5, -1.0)
    with pytest.raises(InputError, match="not known"):
        network(str(path), "0..2")


@pytest.mark.parametrize("shape", [(48, 32, 1), (16, 16, 3), (2000, 32, 3)])
def test_an_input_that_is_no_picture_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = saved(classifier(shape=shape), tmp_path / "own.keras")
    with pytest.raises(InputError, match=r"its input is|it takes"):
        network_from_file(path)


def test_a_network_of_numbers_is_refused(tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([keras().Input((7,)), layers.Normalization(), layers.Dense(2)])
    path = saved(model, tmp_path / "own.keras")
    with pytest.raises(InputError, match="not one picture"):
        network_from_file(path)


@pytest.mark.parametrize("form", FORMS)
def test_code_in_a_file_is_refused(form: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pixels = keras().Input((32, 32, 3))

    def act(values: Any) -> Any:
        canary.touch()
        return values

    model = keras().Model(pixels, keras().layers.Conv2D(2, 3)(keras().layers.Lambda(act)(pixels)))
    path = saved(model, tmp_path / f"own{form}")
    canary.unlink(missing_ok=True)
    with pytest.raises(InputError, match="'Lambda'"):
        network_from_file(path, "0..255")
    assert not canary.exists()


def named(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of a configuration: the first convolution's initialiser becomes an object of these names."""

    def change(config: dict[str, Any]) -> None:
        layer = next(item for item in config["config"]["layers"] if item["class_name"] == "Conv2D")
        layer["config"]["kernel_initializer"] = values

    return change


CHANGES = {
    "function": named(module="builtins", class_name="function", config="eval", registered_name="function"),
    "foreign module": named(module="os", class_name="system", config={"command": "true"}),
    "foreign module, known name": named(module="os", class_name="Dense", config={}),
    "registered": named(module="keras", class_name="Dense", config={}, registered_name="own>Dense"),
    "lambda": named(class_name="__lambda__", config={"value": "4wA="}),
    "layer that reads files": named(module="keras.layers", class_name="StringLookup", config={"vocabulary": "/x"}),
    "saved model": named(module="keras.layers", class_name="TFSMLayer", config={"filepath": "/x"}),
    "name that is a list": named(module="keras.layers", class_name=["Dense"], config={}),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_configuration_that_names_anything_else_is_refused(change: str, tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "own.keras")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    CHANGES[change](config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (parts | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, data)
    with pytest.raises(InputError, match="which no backbone may"):
        network_from_file(path)


def test_files_that_are_no_whole_model_are_one_clear_line(tmp_path: Path) -> None:
    text, weights, deep, extra = (tmp_path / name for name in ("a.keras", "b.h5", "c.keras", "d.keras"))
    text.write_text("no model")
    with h5py.File(weights, "w") as file:
        file.create_dataset("layer/kernel", data=np.zeros(3))
    for path, name, data in (
        (deep, "config.json", "[" * 100_000),
        (extra, "assets/vocabulary.txt", "x"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, data)
    for path, said in ((text, "not a zip"), (weights, "--weights"), (deep, "not a whole"), (extra, "assets/")):
        with pytest.raises(InputError, match=said) as error, options_named():
            network_from_file(path)
        assert "\n" not in str(error.value)


def test_a_backbone_that_is_unknown_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean mobilenetv2"):
        network("mobilnetv2")
    with pytest.raises(InputError, match="known: mobilenetv2, efficientnet-lite0, vgg19"):
        network("zzz")
    with pytest.raises(InputError, match="--pixels is for"), options_named():
        network("vgg19", "0..1")
