"""Owns the list of pairs: what each one changes, how its files are made, and the record of what really changed.

Refuses a pair whose weights did not change as its name says. Files are kept in the cache, ``<pair>/old.<ext>`` and
``new.<ext>`` (folders for SavedModels), the records in ``pairs.json``; a pair that is there is not made again.
"""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.patches import exports, shares, small_heads, variants
from benchmarks.patches.places import within
from benchmarks.patches.records import Made, load_pairs, save_pair
from benchmarks.patches.small_heads import GRIDS
from benchmarks.patches.variants import Variant
from cloud_tools.cache import digest_of
from cloud_tools.tflite.engine import keras, tensorflow
from contract.errors import KinwatchError
from contract.files import atomic_write

RECIPE = "1"  # changes when an export changes
RANDOM_VGG = "VGG-19's backbone is seeded random (no public weights here); it is frozen, and only the head is patched"
FEW_EPOCHS = 5  # as the large heads are retrained; a pooled head takes forty the first time
MOVED = 0.9  # least share of the weights that were trained to differ


class PairError(KinwatchError):
    """A pair is not what its name says; nothing of it is kept."""


@dataclass(frozen=True)
class Pair:
    """How to make one pair: ``make`` fills an empty folder with ``old`` and ``new`` and gives what goes on record:
    the shares of the trained, the frozen and all weights that changed, and the held-out accuracies."""

    name: str
    what: str
    extension: str
    make: Callable[[Path], dict[str, Any]]
    least_changed: float = MOVED
    random: str = ""


def catalogue() -> list[Pair]:
    """Return all pairs, those first that matter most."""
    found = [*_heads(), *_small_heads(), *_saved_models("mobilenetv2"), *_tunings(), *_others()]
    return sorted(found, key=_urgency)


def _urgency(pair: Pair) -> int:
    marks = ("head-retrain.", "pooled-", ".float32", "mobilenetv2-", ".safetensors")
    return next((i for i, mark in enumerate(marks) if mark in pair.name), len(marks))


