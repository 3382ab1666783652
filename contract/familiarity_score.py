"""Owns the familiarity score of a crop, in calibration and on the device alike; there is no second way.

Refuses to decide and to know of tracks. Needs numpy.
"""

import numpy as np
from numpy.typing import NDArray

from contract.familiarity import Familiarity, channels_kept, unpack_means

# A softmax in float32 reaches 1e-38 and int8 gives whole zeros: below this a probability says nothing more.
LEAST_PROBABILITY = 1e-12
TINY = 1e-9  # keeps a picture without any feature from dividing by zero; its cosine is 0


class FamiliarityScore:
    """The score of one release, its means unpacked."""

    def __init__(self, data: Familiarity, labels: int, channels: int) -> None:
        """Take the data for a model of ``labels`` and ``channels``; InputError when it is for another."""
        rows = unpack_means(data.means, labels, channels_kept(channels, data.stride), "familiarity")
        self.data = data
        self._means = _unit(np.array([list(row) for row in rows], np.float32))

    def score(self, features: NDArray[np.float32], probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the score of n crops (float64): higher is more like a member.

        Args:
            features: float32, n x channels, or n x height x width x channels: the input of the last stage.
            probabilities: float32, n x labels.
        """
        return cosine(features, self._means, self.data.stride) + self.data.energy * energy(probabilities)


def energy(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of -log p of each row: the free energy of logits whose mean is 0, known without the logits.

    A stranger's logits are small in every direction, so that all labels stay likely and this stays low.
    """
    floored: NDArray[np.float64] = np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY)
    return np.asarray(-np.log(floored).mean(axis=-1))


def cosine(features: NDArray[np.float32], means: NDArray[np.float32], stride: int) -> NDArray[np.float64]:
    """Return the largest cosine of each crop's features with the rows of ``means`` (length 1, labels x channels)."""
    return np.asarray((_unit(pooled(features)[:, ::stride]) @ means.T).max(axis=1), np.float64)


def pooled(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return n x channels: the mean over everything between the first and the last axis."""
    flat = features.reshape(len(features), -1, features.shape[-1])
    return np.asarray(flat.mean(axis=1, dtype=np.float32))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY), np.float32)
