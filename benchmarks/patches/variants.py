"""Owns the trained models that pairs are made of: what each one starts from, which layers learn, and how fast.

Refuses to export. Each is trained once and kept in the cache; a variant that another one starts from comes first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.patches import samples
from benchmarks.patches.places import within
from cloud_tools.cache import digest_of
from cloud_tools.paper.paper_models import base_weights
from cloud_tools.paper.paper_networks import PaperNetwork, build, freeze_norms, load_base
from cloud_tools.tflite.engine import fresh_session, keras, tensorflow

RECIPE = "1"  # changes when training changes, so that older cached weights are not taken for it
# At Adam's default of 1e-3 most filters of the head die within an epoch (only 31 % of the weights then moved in a
# retrain, and patches are small for nothing); at this rate none does.
HEAD_RATE = 5e-5
TUNED_CROPS, TUNED_BATCH, TUNED_EPOCHS = 240, 16, 3
VGG_CROPS = 160  # its backbone costs ten times MobileNetV2's

Weights = dict[str, list[NDArray[np.float32]]]


@dataclass(frozen=True)
class Variant:
    """Weights by layer, the optimizer's variables (of the head), and the held-out accuracy (None: not taught)."""

    network: str
    people: int
    weights: Weights
    slots: list[NDArray[Any]] = field(default_factory=list)
    accuracy: float | None = None

    def into(self, batch: int | None = None) -> PaperNetwork:
        """Build the network with these weights."""
        fresh_session(0)
        network = build(self.network, self.people, batch)
        for layer in network.layers:
            layer.set_weights(self.weights[layer.name])
        return network

    @property
    def head(self) -> tuple[str, str]:
        """The names of the head's layers."""
        return ("look", "decide")

    @property
    def base(self) -> tuple[str, ...]:
        """The names of the backbone's layers, in order."""
        return tuple(name for name in self.weights if name not in self.head)


def fresh(network: str) -> Variant:
    """Return the backbone under a freshly initialised head for six people, its Adam slots zero: never taught."""

    def make() -> Variant:
        fresh_session(1)
        built = build(network, 6)
        load_base(built, base_weights(network), samples.pictures(samples.train_side(6).some(12, 3).crops))
        optimizer = keras().optimizers.Adam(HEAD_RATE)
        optimizer.build(built.trainer.trainable_variables)
        return Variant(network, 6, _weights(built), _values(optimizer))

    return _kept(network, "fresh", make)


def first(network: str = "mobilenetv2") -> Variant:
    """Return the first deployed model: the head trained on each person's first half of the train side."""
    return _kept(network, "first", lambda: _teach(fresh(network), samples.train_side(6, 0.5), 10, 11))


def retrained(network: str = "mobilenetv2") -> Variant:
    """Return the first model, its head trained on with all crops of the train side."""
    return _kept(network, "retrained", lambda: _teach(first(network), samples.train_side(6), 5, 12))


def seven() -> Variant:
    """Return the first model with a seventh person: the six keep their columns, all of the head learns on."""
    return _kept("mobilenetv2", "seven", lambda: _teach(_widened(first()), samples.train_side(7), 5, 13))


def only_dense() -> Variant:
    """Return the first model, its last layer alone trained on."""
    return _kept(
        "mobilenetv2",
        "only_dense",
        lambda: _teach(first(), samples.train_side(6), 5, 14, layers=("decide",)),
    )


def scratch() -> Variant:
    """Return a head that was initialised anew, by another seed, and trained on the same backbone."""

    def make() -> Variant:
        fresh_session(2)
        layers = build("mobilenetv2", 6).head
        head = {layer.name: layer.get_weights() for layer in layers}
        start = Variant("mobilenetv2", 6, first().weights | head)
        return _teach(start, samples.train_side(6), 10, 15)

    return _kept("mobilenetv2", "scratch", make)


