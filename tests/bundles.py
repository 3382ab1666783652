"""Owns tiny bundles for tests: manifests that are valid over arbitrary bytes. Refuses to make models that run.

Nothing in publishing, relaying or patching runs a model, so that these need no TensorFlow and take a millisecond.
"""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from contract.files import atomic_write
from contract.manifest import NAME, Manifest, Preprocess, SelfTest, Stage, TensorSpec, Thresholds

PICTURES, SIDE, FEATURES = 4, 8, 1280
HEAD_GRID = 2.0**-7  # weights are whole multiples of this, as in a trained head


def write_bundle(
    folder: Path,
    version: int,
    labels: Sequence[str],
    *,
    seed: int,
    model: str = "household",
    backbone: bytes | None = None,
) -> Manifest:
    """Write a bundle of ``backbone.tflite``, ``head.tflite``, ``selftest.npz`` and release.json into ``folder``.

    Backbone (60 KB unless given) and self-test are the same in every release of a model; the head (8 KB a label)
    differs a little with ``seed``. The same arguments give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "backbone.tflite": backbone if backbone is not None else frozen_bytes(60_000, model),
        "head.tflite": head_bytes(len(labels), seed),
        "selftest.npz": selftest_bytes(),
    }
    for name, data in parts.items():
        atomic_write(folder / name, data)
    manifest = _manifest(version, tuple(labels), seed, model, parts)
    atomic_write(folder / NAME, manifest.to_bytes())
    return manifest


def frozen_bytes(size: int, name: str) -> bytes:
    """Return ``size`` bytes that do not compress and depend on ``name`` alone."""
    return np.random.default_rng(list(name.encode())).bytes(size)


def head_bytes(labels: int, seed: int) -> bytes:
    """Return float32 weights on a grid: common ones, moved by a few steps that depend on ``seed``."""
    shape = (labels, 2048)
    common = np.random.default_rng(0).integers(-128, 128, shape)
    moved = common + np.random.default_rng(seed).integers(-2, 3, shape)
    return b"TFL3" + (moved * HEAD_GRID).astype("<f4").tobytes()


def selftest_bytes() -> bytes:
    """Return an npz with the seeded pictures ``inputs``, uint8 n x height x width x 3."""
    file = io.BytesIO()
    np.savez(file, inputs=np.random.default_rng(7).integers(0, 256, (PICTURES, SIDE, SIDE, 3), np.uint8))
    return file.getvalue()


def _manifest(version: int, labels: tuple[str, ...], seed: int, model: str, parts: dict[str, bytes]) -> Manifest:
    digest = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    picture = TensorSpec((1, SIDE, SIDE, 3), "float32")
    features = TensorSpec((1, FEATURES), "float32")
    answer = TensorSpec((1, len(labels)), "float32")
    size = {name: len(data) for name, data in parts.items()}
    row = tuple([1.0] + [0.0] * (len(labels) - 1))
    return Manifest(
        model=model,
        version=version,
        created="2026-01-01T00:00:00Z",
        labels=labels,
        stages=(
            Stage("backbone.tflite", digest["backbone.tflite"], size["backbone.tflite"], picture, features),
            Stage("head.tflite", digest["head.tflite"], size["head.tflite"], features, answer),
        ),
        preprocess=Preprocess((SIDE, SIDE)),
        thresholds=Thresholds(),
        selftest=SelfTest(
            "selftest.npz", digest["selftest.npz"], size["selftest.npz"], (row,) * PICTURES, tolerance=0.01
        ),
        provenance={"seed": seed},
    )
