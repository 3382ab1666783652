"""Owns what people may be called: the name that is shown beside a label. Refuses text that could deceive a reader.

A label is an id, safe in files, topics and addresses. Its name is what people see, any text of Unicode: composed
(NFC), blanks of any kind one space, at most MOST_CHARACTERS and MOST_BYTES. Without one the label is shown.
"""

import unicodedata
from collections.abc import Collection, Mapping

from contract.checks import Fields
from contract.errors import InputError

MOST_CHARACTERS = 64
MOST_BYTES = 192  # 64 characters of Chinese
_SHOWN = 40  # characters of a refused name in an error
_JOINERS = "\u200c\u200d"  # between two letters they are part of a name: in Persian, in Sinhala
_EMPTY = "\u115f\u1160\u2800\u3164\uffa0"  # letters and signs that show nothing
# Controls, half characters, private ones, what turns the direction of reading, ends of lines. What is not assigned
# yet passes: else a name would be one for a newer Python and none for an older.
_REFUSED = ("Cc", "Cs", "Co", "Cf", "Zl", "Zp")


def display_name(text: str, where: str) -> str:
    """Return ``text`` as a name is kept: composed, trimmed, one space between words.

    Raises:
        InputError: it can be no name; the text says why, and begins with ``where``.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split(None)) if _is_plain_text(text) else ""
    problem = _problem(text, name)
    if problem:
        raise InputError(f"{where}: {text[:_SHOWN]!r} is no name: {problem}")
    return name


def _is_plain_text(text: str) -> bool:
    return not any(
        character in _EMPTY or (character not in _JOINERS and unicodedata.category(character) in _REFUSED)
        for character in text
    )


def _problem(text: str, name: str) -> str:
    """Say what is wrong with ``text``, of which ``name`` would be kept; nothing: an empty text."""
    if not _is_plain_text(text):
        return "it has a character that does not show, or changes how others do"
    if not name.strip(_JOINERS + " "):
        return "it is empty"
    if len(name) > MOST_CHARACTERS or len(name.encode()) > MOST_BYTES:
        return f"it is longer than {MOST_CHARACTERS} characters or {MOST_BYTES} bytes"
    if unicodedata.category(name[0]).startswith("M"):
        return "it begins with a mark that belongs on a letter"
    pieces = name.replace(_JOINERS[0], _JOINERS[1]).split(_JOINERS[1])
    if any(not piece or piece.strip() != piece for piece in pieces):
        return "it has a joiner that joins nothing"
    return ""


def parse_names(fields: Fields, labels: Collection[str], stranger: str) -> dict[str, str]:
    """Read names by label.

    Args:
        fields: the object of them.
        labels: those that may have one.
        stranger: what nobody may be called.

    Raises:
        InputError: a label that is not there, no name, or two people who would be shown alike.
    """
    names = {}
    for label in fields.value:
        if label not in labels:
            raise InputError(f"{fields.where}: {label[:_SHOWN]!r} is nobody's label")
        names[label] = display_name(fields.text(label, 1000), f"{fields.where}: {label}")
    check_apart(names, labels, stranger, fields.where)
    return names


def check_apart(names: Mapping[str, str], labels: Collection[str], stranger: str, where: str) -> None:
    """Refuse names by which two of ``labels``, or one and a ``stranger``, would be shown alike; InputError."""
    shown = {stranger: stranger}
    for label in labels:
        name = names.get(label, label)
        if name in shown:
            raise InputError(f"{where}: {shown[name]} and {label} would both be called {name!r}")
        shown[name] = label
