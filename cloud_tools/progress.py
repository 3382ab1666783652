"""Owns how long work says how far it is: three kinds of callback. Refuses to show anything."""

from collections.abc import Callable

from cloud_tools.setting_errors import Sentence

Ticks = Callable[[int, int], None]  # done, of how many: of one stretch of work
Progress = Callable[[str, int, int], None]  # the stretch of work, done, of how many
Say = Callable[[Sentence], None]  # what happens, for a person


def no_ticks(done: int, total: int) -> None:
    """Tell nobody."""


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def say_nothing(sentence: Sentence) -> None:
    """Tell nobody."""


def ticks_of(progress: Progress, what: str) -> Ticks:
    """Return what tells ``progress`` of the stretch ``what``."""
    return lambda done, total: progress(what, done, total)
