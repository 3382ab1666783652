"""Owns training the last layers of a backbone together with a head, and what of it is sent. Refuses the test side.

The result is the backbone's own file with some weights moved (``tflite.tail``). What keeps the update small:

- float32 and float16: moves are on a grid, the coarsest that costs at most half a point and keeps nine tenths of
  what the loss won; a weight that moved less than half a step keeps its bytes.
- int8: the scales stay those of the file, so that a weight that moved less than half of its scale keeps its byte.

Only the early part of the train side is learned from: the late part chooses the grid here, and afterwards the head's
grid and the threshold for strangers, which crops that the backbone knows by heart would set wrong. The head that is
trained here is thrown away; the release's own is trained on the features of the new file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.backbones.backbone import MOST_SHARE, TOLERANCE, Backbone
from cloud_tools.datasets.dataset import Crop, Dataset, label_numbers
from cloud_tools.datasets.splits import TRAIN
from cloud_tools.evaluation.strangers import hold_out
from cloud_tools.progress import Ticks
from cloud_tools.setting_errors import Setting, SettingError
from cloud_tools.tflite.export import compare_outputs
from cloud_tools.tflite.tail import Arrays, Tail
from cloud_tools.tflite.tflite_file import Runner
from cloud_tools.training.heads import Graph, Side, fit_balanced
from cloud_tools.training.run import Run
from cloud_tools.training.weight_grid import MOST_COST, Weights, snapped_moves
from contract.preprocess import dequantize, prepare, to_tensor

FINE_TUNING_EPOCHS = 8
RATE = 2e-5  # of Adam: low, as usual for layers that know something
# Steps of the grid of the moves, largest first. The last is so fine that it costs nothing.
STEPS = tuple(2.0**-n for n in range(4, 16))
KEPT_GAIN = 0.9  # of the loss that fine-tuning wins, the part that the grid must keep
BATCH = 64  # crops, where nothing is learned
MOST_BYTES = 2 << 30  # of what goes into the layers, for all crops
COMPARED = 16  # crops on which the new file is compared with Keras


def fine_tune(run: Run, layers: int) -> Backbone:
    """Return the backbone of ``run`` with its last ``layers`` trained on the early part of the train side.

    They are trained below a head as the run's is to be, from the weights that it starts from.

    Raises:
        InputError: no such layers, too many for the memory, too few crops to hold some out, or it does not help.
        ReleaseError: the backbone does not run. ExportError: the new file does not say what Keras says.
    """
    backbone, crops = run.backbone, run.dataset.side(TRAIN)
    early, late = hold_out(crops)
    if not len(late):
        few = f"{run.dataset.folder}: too few crops to hold some out, which "
        raise SettingError(few, Setting.FINE_TUNE, " needs")
    graph = Graph(run.head)
    tail = Tail(backbone.data, layers)
    if tail.input_bytes() * len(crops) > MOST_BYTES:
        reason = f" {layers}: {len(crops)} crops do not fit in the memory; take fewer layers"
        raise SettingError(Setting.FINE_TUNE, reason)
    tensors = _tensors(backbone, run.dataset, crops)
    data = _Data(
        tail.run_before(tensors, run.ticks("frozen layers")),
        label_numbers(crops, run.labels),
    )
    joint = _warmed(graph, tail, run.start, data, early, run.ticks("head before"))
    before = _measure(joint, data, late)
    if not _train(joint, data, early, late, before, run.ticks("fine-tuning")):
        raise SettingError(
            Setting.FINE_TUNE,
            f" {layers} does not help: no epoch lowered the loss on held-out crops "
            f"({before.loss:.4f}); train without it, or with fewer layers or more crops",
        )
    chosen = _choose(tail, joint, data, late, before, integer=backbone.origin.get("precision") == "int8")
    made = tail.write(chosen.weights)
    _compare(made, tail, backbone, tensors[:COMPARED], [array[:COMPARED] for array in data.inputs])
    return Backbone(made, backbone.origin | {"fine_tuned": _origin(backbone, layers, run.head.seed, chosen, before)})


@dataclass(frozen=True)
class Measured:
    """Share of held-out crops rightly named, and the mean cross entropy (nats)."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class _Chosen:
    """The weights to send, the step of their grid (None: the file's own scales), and how they do."""

    weights: Arrays
    step: float | None
    measured: Measured


