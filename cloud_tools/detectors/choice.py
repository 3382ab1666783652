"""Owns which detector a release gets: the base's own file, or one made from what a person chose. Refuses to guess.

As with the backbone, the base's file is not made again where the same is meant: another converter's bytes would be
megabytes to send for nothing. Another detector may be chosen for a release with a base, and costs a download.
"""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cloud_tools.detectors.detector import SIZES, TOLERANCE, DetectorFile, make_detector, parse_name
from cloud_tools.detectors.weight_source import nanodet_files
from cloud_tools.setting_errors import Setting, SettingError
from contract.detection.runner import DetectorRunner
from contract.errors import describe_os_error

DEFAULT, NONE = "nanodet-384", "none"
PACKAGE_FILE = ".tgz"
MOST_BYTES = 64 << 20


def check_detector(choice: str | None) -> None:
    """Refuse what cannot be before anything is fetched; InputError names it."""
    if choice in (None, NONE) or parse_name(str(choice)) or Path(str(choice)).is_file():
        return
    names = [*SIZES, *(f"{name}-{precision}" for name in SIZES for precision in TOLERANCE), NONE]
    near = difflib.get_close_matches(str(choice), names, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}, or a .tflite or .tgz file"
    raise SettingError(Setting.DETECTOR, f" {choice}: no such detector, and no file of that name ({hint})")


def choose_detector(choice: str | None, kept: DetectorFile | None, *, has_base: bool) -> DetectorFile | None:
    """Return the detector of a release: what was chosen, else the base's (None where it has none), else the default.

    Raises:
        InputError: no such detector, or a file that cannot be read. PeerError: its weights cannot be fetched.
        ExportError, OSError: as ``make_detector``.
    """
    check_detector(choice)
    if choice is None and has_base:
        return kept
    if choice == NONE:
        return None
    named = parse_name(choice or DEFAULT)
    if named is None:
        return _from_file(Path(str(choice)))
    if kept is not None and named == (kept.origin.get("name"), kept.origin.get("precision")):
        return kept
    return make_detector(*named, nanodet_files())


def detector_maker(choice: str | None) -> Callable[[], DetectorRunner] | None:
    """Return what makes the detector of a ``choice`` (the default unless given), None where none is wanted.

    Making it may take a download. Raises as ``check_detector`` now, as ``choose_detector`` when it is made.
    """
    check_detector(choice)
    return None if choice == NONE else partial(_made, choice)


def _made(choice: str | None) -> DetectorRunner:
    chosen = choose_detector(choice, None, has_base=False)
    assert chosen is not None
    return chosen.runner()


def _from_file(path: Path) -> DetectorFile:
    if path.suffix == PACKAGE_FILE:
        return make_detector(DEFAULT, "float16", nanodet_files(path))
    try:
        return DetectorFile(path.read_bytes(), {"name": "file"})
    except OSError as error:
        raise SettingError(Setting.DETECTOR, f" {path}: {describe_os_error(error)}") from error
