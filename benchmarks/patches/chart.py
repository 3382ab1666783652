"""Owns the bar chart of the page: patch sizes against HDiffPatch's best. Refuses pairs that were not measured."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.patches.bars import BSDIFF, HDIFFPATCH, ZSTD, Facts
from benchmarks.patches.records import Made
from benchmarks.patches.results import BEST, Results

SHOWN = ("*.float32", "*.float16", "*.int8", "*.savedmodel", "*.safetensors")
BARS = ((BEST, "#1b6ca8"), (ZSTD, "#b8b8b8"), (BSDIFF, "#d9a441"))


def draw(results: Results, pairs: Mapping[str, Made], path: Path) -> None:
    """Write the chart as SVG; the same results give the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "patches"
    import matplotlib.pyplot as plt

    facts = Facts(results, pairs)
    names = [name for name in sorted(facts.matching(SHOWN)) if facts.ratio(name, HDIFFPATCH) is not None]
    names.sort(key=lambda name: facts.ratio(name, HDIFFPATCH) or 0.0, reverse=True)
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.42 * len(names)), layout="constrained")
    for number, (tool, colour) in enumerate(BARS):
        shares = [facts.ratio(name, HDIFFPATCH, tool) or 0.0 for name in names]
        places = [row + (1 - number) * 0.27 for row in range(len(names))]
        axes.barh(places, shares, 0.25, color=colour, label=tool)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xlim=(0, 2), yticks=range(len(names)), yticklabels=names, xlabel=f"patch size / {HDIFFPATCH}'s best")
    axes.margins(y=0.01)
    figure.legend(loc="outside upper center", ncols=len(BARS), frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
