"""Owns the trained layers: their graphs, training on features, warm start, their export.

Refuses to see pictures. Names in the graphs are explicit (a name that starts with ``_`` breaks the export, and a
counted one changes from run to run). Three heads:
    pooled  mean over the picture, dropout, Dense softmax: 1280 weights a person (default)
    stripes mean over each row of the map, dropout, Dense softmax: for standing people, 5 x 1280 weights a person
    conv32  the paper's: Conv2D 32 filters 3 x 3 ReLU, dropout, mean, Dense softmax (369 K weights)
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.progress import Ticks, no_ticks
from cloud_tools.setting_errors import Setting, SettingError
from cloud_tools.tflite.engine import fresh_session, keras
from cloud_tools.tflite.export import compare, export_tflite
from cloud_tools.tflite.tflite_file import Runner, TfliteFile
from cloud_tools.training.features import MAP, POOLED, Features
from cloud_tools.training.weight_grid import MOST_COST, STEPS, Weights, snapped_all

KINDS = {"pooled": POOLED, "stripes": MAP, "conv32": MAP}  # head: the features it is trained on
PAPER_HEAD = "conv32"
EPOCHS = {"pooled": 40, "stripes": 15, "conv32": 15}
BATCH = 32
MEASURED = 256  # rows at a time
DROPOUT = 0.3
FILTERS = 32  # of conv32
LEARNING_RATE = 1e-3
# Probabilities; measured difference 1e-6. A head with a wrong weight is off by far more.
TOLERANCE = 1e-4

Shape = tuple[int, ...]  # height, width, channels of a feature map
PLACES = (5, 5)  # of the feature map of a backbone of 160 pixels


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """What a head is to be. ``shape`` is the backbone's feature map; ``epochs`` None takes the kind's own."""

    kind: str
    labels: tuple[str, ...]
    shape: Shape
    seed: int = 0
    epochs: int | None = None

    @property
    def passes(self) -> int:
        """Passes over the crops."""
        return self.epochs or EPOCHS[self.kind]


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

    def rows(self, chosen: NDArray[np.int64]) -> "Side":
        """Return the rows ``chosen`` alone, in that order."""
        return Side(self.features[chosen], self.labels[chosen])


class Graph:
    """The layers of one head, with fresh weights: to train and to measure on features, and to deploy on maps."""

    def __init__(self, spec: HeadSpec) -> None:
        """Build the head that ``spec`` says."""
        fresh_session(spec.seed)
        self.spec = spec
        self._trainer, self._model = _build(spec.kind, len(spec.labels), spec.shape)

    def train(
        self,
        side: Side,
        epochs: int,
        *,
        start: Weights | None = None,
        keep: Collection[int] = (),
        ticks: Ticks = no_ticks,
    ) -> dict[int, Weights]:
        """Train for ``epochs``; return the weights after the last one and after each of ``keep``, exact.

        What is kept after n epochs is what a training of n epochs gives.
        """
        if start is not None:
            self._trainer.set_weights(start)
        kept: dict[int, Weights] = {}

        def told(epoch: int, logs: Any) -> None:
            if epoch + 1 in keep or epoch + 1 == epochs:
                kept[epoch + 1] = [np.array(value) for value in self._trainer.get_weights()]
            ticks(epoch + 1, epochs)

        fit_balanced(self._trainer, side.features, side.labels, count=len(self.spec.labels), epochs=epochs, told=told)
        return kept

    def inputs(self, maps: Features) -> Features:
        """Return what this head is trained on, from feature maps (n x height x width x channels)."""
        return maps if KINDS[self.spec.kind] == MAP else np.asarray(maps.mean(axis=(1, 2), dtype=np.float32))

    def joined(self, below: Any) -> Any:
        """Return one Keras model of ``below`` (which ends with feature maps) and this head, sharing weights."""
        maps = below.output
        if KINDS[self.spec.kind] != MAP:
            maps = keras().layers.GlobalAveragePooling2D(name="mean_below")(maps)
        return keras().Model(below.inputs, self._trainer(maps), name="joined")

    def accuracy(self, weights: Weights, side: Side) -> float:
        """Return the share of ``side`` that is rightly named with ``weights``; 0 of no crops."""
        if not len(side.labels):
            return 0.0
        self._trainer.set_weights(weights)
        right = 0
        for at in range(0, len(side.labels), MEASURED):  # Keras' `predict` would make a graph first
            said = np.asarray(self._trainer(side.features[at : at + MEASURED], training=False)).argmax(1)
            right += int((said == side.labels[at : at + MEASURED]).sum())
        return right / len(side.labels)

    def coarsest_step(self, weights: Weights, side: Side) -> float:
        """Return the largest step of STEPS that costs at most MOST_COST of the accuracy on ``side``."""
        exact = self.accuracy(weights, side)
        for step in STEPS:
            if exact - self.accuracy(snapped_all(weights, step), side) <= MOST_COST:
                break
        return step

    def export(self, weights: Weights, features: Features) -> bytes:
        """Return the TFLite file; ExportError when it disagrees with Keras on ``features`` or on seeded noise."""
        self._trainer.set_weights(weights)
        maps = _as_maps(features[:16], self.spec.shape)
        data = export_tflite(self._model, maps, TOLERANCE)
        noise = np.random.default_rng(self.spec.seed).uniform(0, 6, (2, *self.spec.shape)).astype("f4")
        compare(data, self._model, noise, TOLERANCE)
        return data


def train_head(
    spec: HeadSpec,
    learn: Side,
    held_out: Side,
    *,
    start: Weights | None = None,
    step: float | None = None,
    ticks: Ticks = no_ticks,
) -> TrainedHead:
    """Train a head on ``learn``, snap its weights, export it and compare with Keras.

    ``start`` is what ``warm_start`` gave. With ``step`` given, ``held_out`` is measured and decides nothing; without,
    it decides the grid. Classes weigh the same, however many crops each has.

    Raises:
        ExportError: TFLite and Keras disagree.
    """
    graph = Graph(spec)
    weights = graph.train(learn, spec.passes, start=start, ticks=ticks)[spec.passes]
    return finish_head(graph, weights, held_out, step or graph.coarsest_step(weights, held_out))


def finish_head(
    graph: Graph, weights: Weights, held_out: Side, step: float, grid: Weights | None = None
) -> TrainedHead:
    """Measure ``grid`` on ``held_out`` and export it; it is ``weights`` snapped to ``step`` unless given.

    Raises:
        ExportError: TFLite and Keras disagree.
    """
    grid = snapped_all(weights, step) if grid is None else grid
    before, after = graph.accuracy(weights, held_out), graph.accuracy(grid, held_out)
    return TrainedHead(graph.export(grid, held_out.features), step, after, before)


def map_shape(features: Features) -> Shape:
    """Return the shape of the feature map of ``features``; pooled ones do not tell it: 5 x 5 then."""
    return features.shape[1:] if features.ndim == 4 else (*PLACES, features.shape[-1])


def warm_start(kind: str, base: bytes, base_labels: Sequence[str], labels: Sequence[str], seed: int) -> Weights:
    """Return first weights for ``labels`` from the head ``base`` (TFLite): a known person keeps the own weights.

    A new person gets the seeded random ones that a cold start would have.

    Raises:
        InputError: ``base`` is no head of that kind.
    """
    try:
        kept = _read(kind, base)
    except (LookupError, ValueError) as error:
        raise _no_base(f"is no {kind!r} head") from error
    shape = Runner(base, "the base's head").input.shape[1:]
    if len(shape) != 3:
        raise _no_base(f"takes {shape}, no feature map")
    if kept[-1].shape != (len(base_labels),) or kept[-2].shape[0] != _inputs(kind, shape):
        raise _no_base(f"is no {kind!r} head of {len(base_labels)} labels")
    return widen(HeadSpec(kind=kind, labels=tuple(labels), shape=shape, seed=seed), kept, base_labels)


def _no_base(why: str) -> SettingError:
    return SettingError(f"the base's head {why}; train without ", Setting.BASE)


def widen(spec: HeadSpec, kept: Weights, base_labels: Sequence[str]) -> Weights:
    """Return first weights for ``spec`` from ``kept``, those of a head for ``base_labels``; see ``warm_start``."""
    fresh_session(spec.seed)
    fresh = [np.array(value) for value in _build(spec.kind, len(spec.labels), spec.shape)[1].get_weights()]
    start = [*kept[:-2], fresh[-2], fresh[-1]]
    for i, label in enumerate(spec.labels):
        if label in base_labels:
            start[-2][:, i] = kept[-2][:, base_labels.index(label)]
            start[-1][i] = kept[-1][base_labels.index(label)]
    return start


def _inputs(kind: str, shape: Shape) -> int:
    """Return the inputs of the last layer."""
    return {"pooled": shape[-1], "stripes": shape[0] * shape[-1], "conv32": FILTERS}[kind]


def _build(kind: str, labels: int, shape: Shape = (*PLACES, 1280)) -> tuple[Any, Any]:
    """Return (trainer, model): the same layers, on cached features with dropout, and as deployed on feature maps."""
    layers = keras().layers
    maps = keras().Input(shape, batch_size=1, name="features")
    mean, drop = layers.GlobalAveragePooling2D(name="mean"), layers.Dropout(DROPOUT, name="dropout")
    decide = layers.Dense(labels, activation="softmax", name="decide")
    if kind == "pooled":
        inputs = keras().Input(shape[-1:], name="pooled")
        return keras().Model(inputs, decide(drop(inputs)), name="trainer"), _model(maps, decide(mean(maps)))
    inputs = keras().Input(shape, name="maps")
    if kind == "stripes":
        rows, flat = layers.AveragePooling2D((1, shape[1]), name="rows"), layers.Flatten(name="flat")
        return keras().Model(inputs, decide(drop(flat(rows(inputs)))), name="trainer"), _model(
            maps, decide(flat(rows(maps)))
        )
    look = layers.Conv2D(FILTERS, 3, activation="relu", name="look")
    return keras().Model(inputs, decide(mean(drop(look(inputs)))), name="trainer"), _model(
        maps, decide(mean(look(maps)))
    )


def _model(inputs: Any, outputs: Any) -> Any:
    return keras().Model(inputs, outputs, name="head")


def fit_balanced(
    model: Any,
    features: Any,
    labels: NDArray[np.int64],
    *,
    count: int,
    epochs: int,
    told: Callable[[int, Any], None],
    rate: float = LEARNING_RATE,
) -> None:
    """Train a Keras ``model`` with Adam; each of ``count`` labels weighs the same, however many crops it has."""
    weight = len(labels) / (count * np.maximum(np.bincount(labels, minlength=count), 1))
    # A pass is one call of the graph: the weights are the same to the bit, in two thirds of the time.
    passes = {"steps_per_execution": -(-len(labels) // BATCH)}
    model.compile(keras().optimizers.Adam(rate), "sparse_categorical_crossentropy", **passes)
    model.fit(
        features,
        labels,
        batch_size=BATCH,
        epochs=epochs,
        sample_weight=weight[labels],
        verbose=0,
        callbacks=[keras().callbacks.LambdaCallback(on_epoch_end=told)],
    )


def _as_maps(features: Features, shape: Shape) -> Features:
    """Return feature maps; a pooled row becomes a map that is the same everywhere, whose mean it is."""
    if features.ndim == 4:
        return features
    return np.ascontiguousarray(np.broadcast_to(features[:, None, None, :], (len(features), *shape)))


def _read(kind: str, data: bytes) -> Weights:
    """Return the weights of a head as Keras orders them: TFLite has the outputs first."""
    file = TfliteFile(data)
    matrix, bias = file.layer("FULLY_CONNECTED")
    dense = [np.ascontiguousarray(matrix.T), bias]
    if kind != "conv32":
        return dense
    filters, shift = file.layer("CONV_2D")
    return [np.ascontiguousarray(filters.transpose(1, 2, 3, 0)), shift, *dense]
