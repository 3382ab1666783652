"""Owns the table [runtime] of agent.toml. Refuses an accelerator that is not known."""

import enum
from dataclasses import dataclass


class AcceleratorKind(enum.StrEnum):
    """What runs the files of a release that were compiled for it; everything else runs on the processor."""

    NONE = "none"
    EDGETPU = "edgetpu"


@dataclass(frozen=True)
class RuntimeSettings:
    """Whether there is an accelerator, and how long it may take before it counts as hung."""

    accelerator: str = "none"  # or edgetpu
    library: str = "libedgetpu.so.1"  # its TFLite delegate: a name for the loader, or a path
    answer_s: float = 2.0  # for one picture
    start_s: float = 30.0  # until the models are loaded and have passed the self-test

    def __post_init__(self) -> None:
        """Refuse what is not known, and times in which nothing can answer."""
        if self.accelerator not in AcceleratorKind.__members__.values():
            raise ValueError(f"accelerator {self.accelerator!r} is none of {', '.join(AcceleratorKind)}")
        if not self.library or "\0" in self.library:
            raise ValueError("library must name the delegate's library")
        if not (0.05 <= self.answer_s <= 10 and 1 <= self.start_s <= 300):
            raise ValueError("answer_s must be from 0.05 to 10, start_s from 1 to 300")

    @property
    def has_accelerator(self) -> bool:
        """Whether one is to be used."""
        return self.accelerator != AcceleratorKind.NONE
