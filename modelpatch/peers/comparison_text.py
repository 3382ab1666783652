"""Owns the words of a comparison: its table, and its progress line on a terminal.

Refuses to measure: it shows what `comparison.py` found.
"""

import sys
from typing import TextIO

from modelpatch.inspect.tables import printable, table
from modelpatch.peers.comparison import OURS, Comparison, Row

_BAR = 20


class ProgressLine:
    """One line that says how far a long command is; nothing where `stream` is no terminal.

    Used as a context: the line is gone at the end, so that what follows stands alone.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def __call__(self, done: int, steps: int, what: str) -> None:
        full = _BAR * done // max(steps, 1)
        self._write(f"[{'#' * full}{'.' * (_BAR - full)}] {done} of {steps}: {what}"[:78])

    def _write(self, line: str) -> None:
        if self._shown:
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()


def lines(found: Comparison, *, every_setting: bool = False) -> list[str]:
    """Return the comparison as lines of text: our rows, then each peer's smallest patch (or all) by size."""
    rows = sorted(found.rows, key=_order) if every_setting else found.chosen()
    kind = f", {found.files} changed or new files" if found.files != 1 else ""
    sizes = f"{found.old} ({found.old_bytes:,} bytes) -> {found.new} ({found.new_bytes:,} bytes){kind}"
    out = [printable(sizes), ""]
    head = ("tool", "setting", "bytes", "x ours", "diff CPU s", "apply CPU s", "exact", "version")
    out += table(head, [_cells(found, row) for row in rows], right=(2, 3, 4, 5))
    out += ["", *_notes(found, rows)]
    return out


def _order(row: Row) -> tuple[bool, int]:
    return row.tool != OURS, row.patch_bytes


def _cells(found: Comparison, row: Row) -> tuple[str, ...]:
    mark = " *" if row.measured == "child process" else ""
    return (
        row.tool,
        row.setting,
        f"{row.patch_bytes:,}",
        f"{found.ratio(row):.3f}",
        f"{row.diff_cpu_s:.3f}{mark}",
        f"{row.apply_cpu_s:.3f}{mark}",
        "yes" if row.exact else "NO",
        row.version,
    )


def _notes(found: Comparison, rows: list[Row]) -> list[str]:
    out = ["CPU: user and system seconds, all threads, of this process without imports."]
    if any(row.measured == "child process" for row in rows):
        out.append("* of the tool's own process, its start and its files included.")
    if found.files != 1:
        out.append("Peers: sums of one patch per changed or new file; ours: one patch of the whole folder.")
    out += [printable(f"failed: {message}") for message in found.failed.values()]
    if found.missing:
        out.append("not installed: " + ", ".join(found.missing))
    return out
