"""Owns measuring how much two models differ, so that a pair is what its name says. Refuses to trust names.

A head with dead filters gives small patches that mean nothing: every pair states the share of weights that changed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Named = Mapping[str, Sequence[NDArray[np.float32]]]  # weights by layer


def changed_share(old: Named, new: Named, layers: Sequence[str]) -> float:
    """Return the share of the weights of ``layers`` in ``new`` that differ; of a new shape all do."""
    changed = total = 0
    for name in layers:
        for mine, other in zip(new[name], old[name], strict=True):
            total += mine.size
            same_shape = mine.shape == other.shape
            changed += int(np.count_nonzero(_bits(mine) != _bits(other))) if same_shape else mine.size
    return changed / total if total else 0.0


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)
