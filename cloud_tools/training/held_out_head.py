"""Owns the held-out head: trained on the earlier part of the train side, to see a head on crops it never saw.

Refuses to deploy it. It costs about as much as the head itself; without it the threshold for strangers would be
chosen on crops that the head knows by heart, or on the test side.
"""

import numpy as np
from numpy.typing import NDArray

from cloud_tools.evaluation.strangers import Fit, Sample, can_fit, fit, fit_means, to_head
from cloud_tools.progress import Ticks, no_ticks
from cloud_tools.tflite.tflite_file import Runner
from cloud_tools.training.features import Features
from cloud_tools.training.heads import HeadSpec, TrainedHead, train_head
from cloud_tools.training.run import Sides


def train_held_out_head(spec: HeadSpec, sides: Sides, ticks: Ticks = no_ticks) -> TrainedHead | None:
    """Train the held-out head on the early part of the train side; its grid is the coarsest that the late one allows.

    Variants of the crops, if any, are learned from and never measured on. None when there is no late part. It starts
    cold, whatever the release does: so its grid depends on the dataset alone, and releases from the same crops are on
    the same one.

    Raises:
        ExportError: it cannot be exported.
    """
    if not len(sides.late):
        return None
    return train_head(spec, sides.learn(sides.early), sides.held_out, ticks=ticks)


def fit_familiarity(labels: int, sides: Sides, head: bytes, held_out: TrainedHead) -> Fit | None:
    """Fit the familiarity score of the release with ``head`` (TFLite); None when too few crops can be held out.

    ``held_out`` is what ``train_held_out_head`` gave for ``sides``.

    Raises:
        ReleaseError: a head does not run.
    """
    late = tuple(sides.crops[i] for i in sides.late)
    if not can_fit(late):
        return None
    learned, known = sides.train, sides.train.rows(sides.early)
    fitted = fit(
        fit_means(learned.features, learned.labels, labels),
        fit_means(known.features, known.labels, labels),
        Sample(late, sides.held_out.features, probabilities(held_out.data, sides.held_out.features)),
        Sample(sides.strangers, sides.strangers_features, probabilities(held_out.data, sides.strangers_features)),
        labels,
    )
    both = (probabilities(data, known.features) for data in (held_out.data, head))
    return fitted and to_head(fitted, *both)


def probabilities(head: bytes, features: Features) -> NDArray[np.float32]:
    """Return what a head (TFLite) says of features, n x labels; a pooled row becomes a map that is one everywhere."""
    runner = Runner(head, "head.tflite")
    shape = runner.input.shape[1:]
    maps = features if features.shape[1:] == shape else features[:, None, None, :]
    rows = [runner.run(np.ascontiguousarray(np.broadcast_to(row, shape))[None])[0] for row in maps]
    return np.stack(rows) if rows else np.zeros((0, runner.output.shape[-1]), np.float32)
