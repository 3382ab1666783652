"""Owns what a diff is given: two versions of a file, and settings.

Refuses efforts that do not exist. Needs numpy (diff only).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from modelpatch.diff.pieces import Bytes, as_bytes
from modelpatch.format.header import DecoderFeatures
from modelpatch.tensors.find import find_tensors
from modelpatch.tensors.tensor import Tensor
from modelpatch.tensors.tensorbundle import BundleIndex, index_beside

EFFORTS = ("fast", "best")


@dataclass(frozen=True, slots=True)
class DiffSettings:
    """How hard to look for a small patch, `fast` or `best`, and what the decoder on the device has.

    Raises:
        ValueError: there is no such effort.
    """

    effort: str
    features: DecoderFeatures

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise ValueError(f"effort must be one of {EFFORTS}, not {self.effort!r}")

    @property
    def fast(self) -> bool:
        """Whether time matters more than the last percent."""
        return self.effort == "fast"

    def has(self, feature: DecoderFeatures) -> bool:
        """Return whether the device has `feature`."""
        return feature in self.features


@dataclass(frozen=True)
class Contents:
    """The bytes of a file; for a shard of a TensorBundle also the bundle's index, which alone describes it."""

    data: bytes
    index: BundleIndex | None = None

    @cached_property
    def array(self) -> Bytes:
        """The bytes as an array."""
        return as_bytes(self.data)

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The tensors by ascending offset; none where the format is unknown."""
        return find_tensors(self.data, self.index)


def read_contents(path: Path) -> Contents:
    """Return the file at `path`, with the index beside it if it is a shard. Raises OSError: it cannot be read."""
    return Contents(path.read_bytes(), index_beside(path))


@dataclass(frozen=True, slots=True)
class DiffInput:
    """One diff: from `old` to `new`, by `settings`."""

    old: Contents
    new: Contents
    settings: DiffSettings

    def by_effort(self, effort: str) -> "DiffInput":
        """Return the same diff with another effort."""
        return replace(self, settings=replace(self.settings, effort=effort))

    def without_base(self) -> "DiffInput":
        """Return the diff from nothing to the same target."""
        return replace(self, old=Contents(b""))