def make_pair(pair: Pair) -> Made:
    """Make ``pair``, or return it as it is in the cache.

    Raises:
        PairError: fewer of the trained weights changed than ``least_changed``, or a frozen one did.
        ExportError: a converter's file does not say what the model says.
    """
    kept = load_pairs().get(pair.name)
    if kept is not None and kept.record["key"] == _key(pair) and kept.is_whole():
        return kept
    building = within("building") / pair.name
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    record = {"what": pair.what, "key": _key(pair), "random": pair.random, **pair.make(building)}
    if record["trained_changed"] < pair.least_changed or record["frozen_changed"]:
        shown = (
            f"{record['trained_changed']:.3f} of the trained, {record['frozen_changed']:.3f} of the frozen weights"
        )
        raise PairError(f"{pair.name}: {shown} changed")
    target = within("pairs") / pair.name
    shutil.rmtree(target, ignore_errors=True)
    building.replace(target)
    return save_pair(pair.name, record | {"extension": pair.extension}, versions())


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that decide the bytes of a pair."""
    import safetensors

    return {
        "tensorflow": str(tensorflow().__version__),
        "keras": str(keras().__version__),
        "safetensors": str(safetensors.__version__),
    }


def _key(pair: Pair) -> str:
    return digest_of(RECIPE, variants.RECIPE, pair.name, json.dumps(versions()))[:16]


def _changed(old: Variant, new: Variant, trained: tuple[str, ...]) -> dict[str, Any]:
    frozen = [name for name in new.weights if name not in trained]
    return {
        "trained_changed": shares.changed_share(old.weights, new.weights, trained),
        "frozen_changed": shares.changed_share(old.weights, new.weights, frozen),
        "all_changed": shares.changed_share(old.weights, new.weights, list(new.weights)),
        "accuracy": [old.accuracy, new.accuracy],
    }


def _exported(variant: Variant, name: str, precision: str) -> Path:
    """Return the TFLite file of a variant; converted once, for all pairs that hold it."""
    key = digest_of(RECIPE, variants.RECIPE, json.dumps(versions()))[:16]
    path = within("exports") / f"{name}-{precision}-{key}.tflite"
    if not path.exists():
        atomic_write(path, exports.to_tflite(variant, precision))
    return path


def _whole_models(
    change: str, what: str, new: Callable[[], Variant], trained: Callable[[], tuple[str, ...]]
) -> Iterator[Pair]:
    def make(folder: Path, precision: str) -> dict[str, Any]:
        before = "int8" if precision.startswith("int8") else precision
        os.link(_exported(variants.first(), "first", before), folder / "old.tflite")
        os.link(_exported(new(), change, precision), folder / "new.tflite")
        return _changed(variants.first(), new(), trained())

    for precision in exports.PRECISIONS:
        text = f"{what}; {precision.replace('-recalibrated', ', other calibration crops')}"
        yield Pair(f"{change}.{precision}", text, ".tflite", functools.partial(make, precision=precision))


def _head() -> tuple[str, ...]:
    return ("look", "decide")


def _heads() -> Iterator[Pair]:
    yield from _whole_models("head-retrain", "head trained on, more crops", variants.retrained, _head)
    yield from _whole_models("only-dense", "last layer alone trained on", variants.only_dense, lambda: ("decide",))
    yield from _whole_models("head-6-to-7", "a seventh person, head trained on", variants.seven, _head)
    yield from _whole_models("head-scratch", "head initialised anew and trained", variants.scratch, _head)


def _tunings() -> Iterator[Pair]:
    for name, what, rate, last in (
        ("all-layers-1e-5", "all layers fine-tuned at 1e-5", 1e-5, None),
        ("all-layers-1e-4", "all layers fine-tuned at 1e-4", 1e-4, None),
        ("last-30-layers", "last 30 layers and head fine-tuned at 1e-5", 1e-5, 30),
    ):
        new = functools.partial(variants.tuned, name, rate, last)
        yield from _whole_models(name, what, new, functools.partial(variants.tuned_layers, last))


def _small_heads() -> Iterator[Pair]:
    def make(folder: Path, kind: str, people: int, on_grid: bool, epochs: int | None) -> dict[str, Any]:
        old = list(small_heads.start(kind, on_grid))
        new = small_heads.retrained(kind, people, on_grid, epochs)
        for side, weights in (("old", old), ("new", new)):
            (folder / f"{side}.tflite").write_bytes(exports.head_to_tflite(kind, weights))
        share = shares.changed_share({"head": old}, {"head": new}, ["head"])
        if people > 6:  # the wider matrix has another shape: compare the columns that both have
            columns = [value[..., :6] for value in new]
            share = shares.changed_share({"head": old}, {"head": columns}, ["head"])
        return {"trained_changed": share, "frozen_changed": 0.0, "all_changed": share, "accuracy": [None, None]}

    for kind, people, on_grid, epochs in (
        ("pooled", 6, False, None),
        ("pooled", 6, False, FEW_EPOCHS),
        ("pooled", 7, False, None),
        ("pooled", 6, True, None),
        ("pooled", 7, True, None),
        ("conv32", 6, True, None),
    ):
        grid = "-grid" if on_grid else ""
        change = ("retrain" if epochs is None else f"retrain-{epochs}-epochs") if people == 6 else "6-to-7"
        what = f"{kind} head in a file of its own, {change}" + (f", grid {GRIDS[kind]}" if on_grid else "")
        run = functools.partial(make, kind=kind, people=people, on_grid=on_grid, epochs=epochs)
        # On a grid a weight that moved by less than half a step is the same again: that is what the grid is for.
        yield Pair(f"{kind}-{change}{grid}.float32", what, ".tflite", run, 0.1 if on_grid else MOVED)


def _saved_models(network: str) -> Iterator[Pair]:
    changes = {"first-deployment": (variants.fresh, variants.first), "retrain": (variants.first, variants.retrained)}

    def make(folder: Path, change: str, slots: bool) -> dict[str, Any]:
        old, new = (of(network) for of in changes[change])
        exports.to_saved_model(old, folder / "old", slots=slots)
        exports.to_saved_model(new, folder / "new", slots=slots)
        return _changed(old, new, _head())

    for change in changes:
        for slots in (True, False):
            name = f"{network}-{change}-{'with' if slots else 'no'}-slots.savedmodel"
            what = f"the paper's SavedModel of {network}, {change}, {'with' if slots else 'without'} Adam slots"
            run = functools.partial(make, change=change, slots=slots)
            yield Pair(name, what, "", run, random=RANDOM_VGG if network == "vgg19" else "")


def _others() -> Iterator[Pair]:
    def make(folder: Path, new: Callable[[], Variant], trained: Callable[[], tuple[str, ...]]) -> dict[str, Any]:
        for side, variant in (("old", variants.first()), ("new", new())):
            (folder / f"{side}.safetensors").write_bytes(exports.to_safetensors(variant))
        return _changed(variants.first(), new(), trained())

    tuned = functools.partial(variants.tuned, "all-layers-1e-5", 1e-5, None)
    for name, new, trained in (
        ("head-retrain", variants.retrained, _head),
        ("all-layers-1e-5", tuned, functools.partial(variants.tuned_layers, None)),
    ):
        run = functools.partial(make, new=new, trained=trained)
        yield Pair(f"{name}.safetensors", f"{name}, the same weights as safetensors", ".safetensors", run)
    yield from _saved_models("vgg19")
    yield _large()


def _large() -> Pair:
    """Return the 80 MB pair: every weight of VGG-19 moved a little. It is there for the memory of apply alone."""

    def make(folder: Path) -> dict[str, Any]:
        old = variants.fresh("vgg19")
        new = variants.shaken(old, 1e-3, seed=41)
        for side, variant in (("old", old), ("new", new)):
            (folder / f"{side}.safetensors").write_bytes(exports.to_safetensors(variant))
        return _changed(old, new, tuple(old.weights)) | {"memory_only": True}

    what = "all weights of VGG-19 moved by a thousandth, for the memory of apply alone"
    text = "The 80 MB pair is not trained: its weights are moved by seeded noise"
    return Pair("vgg19-shaken.safetensors", what, ".safetensors", make, random=text)
