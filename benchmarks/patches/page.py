"""Owns docs/benchmarks/patches.md: every number on it comes from the results. Refuses to leave out what we lose."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.patches.bars import BSDIFF, HDIFFPATCH, ZSTD, Facts, Judged, judge, larger_than_hdiffpatch
from benchmarks.patches.records import Made
from benchmarks.patches.results import BEST, FAST, OURS, Results
from modelpatch.peers import COMPARABLE

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8-recalibrated")
GROUPS = (
    ("Whole TFLite models, backbone and head in one file", ("float32", "float16", "dynamic", "int8", "int8-recal")),
    ("Heads as files of their own", ("pooled", "conv32")),
    ("SavedModels of the paper (variables.data)", (".savedmodel",)),
    ("safetensors", (".safetensors",)),
)
RATIOS = (HDIFFPATCH, BSDIFF, ZSTD)


def write_page(results: Results, pairs: Mapping[str, Made], path: Path) -> None:
    """Write the page for the pairs that are given."""
    facts = Facts(results, dict(sorted(pairs.items(), key=lambda item: _place(item[1]))))
    path.write_text("\n".join(_lines(facts, path)) + "\n", encoding="utf-8")


def _lines(facts: Facts, path: Path) -> Iterator[str]:
    yield from _head(facts, path)
    yield from _bars(judge(facts))
    yield from _sizes(facts)
    yield from _costs(facts)
    yield from _losses(facts)
    yield from _pairs(facts)
    yield from _machine(facts)


def _head(facts: Facts, path: Path) -> Iterator[str]:
    yield "# Patches of models, measured"
    yield ""
    yield from _prose(
        "Made by `python -m benchmarks.patches`; every number comes from its result file. All pairs are real "
        "models that were really trained on the people of the sample video, except where the last section "
        "says random; every patch of every tool was applied and compared byte for byte. A tool's size is that "
        "of its best setting. CPU seconds are user and system time of all threads; memory is the largest "
        "resident set of the process."
    )
    yield f"![Patch sizes as a share of HDiffPatch's best]({path.with_suffix('.svg').name})"
    yield ""


def _bars(judged: Sequence[Judged]) -> Iterator[str]:
    words = {True: "pass", False: "**miss**", None: "open"}
    yield "## The bars"
    yield ""
    yield from _prose("A bar over several pairs is judged by its worst one, which is named.")
    yield from _table(
        ("against", "bar", "measured", ""), [(b.against, b.bar, b.measured, words[b.passed]) for b in judged]
    )


def _sizes(facts: Facts) -> Iterator[str]:
    peers = _peers(facts)
    yield "## Sizes"
    yield ""
    yield from _prose(
        "Bytes of the patch; then `best` as a share of HDiffPatch's, bsdiff's and zstd's best patch. Folder: "
        "the patch of the whole SavedModel folder, graph and index included, which the other tools do not do. "
        "An empty cell was not measured."
    )
    for title, names in _grouped(facts):
        folder = any(facts.pairs[name].is_folder for name in names)
        yield f"### {title}"
        yield ""
        heads = ["pair", "file", "best", "fast", *(["best, folder"] if folder else []), *peers]
        heads += [f"/ {peer}" for peer in RATIOS]
        yield from _table(heads, [_size_row(facts, name, peers, folder) for name in names])


def _size_row(facts: Facts, name: str, peers: Sequence[str], folder: bool) -> list[str]:
    tools = [BEST, FAST, *([f"{BEST}, folder"] if folder else []), *peers]
    row = [name, _whole(facts.pairs[name].record["new_bytes"])]
    row += [_whole(facts.value(name, tool, "bytes")) for tool in tools]
    return row + [_share(facts.ratio(name, peer)) for peer in RATIOS]


def _costs(facts: Facts) -> Iterator[str]:
    yield "## CPU and memory"
    yield ""
    yield from _prose(
        "CPU seconds of the call alone, imports done; command: of `python -m modelpatch` from start to end, "
        "interpreter and imports included. Comparable: the fastest setting of HDiffPatch whose patch is at "
        f"most {COMPARABLE:.2f} times its best one. Copy: `cp` and SHA-256 of the target, in process. Peak "
        "memory in MiB."
    )
    heads = ("pair", "diff fast", "diff best", "HDiffPatch comparable", "HDiffPatch best", "zstd best", "bsdiff",
             "fast command", "best peak", "apply", "copy", "apply / copy", "apply command", "apply peak",
             "HDiffPatch apply peak")  # fmt: skip
    yield from _table(heads, [_cost_row(facts, name) for name in facts.pairs])


def _cost_row(facts: Facts, name: str) -> list[str]:
    def seconds(tool: str, key: str) -> str:
        return _seconds(facts.value(name, tool, key))

    apply, copy = (facts.value(name, BEST, key) for key in ("apply_cpu_s", "copy_cpu_s"))
    return [
        name,
        seconds(FAST, "diff_cpu_s"),
        seconds(BEST, "diff_cpu_s"),
        seconds(HDIFFPATCH, "fast_cpu_s"),
        seconds(HDIFFPATCH, "diff_cpu_s"),
        seconds(ZSTD, "diff_cpu_s"),
        seconds(BSDIFF, "diff_cpu_s"),
        seconds(FAST, "diff_whole_cpu_s"),
        _mib(facts.value(name, BEST, "diff_peak_bytes")),
        _seconds(apply),
        _seconds(copy),
        f"{apply / copy:.1f}" if apply is not None and copy else "",
        seconds(BEST, "apply_whole_cpu_s"),
        _mib(facts.value(name, BEST, "apply_peak_bytes")),
        _mib(facts.value(name, HDIFFPATCH, "apply_peak_bytes")),
    ]


def _losses(facts: Facts) -> Iterator[str]:
    yield "## Where we lose"
    yield ""
    missed = [bar for bar in judge(facts) if bar.passed is False]
    yield from _list("Bars missed", [f"{bar.against}, {bar.bar}: {bar.measured}" for bar in missed])
    yield from _list("Pairs on which another tool's patch is smaller", list(_smaller_peers(facts)))
    yield from _list("Time: pairs on which another tool needs less CPU", list(_faster_peers(facts)))
    failed = [
        f"{name}, {tool}: {found['failed']}"
        for name, tools in facts.results.measured.items()
        for tool, found in tools.items()
        if name in facts.pairs and "failed" in found
    ]
    yield from _list("Tools that failed", failed)


def _smaller_peers(facts: Facts) -> Iterator[str]:
    for name in facts.pairs:
        for peer in _peers(facts):
            mine, theirs = facts.value(name, BEST, "bytes"), facts.value(name, peer, "bytes")
            if mine is not None and theirs is not None and theirs < mine:
                within = peer == HDIFFPATCH and (larger_than_hdiffpatch(facts, name) or 2) <= 1
                note = ", within what our digests cost" if within else ""
                yield f"{name}: {peer} {_whole(theirs)}, ours {_whole(mine)} ({mine - theirs:+,.0f} bytes{note})"


def _faster_peers(facts: Facts) -> Iterator[str]:
    """Give, for each peer, how often it is faster and by how much; its smallest patch against our ``best``."""
    for what, key in (("diff, `best`", "diff_cpu_s"), ("apply", "apply_cpu_s")):
        for peer in _peers(facts):
            both = [(facts.value(name, BEST, key), facts.value(name, peer, key)) for name in facts.pairs]
            ratios = [mine / theirs for mine, theirs in both if mine is not None and theirs]
            lost = [ratio for ratio in ratios if ratio > 1]
            if lost:
                share = f"{len(lost)} of {len(ratios)} pairs"
                yield f"{what}: {peer} on {share}, by a median factor of {median(lost):.1f}"


def _pairs(facts: Facts) -> Iterator[str]:
    yield "## The pairs"
    yield ""
    yield from _prose(
        "Changed: the share of the trained weights, and of all weights, whose bits differ. A head with dead "
        "filters gives small patches that mean nothing, so a pair whose trained weights did not move is "
        "refused (on a grid, a weight that moved by less than half a step stands still). Accuracy: on "
        "held-out crops, before and after; it shows that training happened, and is no claim beyond that."
    )
    rows = []
    for name, pair in facts.pairs.items():
        record = pair.record
        before, after = record["accuracy"]
        accuracy = f"{_share(before)} to {_share(after)}" if after is not None else ""
        rows.append(
            (name, record["what"], f"{record['trained_changed']:.3f}", f"{record['all_changed']:.4f}", accuracy)
        )
    yield from _table(("pair", "what changes", "trained weights changed", "all", "accuracy"), rows)
    yield from _list(
        "What is random", sorted({p.record["random"] for p in facts.pairs.values() if p.record["random"]})
    )


def _machine(facts: Facts) -> Iterator[str]:
    machine = facts.results.machine
    yield "## Machine, versions, and how to repeat this"
    yield ""
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}; one process at a time. modelpatch is named by the digest of its code."
    )
    yield ""
    yield from _table(("what", "version"), sorted(_versions(facts).items()))
    yield from _load(facts)
    yield from _list("Settings that were a peer's best somewhere", list(_best_settings(facts)))
    yield from _prose(
        "Peak memory of a peer that is a program includes what Python held when it started it. On larger "
        "files the settings that a peer calls slow are left out, except HDiffPatch's, which are all tried on "
        "every pair."
    )
    yield "    make patches        # installs the peers that are missing, and does all of it"
    yield ""
    yield from _prose(
        "Pairs and results are kept in the cache; a second run measures only what changed. `--pairs NAME` and "
        "`--tools NAME` choose, `--json` prints the results."
    )


def _versions(facts: Facts) -> dict[str, str]:
    """Return every version that something on the page was made or measured with: more than one where it changed."""
    found: dict[str, set[str]] = {}
    for name in facts.pairs:
        for tool, measured in facts.results.measured.get(name, {}).items():
            if "version" in measured:
                found.setdefault("modelpatch" if tool in OURS else tool, set()).add(measured["version"])
    return facts.results.versions | {tool: ", ".join(sorted(versions)) for tool, versions in found.items()}


def _load(facts: Facts) -> Iterator[str]:
    loads = [
        found["load"]
        for name in facts.pairs
        for found in facts.results.measured.get(name, {}).values()
        if "load" in found
    ]
    if loads:
        yield from _prose(
            f"Load average of the machine while these were measured: {min(loads):.1f} to {max(loads):.1f}, median "
            f"{median(loads):.1f}. CPU seconds are longer on a busy machine; sizes are the same."
        )


def _best_settings(facts: Facts) -> Iterator[str]:
    for peer in _peers(facts):
        found = {facts.results.measured.get(name, {}).get(peer, {}).get("setting") for name in facts.pairs} - {None}
        yield f"{peer}: {', '.join(sorted(map(str, found)))}"


def _grouped(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    for number, (title, _) in enumerate(GROUPS):
        names = [name for name, pair in facts.pairs.items() if _place(pair)[0] == number]
        if names:
            yield title, names


def _place(pair: Made) -> tuple[int, str, int]:
    """Return where a pair stands on the page: its group, its change, its precision."""
    change, _, form = pair.name.rpartition(".")
    if form in PRECISIONS:
        return (1 if change.startswith(GROUPS[1][1]) else 0), change, PRECISIONS.index(form)
    return (2 if form == "savedmodel" else 3), change, 0


def _peers(facts: Facts) -> list[str]:
    """Return the peers that were measured, the bars' ones first."""
    found = {tool for name in facts.pairs for tool in facts.results.measured.get(name, {})} - set(OURS)
    return sorted(found, key=lambda peer: (peer not in RATIOS, RATIOS.index(peer) if peer in RATIOS else 0, peer))


def _prose(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)
    yield ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _list(title: str, items: Sequence[str]) -> Iterator[str]:
    yield f"**{title}.**" + ("" if items else " None.")
    yield ""
    if items:
        yield from (f"- {item}" for item in items)
        yield ""


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _mib(value: float | None) -> str:
    return "" if value is None else f"{value / 2**20:.0f}"