@dataclass(frozen=True)
class _Data:
    """What goes into the tail (arrays of n x ...) and the label numbers (n)."""

    inputs: Arrays
    labels: NDArray[np.int64]

    def rows(self, chosen: NDArray[np.int64]) -> Any:
        rows = [array[chosen] for array in self.inputs]
        return rows if len(rows) > 1 else rows[0]


def _tensors(backbone: Backbone, dataset: Dataset, crops: Sequence[Crop]) -> list[NDArray[Any]]:
    how, spec = backbone.preprocess, Runner(backbone.data, "backbone.tflite").input
    return [to_tensor(prepare(dataset.image(crop), how)[None], how, spec) for crop in crops]


def _warmed(
    graph: Graph, tail: Tail, start: Weights | None, data: _Data, early: NDArray[np.int64], ticks: Ticks
) -> Any:
    """Return the joint model, its head trained on the frozen features first.

    A head that knows nothing would drive the layers below it anywhere.
    """
    features = tail.model.predict(data.inputs, batch_size=BATCH, verbose=0)
    side = Side(graph.inputs(features), data.labels).rows(early)
    graph.train(side, graph.spec.passes, start=start, ticks=ticks)
    return graph.joined(tail.model)


def _train(
    joint: Any, data: _Data, early: NDArray[np.int64], late: NDArray[np.int64], before: Measured, ticks: Ticks
) -> bool:
    """Train on the early part and keep the epoch of least loss on the late one; False when none is below before.

    Few held-out crops are named wrong, before or after: the loss tells what accuracy is too coarse to tell.
    """
    best, least = None, before.loss

    def watch(epoch: int, logs: Any) -> None:
        nonlocal best, least
        loss = _measure(joint, data, late).loss
        if loss < least:
            best, least = joint.get_weights(), loss
        ticks(epoch + 1, FINE_TUNING_EPOCHS)

    rows, labels = data.rows(early), data.labels[early]
    fit_balanced(joint, rows, labels, count=joint.output_shape[-1], epochs=FINE_TUNING_EPOCHS, told=watch, rate=RATE)
    if best is not None:
        joint.set_weights(best)
    return best is not None


def _measure(joint: Any, data: _Data, rows: NDArray[np.int64]) -> Measured:
    said = joint.predict(data.rows(rows), batch_size=BATCH, verbose=0)
    truth = data.labels[rows]
    likely = np.maximum(said[np.arange(len(rows)), truth], np.finfo(np.float32).tiny)
    return Measured(float((said.argmax(1) == truth).mean()), float(-np.log(likely).mean()))


def _choose(
    tail: Tail, joint: Any, data: _Data, late: NDArray[np.int64], before: Measured, *, integer: bool
) -> _Chosen:
    """Return the weights to send."""
    exact, base = [np.array(value) for value in tail.model.get_weights()], tail.weights()

    def measured(weights: Arrays) -> Measured:
        tail.model.set_weights(tail.stored(weights))
        return _measure(joint, data, late)

    after = measured(exact)
    if integer:
        return _Chosen(exact, None, after)
    most = before.loss - KEPT_GAIN * (before.loss - after.loss)
    for step in STEPS:
        moved = snapped_moves(exact, base, step)
        now = measured(moved)
        if after.accuracy - now.accuracy <= MOST_COST and now.loss <= most:
            break
    return _Chosen(moved, step, now)


def _compare(made: bytes, tail: Tail, backbone: Backbone, tensors: list[NDArray[Any]], inputs: Arrays) -> None:
    """Refuse a file that does not say what the trained layers say; ``tail.model`` has what was stored."""
    runner = Runner(made, "backbone.tflite")
    wanted = tail.model.predict(inputs, batch_size=COMPARED, verbose=0)
    found = np.concatenate([dequantize(runner.run(values), runner.output) for values in tensors])
    precision = str(backbone.origin.get("precision", "float32"))
    peak = float(np.max(np.abs(wanted), initial=0.0))
    compare_outputs("the fine-tuned backbone", found, wanted, TOLERANCE[precision] * peak, MOST_SHARE[precision])


def _origin(backbone: Backbone, layers: int, seed: int, chosen: _Chosen, before: Measured) -> dict[str, Any]:
    origin = {
        "from": backbone.digest,
        "layers": layers,
        "epochs": FINE_TUNING_EPOCHS,
        "seed": seed,
        "held_out_accuracy": [round(before.accuracy, 4), round(chosen.measured.accuracy, 4)],
        "held_out_loss": [round(before.loss, 4), round(chosen.measured.loss, 4)],
    }
    return origin if chosen.step is None else origin | {"grid_step": chosen.step}
