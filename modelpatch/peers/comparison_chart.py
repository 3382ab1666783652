"""Owns the picture of a comparison: horizontal bars of patch sizes, and of the CPU that making them took.

Refuses to draw without matplotlib, which is imported here alone, and other formats than PNG and SVG.
"""

from pathlib import Path
from typing import Any

from modelpatch.errors import PatchError
from modelpatch.peers.comparison import OURS, Comparison, Row

FORMATS = (".png", ".svg")
# Bars longer than this many times the shortest are cut: on an axis that holds them nobody sees the others.
_LONGEST = 30
# Above this spread of times the axis is logarithmic.
_LINEAR_SPREAD = 30
_OURS_COLOR, _PEER_COLOR, _WRONG_COLOR = "#0b6e4f", "#8a9ba8", "#b3261e"
_ROOM_FOR_LABELS = 1.45
_CUT_AT = 1.04


class ChartError(PatchError):
    """The chart cannot be drawn: no matplotlib, or a format that is not known."""


def check_chart(path: Path) -> None:
    """Refuse what would fail after minutes of measuring.

    Raises:
        ChartError: matplotlib is missing, or the name ends in neither `.png` nor `.svg`.
        FileNotFoundError: the folder of `path` does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise ChartError(f"{path}: the chart's name must end in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "No such folder", str(path.parent))
    _new_figure(1)


def draw_chart(found: Comparison, path: Path) -> None:
    """Write the chart of `found` to `path`. Raises ChartError, OSError: as `check_chart`."""
    rows = found.chosen()
    figure = _new_figure(len(rows))
    sizes, times = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    names = [f"{row.tool}\n{row.setting}" for row in rows]
    _draw_sizes(sizes, found, rows)
    _draw_times(times, rows)
    sizes.set_yticks(range(len(rows)), names)
    sizes.invert_yaxis()
    target = f"{Path(found.new).name}, {found.new_bytes:,} bytes"
    figure.suptitle(f"Patches from {Path(found.old).name} to {target}", x=0.01, ha="left", fontsize=13)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    """Write `figure`; the same numbers give the same SVG, and its words stay words."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "modelpatch", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else {})


def _new_figure(rows: int) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise ChartError(f"a chart needs matplotlib, which is not installed ({e})") from e
    return Figure(figsize=(11, 1.6 + 0.55 * rows), dpi=110, layout="constrained")


def _draw_sizes(axis: Any, found: Comparison, rows: list[Row]) -> None:
    shortest = min(row.patch_bytes for row in rows)
    end = max(1, *(row.patch_bytes for row in rows if row.patch_bytes <= _LONGEST * shortest))
    labels = [f"{row.patch_bytes:,} ({_times(found.ratio(row))})" for row in rows]
    bars = _bars(axis, rows, [min(row.patch_bytes, end * _CUT_AT) for row in rows])
    for i, row in enumerate(rows):
        if row.patch_bytes > end:
            bars[i].set_hatch("//")
            bars[i].set_edgecolor("white")
            labels[i] += ", bar cut"
    axis.bar_label(bars, labels, padding=4, fontsize=9)
    axis.set_xlim(0, end * _ROOM_FOR_LABELS)
    axis.locator_params(axis="x", nbins=5)
    _finish(axis, "Patch size in bytes (multiple of ours)")


def _draw_times(axis: Any, rows: list[Row]) -> None:
    # A bar of no length has no place on a logarithmic axis, and no tool takes less than this.
    seconds = [max(row.diff_cpu_s, 1e-3) for row in rows]
    axis.bar_label(_bars(axis, rows, seconds), [f"{value:.3g}" for value in seconds], padding=4, fontsize=9)
    title, low, high = "CPU to make it, in seconds", min(seconds) / 2, max(seconds)
    if high / low > _LINEAR_SPREAD:
        axis.set_xscale("log")
        axis.set_xlim(low, low * (high / low) ** _ROOM_FOR_LABELS)
        title += ", logarithmic"
    else:
        axis.set_xlim(0, high * _ROOM_FOR_LABELS)
        axis.locator_params(axis="x", nbins=4)
    _finish(axis, title)


def _bars(axis: Any, rows: list[Row], values: list[float]) -> Any:
    return axis.barh(range(len(rows)), values, color=[_color(row) for row in rows], height=0.66)


def _finish(axis: Any, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=10)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 100 else f"{ratio:,.0f}x"


def _color(row: Row) -> str:
    if not row.exact:
        return _WRONG_COLOR
    return _OURS_COLOR if row.tool == OURS else _PEER_COLOR
