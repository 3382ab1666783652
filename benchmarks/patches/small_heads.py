"""Owns the heads that are files of their own, as devices have them: pooled and the paper's, on a grid or as trained.

Refuses a grid that nobody deploys: the steps are those that cloud_tools chooses on these crops.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.patches import samples
from benchmarks.patches.variants import HEAD_RATE, first, fresh_seed
from cloud_tools.paper.paper_networks import CHANNELS, DROPOUT
from cloud_tools.tflite.engine import fresh_session, keras
from cloud_tools.training.weight_grid import snapped

Head = list[NDArray[np.float32]]
GRIDS = {"pooled": 2.0**-7, "conv32": 2.0**-9}
EPOCHS = {"pooled": 40, "conv32": 5}
RATES = {"pooled": 1e-3, "conv32": HEAD_RATE}


def small_head(kind: str, people: int, batch: int | None = None) -> Any:
    """Build a head on feature maps, for a file of its own: ``pooled`` (mean, Dense) or ``conv32`` (the paper's)."""
    layers = keras().layers
    maps = keras().Input((5, 5, CHANNELS["mobilenetv2"]), batch_size=batch, name="features")
    seen = maps if kind == "pooled" else layers.Conv2D(32, 3, activation="relu", name="look")(maps)
    mean = layers.GlobalAveragePooling2D(name="mean")(layers.Dropout(DROPOUT, name="dropout")(seen))
    return keras().Model(maps, layers.Dense(people, activation="softmax", name="decide")(mean), name="head")


@functools.cache
def start(kind: str, on_grid: bool) -> tuple[NDArray[np.float32], ...]:
    """Return the first head: trained on six people, each one's first half of the train side."""
    if kind == "conv32":
        weights = [value for layer in first().head for value in first().weights[layer]]
    else:
        weights = _teach(kind, None, samples.train_side(6, 0.5), 6, 31)
    return tuple(_put(kind, weights, on_grid))


def retrained(kind: str, people: int, on_grid: bool, epochs: int | None = None) -> Head:
    """Return the head trained on with all crops of ``people`` people, from ``start`` as it is deployed.

    ``epochs`` None is as many as the first training had.
    """
    begin = _widened(list(start(kind, on_grid)), people)
    return _put(kind, _teach(kind, begin, samples.train_side(people), people, 32, epochs), on_grid)


def _put(kind: str, weights: Head, on_grid: bool) -> Head:
    return [snapped(value, GRIDS[kind]) for value in weights] if on_grid else weights


def _widened(weights: Head, people: int) -> Head:
    """Return seeded small random columns to people that the weights do not know."""
    drawn = np.random.default_rng(33)
    missing = people - weights[-1].shape[0]
    new = drawn.uniform(-0.05, 0.05, (weights[-2].shape[0], missing)).astype(np.float32)
    return [*weights[:-2], np.concatenate([weights[-2], new], 1), np.pad(weights[-1], (0, missing))]


def _teach(
    kind: str, begin: Head | None, side: samples.Picked, people: int, seed: int, epochs: int | None = None
) -> Head:
    fresh_session(seed)
    model = small_head(kind, people)
    if begin is not None:
        model.set_weights(begin)
    fresh_seed(seed)
    weight = len(side.labels) / (people * np.bincount(side.labels, minlength=people))
    model.compile(keras().optimizers.Adam(RATES[kind]), "sparse_categorical_crossentropy")
    model.fit(
        samples.maps(side.crops),
        side.labels,
        batch_size=32,
        epochs=epochs or EPOCHS[kind],
        sample_weight=weight[side.labels],
        verbose=0,
    )
    return [np.array(value) for value in model.get_weights()]
