"""Owns the trial head: trained on the earlier part of the train side, to see what a head does on crops it never saw.

Refuses to deploy it. It costs about as much as the head itself; without it the threshold for strangers would be
chosen on crops that the head knows by heart, or on the test side.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.dataset import Crop
from cloud_tools.embeddings import Features
from cloud_tools.heads import Shape, Side, train_head
from cloud_tools.tflite_file import Runner
from cloud_tools.unknown import Fit, Sample, can_fit, fit, fit_means, hold_out, to_head


def fit_familiarity(
    kind: str,
    labels: Sequence[str],
    train: tuple[tuple[Crop, ...], Side],
    strangers: tuple[tuple[Crop, ...], Features],
    head: bytes,
    *,
    shape: Shape,
    epochs: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fit | None:
    """Fit the familiarity score of the release with ``head`` (TFLite); None when too few crops can be held out.

    Args:
        train: the crops of the train side, and what the head was trained on, in the same order.
        strangers: crops of strangers, and their features; may be none.
        shape: of the backbone's features, height x width x channels.
        epochs, seed: those of ``head``, so that the trial head is trained alike.

    Raises:
        ExportError, ReleaseError: the trial head cannot be exported, or does not run.
    """
    crops, side = train
    early, late = hold_out(crops)
    held_out = tuple(crops[i] for i in late)
    if not can_fit(held_out):
        return None
    known = Side(side.features[early], side.labels[early])
    unseen = Side(side.features[late], side.labels[late])
    settings: dict[str, Any] = {"shape": shape, "epochs": epochs, "seed": seed, "progress": progress}
    trial = train_head(kind, labels, known, unseen, **settings).data
    fitted = fit(
        fit_means(side.features, side.labels, len(labels)),
        fit_means(known.features, known.labels, len(labels)),
        Sample(held_out, side.features[late], probabilities(trial, side.features[late])),
        Sample(strangers[0], strangers[1], probabilities(trial, strangers[1])),
        len(labels),
    )
    return fitted and to_head(fitted, probabilities(trial, known.features), probabilities(head, known.features))


def probabilities(head: bytes, features: Features) -> NDArray[np.float32]:
    """Give what a head (TFLite) says of features, n x labels; a pooled row becomes a map that is one everywhere."""
    runner = Runner(head, "head.tflite")
    shape = runner.input.shape[1:]
    maps = features if features.shape[1:] == shape else features[:, None, None, :]
    rows = [runner.run(np.ascontiguousarray(np.broadcast_to(row, shape))[None])[0] for row in maps]
    return np.stack(rows) if rows else np.zeros((0, runner.output.shape[-1]), np.float32)
