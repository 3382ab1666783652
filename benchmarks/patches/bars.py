"""Owns the bars that the project set itself, and whether the measurements pass them. Refuses to round in our favour.

A bar over several pairs is judged by its worst one. What was not measured is neither passed nor missed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch

from benchmarks.patches.records import Made
from benchmarks.patches.results import BEST, FAST, Results

HDIFFPATCH, BSDIFF, ZSTD = "HDiffPatch", "bsdiff4", "zstd --patch-from"
TUNED = ("all-layers-*.float32", "last-30-layers.float32")
FLOAT32 = ("head-retrain.float32", *TUNED)
POOLED = ("pooled-retrain.float32", "pooled-6-to-7.float32")
POOLED_FEW = ("pooled-retrain-5-epochs.float32",)
# Against whom, what is meant, which pairs, at most which share of the peer's best patch.
SIZE_BARS = (
    (HDIFFPATCH, "float32, head retrained", ("head-retrain.float32",), 0.85),
    (HDIFFPATCH, "float32, fine-tuned", TUNED, 0.72),
    (HDIFFPATCH, "float16, head retrained", ("head-retrain.float16",), 0.78),
    (HDIFFPATCH, "int8, head retrained", ("head-retrain.int8",), 0.65),
    (HDIFFPATCH, "pooled head, trained as long as the first time", POOLED, 0.87),
    (HDIFFPATCH, "pooled head, five epochs more", POOLED_FEW, 0.87),
    (BSDIFF, "float32, head retrained and fine-tuned", FLOAT32, 0.65),
    (BSDIFF, "int8, head retrained", ("head-retrain.int8",), 0.90),
    (ZSTD, "float32, head retrained and fine-tuned", FLOAT32, 0.85),
    (ZSTD, "int8, head retrained", ("head-retrain.int8",), 0.60),
)
# The paper's figures for the first deployment with its SavedModels, in bytes; and what ours may be.
PAPER = {"mobilenetv2": (4_464_323, 1_250_000), "vgg19": (1_778_387, 500_000)}
SMALL_BYTES, DIGEST_BYTES = 2048, 96  # HDiffPatch carries no digests: small patches may be this much larger
FAST_LARGER, APPLY_COPIES, APPLY_CPU_S, APPLY_PEAK, PEAK_APART = 1.05, 4.0, 0.2, 64 << 20, 8 << 20
SMALL_HEAD_BYTES = 1 << 17
MODEL_10MB, LARGE_BYTES = "*.float32", 70_000_000


@dataclass(frozen=True)
class Judged:
    """One bar: against what, the bar, what was measured, and whether it passed (None: not measured)."""

    against: str
    bar: str
    measured: str
    passed: bool | None


@dataclass(frozen=True)
class Worst:
    """The worst of the pairs that were measured, and how many of them were."""

    value: float
    pair: str
    measured: int = 1
    pairs: int = 1


@dataclass(frozen=True)
class Facts:
    """Results and pairs, with the questions that bars and page ask of them."""

    results: Results
    pairs: Mapping[str, Made]

    def value(self, pair: str, tool: str, key: str) -> float | None:
        """Return one measured number, or None where there is none."""
        found = self.results.measured.get(pair, {}).get(tool, {}).get(key)
        return None if found is None else float(found)

    def ratio(self, pair: str, peer: str, mine: str = BEST) -> float | None:
        """Return our patch's size as a share of the peer's best one."""
        ours, theirs = self.value(pair, mine, "bytes"), self.value(pair, peer, "bytes")
        return ours / theirs if ours is not None and theirs else None

    def apply_peak(self, pair: str) -> float | None:
        """Return the peak memory of apply; the pair that is there for memory alone has no ``best`` patch."""
        tool = FAST if self.pairs[pair].record.get("memory_only") else BEST
        return self.value(pair, tool, "apply_peak_bytes")

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """Return the names of the pairs that match a pattern."""
        return [name for name in self.pairs if any(fnmatch(name, pattern) for pattern in patterns)]

    def worst(self, names: Sequence[str], of: Callable[[str], float | None]) -> Worst | None:
        """Return the largest value of ``of`` over the pairs that have one; None where none has."""
        found = [(value, name) for name in names if (value := of(name)) is not None]
        return Worst(*max(found), len(found), len(names)) if found else None


def judge(facts: Facts) -> list[Judged]:
    """Return all bars in the order of the page."""
    return [*_sizes(facts), _never_larger(facts), *_paper(facts), *_fast(facts), *_apply(facts), _memory(facts)]


def _sizes(facts: Facts) -> Iterator[Judged]:
    for peer, what, patterns, limit in SIZE_BARS:
        worst = facts.worst(facts.matching(patterns), lambda name, peer=peer: facts.ratio(name, peer))  # type: ignore[misc]
        yield _judged(f"{peer}, size", f"{what}: at most {limit:.2f}", worst, limit, "{:.3f}")


def larger_than_hdiffpatch(facts: Facts, name: str) -> float | None:
    """Return the ratio to HDiffPatch's best; a small patch is first relieved of what its digests cost."""
    ours, theirs = facts.value(name, BEST, "bytes"), facts.value(name, HDIFFPATCH, "bytes")
    if ours is None or theirs is None:
        return None
    relief = min(DIGEST_BYTES, max(0.0, ours - theirs)) if ours < SMALL_BYTES else 0.0
    return (ours - relief) / theirs


