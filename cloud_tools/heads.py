"""Owns the trained layers: their graphs, training on features, warm start, the grid of their weights, their export.

Refuses to see pictures. Names in the graphs are explicit (a name that starts with ``_`` breaks the export, and a
counted one changes from run to run). Two heads:
    pooled  mean over the picture, dropout, Dense softmax: 1280 weights a person (default)
    conv32  the paper's: Conv2D 32 filters 3 x 3 ReLU, dropout, mean, Dense softmax (369 K weights)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.embeddings import MAP, POOLED, Features
from cloud_tools.engine import fresh_session, keras
from cloud_tools.export import compare, export_tflite
from cloud_tools.tflite_file import Runner, TfliteFile
from contract.errors import InputError

KINDS = {"pooled": POOLED, "conv32": MAP}  # head: the features it is trained on
EPOCHS = {"pooled": 40, "conv32": 15}
BATCH = 32
DROPOUT = 0.3
LEARNING_RATE = 1e-3
# Steps of the grid, largest first; the last is so fine that it costs nothing and always passes.
STEPS = (2.0**-5, 2.0**-6, 2.0**-7, 2.0**-8, 2.0**-9, 2.0**-12)
MOST_COST = 0.005  # share of the held-out crops that a grid may cost
# Probabilities; measured difference 1e-6. A head with a wrong weight is off by far more.
TOLERANCE = 1e-4

Weights = list[NDArray[np.float32]]
Shape = tuple[int, ...]  # height, width, channels of a feature map
PLACES = (5, 5)  # of the feature map of a backbone of 160 pixels


@dataclass(frozen=True)
class TrainedHead:
    """A head as it is deployed; ``step`` is its weights' grid, ``unsnapped`` what it scored without the grid."""

    data: bytes
    step: float
    accuracy: float
    unsnapped: float


@dataclass(frozen=True)
class Side:
    """Features (n x ...) and label numbers (n) of one side of a split."""

    features: Features
    labels: NDArray[np.int64]


