"""Owns the features of crops as the deployed backbone gives them, and their cache; refuses to train on them.

A head that is trained on other features than the device computes loses points (4 measured on an int8 backbone).
The cache is one SQLite file keyed by backbone, preprocessing, kind and pixels: an interrupted run goes on where it
was, and a new person costs only that person's crops. Losing it costs time alone.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.backbones.backbone import Backbone
from cloud_tools.cache import cache_folder, digest_of
from cloud_tools.datasets.dataset import Crop, Dataset
from cloud_tools.progress import Ticks, no_ticks
from cloud_tools.tflite.tflite_file import Runner
from contract.manifest import Preprocess
from contract.preprocess import dequantize, prepare, to_tensor

POOLED, MAP = "pooled", "map"  # mean over the picture (1280 values of the default backbone), or all (5 x 5 x 1280)
COMMIT_EVERY = 64  # crops; what an interrupted run may lose

Features = NDArray[np.float32]


def embed(
    dataset: Dataset,
    crops: Sequence[Crop],
    backbone: Backbone,
    how: Preprocess,
    kind: str = POOLED,
    ticks: Ticks = no_ticks,
) -> Features:
    """Return the features of ``crops``, n x channels (``pooled``) or n x height x width x channels (``map``).

    Raises:
        InputError: a picture is missing or was changed.
        ReleaseError: the backbone does not run.
    """
    runner = Runner(backbone.data, "backbone.tflite")
    shape = runner.output.shape[1:] if kind == MAP else runner.output.shape[-1:]
    space = digest_of(backbone.digest, repr(how), kind)[:32]
    rows: list[Features] = []
    with _opened() as cache:
        for i, crop in enumerate(crops):
            row = cache.get(space, crop.pixels, shape)
            if row is None:
                row = _compute(dataset, crop, runner, how, kind)
                cache.put(space, crop.pixels, row)
            rows.append(row)
            ticks(i + 1, len(crops))
    return np.stack(rows) if rows else np.zeros((0, *shape), np.float32)


def _compute(dataset: Dataset, crop: Crop, runner: Runner, how: Preprocess, kind: str) -> Features:
    rgb = prepare(dataset.image(crop), how)
    # What the device gives to the head: an int8 backbone's features are put back into floats by its own scale.
    features = dequantize(runner.run(to_tensor(rgb[None], how, runner.input)), runner.output)[0]
    return features if kind == MAP else np.asarray(features.mean(axis=(0, 1), dtype=np.float32))


class _Cache:
    """Features by space and pixels. A database that is damaged or cannot be written is a miss, never an error."""

    def __init__(self, database: sqlite3.Connection | None) -> None:
        self._database = database
        self._waiting = 0

    def get(self, space: str, pixels: str, shape: tuple[int, ...]) -> Features | None:
        found = self._run("SELECT data FROM features WHERE space = ? AND pixels = ?", space, pixels)
        if not found or len(found[0][0]) != 4 * int(np.prod(shape)):
            return None
        return np.frombuffer(found[0][0], "<f4").reshape(shape)

    def put(self, space: str, pixels: str, row: Features) -> None:
        self._run("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", space, pixels, row.astype("<f4").tobytes())
        self._waiting += 1
        if self._waiting >= COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        self._waiting = 0
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.commit()

    def _run(self, statement: str, *values: Any) -> list[Any]:
        if self._database is None:
            return []
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error:
            self._database = None  # full disk, damaged file: go on without
            return []


@contextlib.contextmanager
def _opened() -> Iterator[_Cache]:
    path = cache_folder() / "features.sqlite3"
    try:
        database = _connect(str(path))
    except sqlite3.OperationalError:  # locked, read-only, full: go on without
        yield _Cache(None)
        return
    except sqlite3.DatabaseError:  # not a database any more
        path.unlink(missing_ok=True)
        database = _connect(str(path))
    cache = _Cache(database)
    try:
        yield cache
        cache.commit()
    finally:
        database.close()


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30)
    try:
        database.execute("PRAGMA synchronous = OFF")  # a cache: a power cut may cost it
        database.execute(
            "CREATE TABLE IF NOT EXISTS features (space TEXT, pixels TEXT, data BLOB, PRIMARY KEY (space, pixels))"
        )
    except sqlite3.Error:
        database.close()
        raise
    return database