def shaken(start: Variant, share: float, seed: int) -> Variant:
    """Return the model with every weight moved by about ``share`` of itself, by seeded noise; no training."""
    drawn = np.random.default_rng(seed)

    def move(value: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(value + share * (np.abs(value) + 1e-3) * drawn.standard_normal(value.shape), np.float32)

    moved = {layer: [move(value) for value in values] for layer, values in start.weights.items()}
    return Variant(start.network, start.people, moved)


def tuned(name: str, rate: float, last: int | None = None) -> Variant:
    """Return the first model, the ``last`` layers of its backbone (None: all) and the head fine-tuned at ``rate``."""
    return _kept("mobilenetv2", name, lambda: _tune(first(), rate, last))


def tuned_layers(last: int | None) -> tuple[str, ...]:
    """Return the names of the layers whose weights ``tuned`` changes: all but the BatchNorms."""
    network = first().into()
    chosen = network.base.layers if last is None else network.base.layers[-last:]
    norm = keras().layers.BatchNormalization
    return (*(la.name for la in chosen if la.weights and not isinstance(la, norm)), "look", "decide")


def _teach(
    start: Variant, side: samples.Picked, epochs: int, seed: int, layers: Sequence[str] = ("look", "decide")
) -> Variant:
    """Train ``layers`` of the head on cached features; classes weigh the same."""
    network = start.into()
    side = side if start.network == "mobilenetv2" else side.some(VGG_CROPS, seed)
    for layer in network.head:
        layer.trainable = layer.name in layers
    fresh_seed(seed)
    network.trainer.compile(keras().optimizers.Adam(HEAD_RATE), "sparse_categorical_crossentropy")
    network.trainer.optimizer.build(network.trainer.trainable_variables)
    weight = len(side.labels) / (start.people * np.bincount(side.labels, minlength=start.people))
    features = _features(network, start.network, side)
    network.trainer.fit(
        features, side.labels, batch_size=32, epochs=epochs, sample_weight=weight[side.labels], verbose=0
    )
    held_out = samples.test_side(start.people).some(300 if start.network == "mobilenetv2" else VGG_CROPS, 5)
    said = network.trainer.predict(_features(network, start.network, held_out), batch_size=64, verbose=0)
    accuracy = float((said.argmax(1) == held_out.labels).mean())
    return Variant(start.network, start.people, _weights(network), _values(network.trainer.optimizer), accuracy)


def fresh_seed(seed: int) -> None:
    """Seed every generator; names stay as they are."""
    keras().utils.set_random_seed(seed)


def _features(network: PaperNetwork, name: str, side: samples.Picked) -> NDArray[np.float32]:
    if name == "mobilenetv2":
        return samples.maps(side.crops)
    pictures = samples.pictures(side.crops).astype(np.float32) / 127.5 - 1
    return np.asarray(network.base.predict(pictures, batch_size=8, verbose=0))


def _tune(start: Variant, rate: float, last: int | None) -> Variant:
    network = start.into()
    if last is not None:
        for layer in network.base.layers[:-last]:
            layer.trainable = False
    freeze_norms(network.base.layers)
    fresh_seed(16)
    side = samples.train_side(6).some(TUNED_CROPS, 6)
    network.model.compile(keras().optimizers.Adam(rate), "sparse_categorical_crossentropy")
    pictures = samples.pictures(side.crops).astype(np.float32)
    network.model.fit(pictures, side.labels, batch_size=TUNED_BATCH, epochs=TUNED_EPOCHS, verbose=0)
    held_out = samples.test_side(6).some(300, 5)
    said = network.model.predict(samples.pictures(held_out.crops).astype(np.float32), batch_size=32, verbose=0)
    accuracy = float((said.argmax(1) == held_out.labels).mean())
    return Variant(start.network, start.people, _weights(network), accuracy=accuracy)


def _widened(start: Variant) -> Variant:
    fresh_session(4)
    decide = build(start.network, start.people + 1).head[-1].get_weights()
    for mine, kept in zip(decide, start.weights["decide"], strict=True):
        mine[..., : start.people] = kept
    return Variant(start.network, start.people + 1, start.weights | {"decide": decide})


def _weights(network: PaperNetwork) -> Weights:
    return {layer.name: [np.array(value) for value in layer.get_weights()] for layer in network.layers}


def _values(optimizer: Any) -> list[NDArray[Any]]:
    return [np.asarray(variable) for variable in optimizer.variables]


def _kept(network: str, name: str, make: Callable[[], Variant]) -> Variant:
    """Return the variant from the cache, or make and keep it."""
    key = digest_of(RECIPE, network, name, str(tensorflow().__version__), str(keras().__version__))[:16]
    path = within("models") / f"{network}-{name}-{key}.npz"
    if not path.exists():
        _write(path, make())
    return _read(path, network)


def _write(path: Any, variant: Variant) -> None:
    arrays: dict[str, Any] = {
        f"w|{layer}|{i}": value for layer, values in variant.weights.items() for i, value in enumerate(values)
    }
    arrays |= {f"s|{i}": value for i, value in enumerate(variant.slots)}
    arrays["people"] = np.array(variant.people)
    if variant.accuracy is not None:
        arrays["accuracy"] = np.array(variant.accuracy)
    incoming = path.with_suffix(".part.npz")
    np.savez(incoming, **arrays)
    incoming.replace(path)


def _read(path: Any, network: str) -> Variant:
    weights: Weights = {}
    slots: list[NDArray[Any]] = []
    with np.load(path) as arrays:
        for key in arrays.files:
            kind, *rest = key.split("|")
            if kind == "w":
                weights.setdefault(rest[0], []).append(arrays[key])
            elif kind == "s":
                slots.append(arrays[key])
        accuracy = float(arrays["accuracy"]) if "accuracy" in arrays.files else None
        return Variant(network, int(arrays["people"]), weights, slots, accuracy)
