"""Owns the trial head: trained on the earlier part of the train side, to see what a head does on crops it never saw.

Refuses to deploy it. It costs about as much as the head itself; without it the threshold for strangers would be
chosen on crops that the head knows by heart, or on the test side.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_tools.datasets.dataset import Crop
from cloud_tools.evaluation.strangers import Fit, Sample, can_fit, fit, fit_means, hold_out, to_head
from cloud_tools.tflite.tflite_file import Runner
from cloud_tools.training.augmentation import with_variants
from cloud_tools.training.features import Features
from cloud_tools.training.heads import Shape, Side, TrainedHead, train_head


def train_trial(
    kind: str,
    labels: Sequence[str],
    crops: Sequence[Crop],
    side: Side,
    *,
    shape: Shape,
    variants: Side | None = None,
    epochs: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TrainedHead | None:
    """Train the trial head on the early part of ``crops``; its grid is the coarsest that the late part allows.

    ``variants`` of the crops, if any, are learned from and never measured on. None when there is no late part. It
    starts cold, whatever the release does: so its grid depends on the dataset alone, and releases from the same crops
    are on the same one.

    Raises:
        ExportError: it cannot be exported.
    """
    early, late = hold_out(crops)
    if not len(late):
        return None
    settings: dict[str, Any] = {"shape": shape, "epochs": epochs, "seed": seed, "progress": progress}
    return train_head(kind, labels, with_variants(side, variants, early), side.rows(late), **settings)


def fit_familiarity(
    labels: Sequence[str],
    train: tuple[tuple[Crop, ...], Side],
    strangers: tuple[tuple[Crop, ...], Features],
    head: bytes,
    *,
    trial: TrainedHead,
) -> Fit | None:
    """Fit the familiarity score of the release with ``head`` (TFLite); None when too few crops can be held out.

    Args:
        train: the crops of the train side, and what the head was trained on, in the same order.
        strangers: crops of strangers, and their features; may be none.
        trial: what ``train_trial`` gave for them.

    Raises:
        ReleaseError: a head does not run.
    """
    crops, side = train
    early, late = hold_out(crops)
    held_out = tuple(crops[i] for i in late)
    if not can_fit(held_out):
        return None
    known = side.rows(early)
    fitted = fit(
        fit_means(side.features, side.labels, len(labels)),
        fit_means(known.features, known.labels, len(labels)),
        Sample(held_out, side.features[late], probabilities(trial.data, side.features[late])),
        Sample(strangers[0], strangers[1], probabilities(trial.data, strangers[1])),
        len(labels),
    )
    return fitted and to_head(fitted, probabilities(trial.data, known.features), probabilities(head, known.features))


def probabilities(head: bytes, features: Features) -> NDArray[np.float32]:
    """Return what a head (TFLite) says of features, n x labels; a pooled row becomes a map that is one everywhere."""
    runner = Runner(head, "head.tflite")
    shape = runner.input.shape[1:]
    maps = features if features.shape[1:] == shape else features[:, None, None, :]
    rows = [runner.run(np.ascontiguousarray(np.broadcast_to(row, shape))[None])[0] for row in maps]
    return np.stack(rows) if rows else np.zeros((0, runner.output.shape[-1]), np.float32)