def train_head(
    kind: str,
    labels: Sequence[str],
    train: Side,
    held_out: Side,
    *,
    start: Weights | None = None,
    shape: Shape | None = None,
    epochs: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TrainedHead:
    """Train a head of ``kind`` for ``labels`` on ``train``, snap its weights, export it and compare with Keras.

    ``start`` is what ``warm_start`` gave. ``shape`` is the backbone's feature map (pooled features do not tell it;
    5 x 5 unless given). ``held_out`` decides the grid alone. Classes weigh the same, however many crops each has.

    Raises:
        InputError: unknown kind.
        ExportError: TFLite and Keras disagree.
    """
    if kind not in KINDS:
        raise InputError(f"no head {kind!r} (known: {', '.join(KINDS)})")
    fresh_session(seed)
    shape = shape or (train.features.shape[1:] if train.features.ndim == 4 else (*PLACES, train.features.shape[-1]))
    trainer, model = _build(kind, len(labels), shape)
    if start is not None:
        model.set_weights(start)
    _fit(trainer, train, epochs or EPOCHS[kind], len(labels), progress)
    unsnapped = _accuracy(trainer, held_out)
    step = _snap(trainer, held_out, unsnapped)
    maps = _as_maps(held_out.features[:16], shape)
    data = export_tflite(model, maps, TOLERANCE)
    compare(data, model, np.random.default_rng(seed).uniform(0, 6, (2, *maps.shape[1:])).astype("f4"), TOLERANCE)
    return TrainedHead(data, step, _accuracy(trainer, held_out), unsnapped)


def warm_start(kind: str, base: bytes, base_labels: Sequence[str], labels: Sequence[str], seed: int) -> Weights:
    """Give first weights for ``labels`` from the head ``base`` (TFLite): a known person keeps the own weights.

    A new person gets the seeded random ones that a cold start would have.

    Raises:
        InputError: ``base`` is no head of that kind.
    """
    try:
        kept = _read(kind, base)
    except (LookupError, ValueError) as error:
        raise InputError(f"the base's head is no {kind!r} head; train without --base") from error
    fresh_session(seed)
    shape = Runner(base, "the base's head").input.shape[1:]
    if len(shape) != 3:
        raise InputError(f"the base's head takes {shape}, no feature map; train without --base")
    fresh = [np.array(value) for value in _build(kind, len(labels), shape)[1].get_weights()]
    if kept[-1].shape != (len(base_labels),) or kept[-2].shape[0] != fresh[-2].shape[0]:
        raise InputError(f"the base's head is no {kind!r} head of {len(base_labels)} labels; train without --base")
    start = [*kept[:-2], fresh[-2], fresh[-1]]
    for i, label in enumerate(labels):
        if label in base_labels:
            start[-2][:, i] = kept[-2][:, base_labels.index(label)]
            start[-1][i] = kept[-1][base_labels.index(label)]
    return start


def snapped(weights: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Give ``weights`` as whole multiples of ``step``; no -0.0, which would differ from 0.0 in bytes alone."""
    return np.asarray(np.rint(weights / np.float32(step)) * np.float32(step) + np.float32(0.0), np.float32)


def _build(kind: str, labels: int, shape: Shape = (*PLACES, 1280)) -> tuple[Any, Any]:
    """Give (trainer, model): the same layers, on cached features with dropout, and as deployed on feature maps."""
    layers = keras().layers
    maps = keras().Input(shape, batch_size=1, name="features")
    mean, drop = layers.GlobalAveragePooling2D(name="mean"), layers.Dropout(DROPOUT, name="dropout")
    decide = layers.Dense(labels, activation="softmax", name="decide")
    if kind == "pooled":
        inputs = keras().Input(shape[-1:], name="pooled")
        return keras().Model(inputs, decide(drop(inputs)), name="trainer"), _model(maps, decide(mean(maps)))
    inputs = keras().Input(shape, name="maps")
    look = layers.Conv2D(32, 3, activation="relu", name="look")
    return keras().Model(inputs, decide(mean(drop(look(inputs)))), name="trainer"), _model(
        maps, decide(mean(look(maps)))
    )


def _model(inputs: Any, outputs: Any) -> Any:
    return keras().Model(inputs, outputs, name="head")


def _fit(trainer: Any, side: Side, epochs: int, labels: int, progress: Callable[[int, int], None]) -> None:
    counts = np.bincount(side.labels, minlength=labels)
    weight = len(side.labels) / (labels * counts)
    trainer.compile(keras().optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy")
    told = keras().callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress(epoch + 1, epochs))
    trainer.fit(
        side.features,
        side.labels,
        batch_size=BATCH,
        epochs=epochs,
        sample_weight=weight[side.labels],
        verbose=0,
        callbacks=[told],
    )


def _snap(trainer: Any, held_out: Side, unsnapped: float) -> float:
    """Put the weights on the coarsest grid that costs at most MOST_COST on the held-out side; give its step."""
    exact = trainer.get_weights()
    for step in STEPS:
        trainer.set_weights([snapped(value, step) for value in exact])
        if unsnapped - _accuracy(trainer, held_out) <= MOST_COST:
            break
    return step


def _accuracy(trainer: Any, side: Side) -> float:
    if not len(side.labels):
        return 0.0
    return float((trainer.predict(side.features, batch_size=256, verbose=0).argmax(1) == side.labels).mean())


def _as_maps(features: Features, shape: Shape) -> Features:
    """Give feature maps; a pooled row becomes a map that is the same everywhere, whose mean it is."""
    if features.ndim == 4:
        return features
    return np.ascontiguousarray(np.broadcast_to(features[:, None, None, :], (len(features), *shape)))


def _read(kind: str, data: bytes) -> Weights:
    """Give the weights of a head as Keras orders them: TFLite has the outputs first."""
    file = TfliteFile(data)
    matrix, bias = file.layer("FULLY_CONNECTED")
    dense = [np.ascontiguousarray(matrix.T), bias]
    if kind == "pooled":
        return dense
    filters, shift = file.layer("CONV_2D")
    return [np.ascontiguousarray(filters.transpose(1, 2, 3, 0)), shift, *dense]
