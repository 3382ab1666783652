"""Owns sentences and errors that name settings. Refuses to know what a setting is called where a person reads them.

The same sentence is shown on a command line, where the setting is an option, and in a browser, where it is a field:
whoever shows it gives the names (``Sentence.named``).
"""

import enum
from collections.abc import Callable

from contract.errors import InputError, PeerError


class Setting(enum.Enum):
    """What a person can choose; the value is its name in code, JSON and forms."""

    ACCEPT_REGRESSION = "accept_regression"
    AUGMENT = "augment"
    BACKBONE = "backbone"
    BASE = "base"
    CALIBRATE = "calibrate"
    DETECTOR = "detector"
    FINE_TUNE = "fine_tune"
    FORGET = "forget"
    HEAD = "head"
    HELD_OUT = "held_out"
    JITTER = "jitter"
    MAX_UPDATE_BYTES = "max_update_bytes"
    MODEL = "model"
    NAME = "name"
    PIXELS = "pixels"
    PLOT = "plot"
    PRECISION = "precision"
    RENAME = "rename"
    ROLLOUT = "rollout"
    VERSION = "version"
    VIDEO = "video"
    WEIGHTS = "weights"

    def __str__(self) -> str:
        return self.value.replace("_", " ")


class Sentence:
    """Words with settings among them; ``str`` calls each by its name in plain words."""

    def __init__(self, *parts: str | Setting) -> None:
        self.parts = parts

    def __str__(self) -> str:
        return self.named(str)

    def named(self, name: Callable[[Setting], str]) -> str:
        """Return the sentence with each setting as ``name`` calls it."""
        return "".join(part if isinstance(part, str) else name(part) for part in self.parts)


class SettingError(InputError):
    """What a person chose cannot be; ``sentence`` says why, ``setting`` is the first one that it names."""

    def __init__(self, *parts: str | Setting) -> None:
        self.sentence = Sentence(*parts)
        super().__init__(str(self.sentence))

    @property
    def setting(self) -> Setting:
        """The setting that the error is about."""
        return next(part for part in self.sentence.parts if isinstance(part, Setting))


class FetchError(PeerError):
    """Something could not be fetched; ``sentence`` names the setting by which a person gives an own copy instead."""

    def __init__(self, *parts: str | Setting) -> None:
        self.sentence = Sentence(*parts)
        super().__init__(str(self.sentence))
