"""Owns how a person who is called anything gets a label, and how a name is found and fits a table. Refuses to guess.

A name that is plain (letters, digits, '.', '_', '-') is its own label. Any other gets one made of its letters that
ASCII has and of its digest: it depends on the name alone, so that the same folder gives the same label on every
machine and beside anybody, and names that differ have labels that differ.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping

from contract.checks import is_plain
from contract.names import display_name

SLUG_MOST = 40  # characters of the readable part
DIGITS = 10  # hexadecimal, of the name's SHA-256: two of a thousand names meet with a chance of 1 to 2,000,000


def person_of(text: str, where: str) -> tuple[str, str]:
    """Return the label of who is called ``text``, and the name beside it: "" where the label says it all.

    Raises:
        InputError: ``text`` is no name; see ``contract.names``.
    """
    name = display_name(text, where)
    return (name, "") if is_plain(name) else (_label(name), name)


def _label(name: str) -> str:
    # Unicode 3.2 is in every Python, and stays as it is: a newer one would make other labels of newer letters.
    parted = unicodedata.ucd_3_2_0.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = "-".join(re.findall("[a-z0-9]+", parted))[:SLUG_MOST].strip("-")
    return f"{slug or 'person'}-{hashlib.sha256(name.encode()).hexdigest()[:DIGITS]}"


def label_of(text: str, names: Mapping[str, str]) -> str:
    """Return the label of whom ``names`` (by label) call ``text``; any other text is a label itself."""
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    return next((label for label, other in names.items() if other == name), text)


def fitted(text: str, width: int) -> str:
    """Return ``text`` with blanks up to ``width`` columns of a terminal; below 0: on its right.

    A sign of Chinese is two columns wide, a mark on a letter none.
    """
    blanks = " " * (abs(width) - sum(map(_columns, text)))
    return text + blanks if width > 0 else blanks + text


def cut(text: str, width: int) -> str:
    """Return as much of ``text`` as ``width`` columns of a terminal hold."""
    while sum(map(_columns, text)) > width:
        text = text[:-1]
    return text


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
