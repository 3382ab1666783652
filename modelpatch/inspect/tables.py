"""Owns plain text for a terminal: tables with columns as wide as they must be, and names of unknown origin.

Refuses to cut or wrap a cell.
"""

from collections.abc import Collection, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Return lines: the head, a rule, the rows. Columns whose numbers are in `right` are right-aligned."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    return [_line(row, widths, right) for row in (head, rule, *rows)]


def printable(text: str) -> str:
    """Return `text` with every character escaped that a terminal could act on; names in files hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _line(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    padded = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join(padded).rstrip()