def _never_larger(facts: Facts) -> Judged:
    names = [name for name, pair in facts.pairs.items() if not pair.record.get("memory_only")]
    worst = facts.worst(names, lambda name: larger_than_hdiffpatch(facts, name))
    text = f"every pair: never above 1.00 (under {SMALL_BYTES} bytes: {DIGEST_BYTES} bytes more, for digests)"
    return _judged(f"{HDIFFPATCH}, size", text, worst, 1.0, "{:.3f}")


def _paper(facts: Facts) -> Iterator[Judged]:
    for network, (theirs, limit) in PAPER.items():
        name = f"{network}-first-deployment-no-slots.savedmodel"
        size = facts.value(name, BEST, "bytes")
        worst = None if size is None else Worst(size, name)
        text = f"{network} variables without slots: at most {limit:,} bytes (paper: {theirs:,}, with slots)"
        yield _judged("paper's first deployment", text, worst, limit, "{:,.0f} bytes")


def _fast(facts: Facts) -> Iterator[Judged]:
    names = [name for name, pair in facts.pairs.items() if not pair.record.get("memory_only")]

    def time(name: str) -> float | None:
        mine, theirs = facts.value(name, FAST, "diff_cpu_s"), facts.value(name, HDIFFPATCH, "fast_cpu_s")
        return mine / theirs if mine is not None and theirs else None

    def size(name: str) -> float | None:
        mine, best = facts.value(name, FAST, "bytes"), facts.value(name, BEST, "bytes")
        return mine / best if mine is not None and best else None

    for what, chosen in (("whole models", _models(facts, names)), ("heads of 40 KB", _small_heads(facts, names))):
        text = f"`fast`, {what}: at most the CPU of {HDIFFPATCH}'s fastest comparable setting"
        yield _judged("diff time", text, facts.worst(chosen, time), 1.0, "{:.2f} of it")
    text = f"`fast`: at most {FAST_LARGER:.2f} of the size of `best`"
    yield _judged("diff time", text, facts.worst(names, size), FAST_LARGER, "{:.3f}")


def _models(facts: Facts, names: Sequence[str]) -> list[str]:
    return [name for name in names if facts.pairs[name].record["new_bytes"] >= SMALL_HEAD_BYTES]


def _small_heads(facts: Facts, names: Sequence[str]) -> list[str]:
    return [name for name in names if facts.pairs[name].record["new_bytes"] < SMALL_HEAD_BYTES]


def _apply(facts: Facts) -> Iterator[Judged]:
    names = [name for name in facts.matching([MODEL_10MB]) if facts.pairs[name].record["new_bytes"] > 10_000_000]
    tuned = facts.matching(TUNED)
    yield from _apply_times(facts, "head changed", [name for name in names if name not in tuned])
    yield from _apply_times(facts, "backbone changed too", [name for name in names if name in tuned])
    peak = facts.worst(names, lambda name: facts.value(name, BEST, "apply_peak_bytes"))
    text = f"10 MB model, whole process: at most {APPLY_PEAK >> 20} MiB peak"
    yield _judged("apply", text, peak, APPLY_PEAK, "{:,.0f} bytes")


def _apply_times(facts: Facts, what: str, names: Sequence[str]) -> Iterator[Judged]:
    def copies(name: str) -> float | None:
        mine, copy = facts.value(name, BEST, "apply_cpu_s"), facts.value(name, BEST, "copy_cpu_s")
        return mine / copy if mine is not None and copy else None

    text = f"10 MB model, {what}, in process with numpy: at most {APPLY_COPIES:.0f} times copy and SHA-256 of it"
    yield _judged("apply", text, facts.worst(names, copies), APPLY_COPIES, "{:.1f} times")
    cpu = facts.worst(names, lambda name: facts.value(name, BEST, "apply_whole_cpu_s"))
    text = f"10 MB model, {what}, whole process, without numpy: at most {APPLY_CPU_S} s of CPU"
    yield _judged("apply", text, cpu, APPLY_CPU_S, "{:.2f} s")


def _memory(facts: Facts) -> Judged:
    large = [name for name, pair in facts.pairs.items() if pair.record["new_bytes"] > LARGE_BYTES]
    small = [name for name in facts.matching([MODEL_10MB]) if facts.pairs[name].record["new_bytes"] > 10_000_000]
    peaks = [facts.worst(names, facts.apply_peak) for names in (large, small)]
    text = f"80 MB model: the peak of the 10 MB model, {PEAK_APART >> 20} MiB more at most"
    if peaks[0] is None or peaks[1] is None:
        return Judged("apply", text, "not measured", None)
    worst = replace(peaks[0], value=peaks[0].value - peaks[1].value)
    return _judged("apply", text, worst, PEAK_APART, "{:+,.0f} bytes")


def _judged(against: str, bar: str, worst: Worst | None, limit: float, form: str) -> Judged:
    """A pair that misses decides at once; a pass needs all of them measured."""
    if worst is None:
        return Judged(against, bar, "not measured", None)
    text, whole = f"{form.format(worst.value)} ({worst.pair})", worst.measured == worst.pairs
    text += "" if whole else f", {worst.measured} of {worst.pairs} pairs measured"
    passed = worst.value <= limit
    return Judged(against, bar, text, passed if whole or not passed else None)
