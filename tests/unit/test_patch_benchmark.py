"""The patch benchmark judges and reports what was measured, whatever it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.patches.bars import Facts, judge
from benchmarks.patches.chart import draw
from benchmarks.patches.measure import MeasureError
from benchmarks.patches.page import write_page
from benchmarks.patches.records import Made
from benchmarks.patches.results import BEST, FAST, Results, load_results
from benchmarks.patches.running import Job, run_jobs
from benchmarks.patches.shares import changed_share


def made(name: str, new_bytes: int = 10_358_588, **more: Any) -> Made:
    record = {
        "what": "a change",
        "random": "",
        "new_bytes": new_bytes,
        "old_sha256": "a" * 64,
        "new_sha256": "b" * 64,
        "trained_changed": 0.984,
        "all_changed": 0.1382,
        "accuracy": [0.787, 0.94],
        **more,
    }
    return Made(name, Path("old"), Path("new"), "", record)


def results(tmp_path: Path, measured: dict[str, dict[str, dict[str, Any]]]) -> Results:
    machine = {"processor": "p", "cores": 2, "memory_gib": 8, "system": "s", "python": "3.11.0"}
    return Results(tmp_path / "results.json", machine, {"modelpatch": "code"}, measured)


def facts(tmp_path: Path, sizes: dict[str, dict[str, int]], **more: Any) -> Facts:
    measured = {pair: {tool: {"bytes": size} for tool, size in tools.items()} for pair, tools in sizes.items()}
    return Facts(results(tmp_path, measured), {name: made(name, **more) for name in sizes})


def bar(found: Facts, beginning: str) -> Any:
    return next(item for item in judge(found) if item.bar.startswith(beginning))


def test_a_bar_over_several_pairs_is_judged_by_its_worst(tmp_path: Path) -> None:
    sizes = {
        "all-layers-1e-5.float32": {BEST: 60, "HDiffPatch": 100},
        "last-30-layers.float32": {BEST: 73, "HDiffPatch": 100},
    }
    judged = bar(facts(tmp_path, sizes), "float32, fine-tuned")
    assert judged.passed is False
    assert judged.measured == "0.730 (last-30-layers.float32)"


@pytest.mark.parametrize(("measured", "passed"), [(60, None), (80, False)])
def test_a_bar_with_an_unmeasured_pair_may_be_missed_but_not_passed(
    tmp_path: Path, measured: int, passed: bool | None
) -> None:
    sizes = {
        "all-layers-1e-5.float32": {BEST: measured, "HDiffPatch": 100},
        "last-30-layers.float32": {BEST: 60},
    }
    judged = bar(facts(tmp_path, sizes), "float32, fine-tuned")
    assert judged.passed is passed
    assert judged.measured.endswith("1 of 2 pairs measured")


@pytest.mark.parametrize(("ours", "theirs", "passed"), [(1300, 1250, True), (1350, 1250, False), (5050, 5000, False)])
def test_only_a_small_patch_may_be_larger_and_only_by_its_digests(
    tmp_path: Path, ours: int, theirs: int, passed: bool
) -> None:
    found = facts(tmp_path, {"only-dense.float32": {BEST: ours, "HDiffPatch": theirs}})
    assert bar(found, "every pair").passed is passed


def test_the_pair_for_memory_is_not_judged_by_size(tmp_path: Path) -> None:
    found = facts(tmp_path, {"x.safetensors": {BEST: 9, "HDiffPatch": 8}}, memory_only=True)
    assert bar(found, "every pair").passed is None


def test_fast_is_judged_on_every_pair_by_time_and_size(tmp_path: Path) -> None:
    measured: dict[str, dict[str, dict[str, Any]]] = {
        "a.float32": {
            BEST: {"bytes": 100},
            FAST: {"bytes": 106, "diff_cpu_s": 0.5},
            "HDiffPatch": {"bytes": 120, "fast_cpu_s": 1.0},
        }
    }
    found = Facts(results(tmp_path, measured), {"a.float32": made("a.float32")})
    assert bar(found, "`fast`, whole models: at most the CPU").measured == "0.50 of it (a.float32)"
    assert bar(found, "`fast`: at most 1.05").passed is False


def test_memory_of_the_large_model_is_compared_with_that_of_the_small_one(tmp_path: Path) -> None:
    measured = {
        name: {BEST: {"apply_peak_bytes": peak}} for name, peak in (("a.float32", 30 << 20), ("b.x", 39 << 20))
    }
    pairs = {"a.float32": made("a.float32"), "b.x": made("b.x", 80_000_000)}
    judged = bar(Facts(results(tmp_path, measured), pairs), "80 MB model")
    assert judged.passed is False
    assert judged.measured == f"+{9 << 20:,} bytes (b.x)"


def test_the_page_names_what_we_lose_and_what_failed(tmp_path: Path) -> None:
    found = facts(tmp_path, {"head-retrain.float32": {BEST: 200_000, "bsdiff4": 190_000, FAST: 210_000}})
    found.results.measured["head-retrain.float32"]["detools"] = {"failed": "out of memory"}
    write_page(found.results, found.pairs, tmp_path / "page.md")
    losses = (tmp_path / "page.md").read_text().split("## Where we lose")[1].split("\n## ")[0]
    assert "head-retrain.float32: bsdiff4 190,000, ours 200,000 (+10,000 bytes)" in losses
    assert "head-retrain.float32, detools: out of memory" in losses


def test_every_table_of_the_page_has_as_many_cells_as_heads(tmp_path: Path) -> None:
    found = facts(tmp_path, {"head-retrain.float32": {BEST: 2, "HDiffPatch": 3}, "pooled-retrain.float32": {BEST: 1}})
    write_page(found.results, found.pairs, tmp_path / "page.md")
    blocks = (tmp_path / "page.md").read_text().split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    assert len(tables) >= 5
    for rows in tables:
        assert rows[1].startswith("|---|")
        assert len({row.count("|") for row in rows}) == 1


def test_the_page_states_every_version_that_was_measured(tmp_path: Path) -> None:
    found = facts(tmp_path, {"a.float32": {BEST: 1}, "b.float32": {FAST: 2, "bsdiff4": 3}})
    versions = (("a.float32", BEST, "c1"), ("b.float32", FAST, "c2"), ("b.float32", "bsdiff4", "v"))
    for pair, tool, version in versions:
        found.results.measured[pair][tool]["version"] = version
    write_page(found.results, found.pairs, tmp_path / "page.md")
    rows = (tmp_path / "page.md").read_text().splitlines()
    assert {"| modelpatch | c1, c2 |", "| bsdiff4 | v |"} <= set(rows)


def test_the_chart_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    found = facts(tmp_path, {"head-retrain.float32": {BEST: 2, "HDiffPatch": 3, "bsdiff4": 4}})
    for name in ("one.svg", "two.svg"):
        draw(found.results, found.pairs, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert b"<svg" in (tmp_path / "one.svg").read_bytes()


def test_what_was_measured_with_the_same_key_is_not_measured_again(tmp_path: Path) -> None:
    runs: list[str] = []

    def job(key: str) -> Job:
        return Job(made("a.float32"), BEST, key, lambda: runs.append(key) or {"bytes": 1})  # type: ignore[func-returns-value]

    kept = results(tmp_path, {})
    for key in ("one", "one", "two"):
        assert run_jobs([job(key)], kept, lambda done, total, what: None) == []
    assert runs == ["one", "two"]
    run_jobs([job("two")], kept, lambda done, total, what: None, again=True)
    assert runs == ["one", "two", "two"]
    assert load_results(tmp_path / "results.json").kept("a.float32", BEST, job("two").key)


def test_a_tool_that_fails_is_on_record_and_does_not_end_the_run(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise MeasureError("gave another file")

    todo = [Job(made("a"), "bad", "k", fail), Job(made("a"), BEST, "k", lambda: {"bytes": 1})]
    found = results(tmp_path, {})
    assert run_jobs(todo, found, lambda done, total, what: None) == ["a: bad: gave another file"]
    assert found.measured["a"]["bad"] == {"failed": "gave another file"}
    assert found.measured["a"][BEST]["bytes"] == 1


def test_two_runs_at_once_keep_what_both_measured(tmp_path: Path) -> None:
    first, second = results(tmp_path, {}), results(tmp_path, {})
    first.put("a", BEST, {"bytes": 1})
    second.put("a", FAST, {"bytes": 2})
    assert load_results(tmp_path / "results.json").measured == {"a": {BEST: {"bytes": 1}, FAST: {"bytes": 2}}}


def test_changed_shares_count_bits_and_new_shapes() -> None:
    old = {"a": [np.array([0.0, 1.0, 2.0, 3.0], np.float32)], "b": [np.zeros(4, np.float32)]}
    new = {"a": [np.array([-0.0, 1.0, 2.0, 4.0], np.float32)], "b": [np.zeros(8, np.float32)]}
    assert changed_share(old, new, ["a"]) == 0.5
    assert changed_share(old, new, ["b"]) == 1.0
    assert changed_share(old, new, ["a", "b"]) == 10 / 12
    assert changed_share(old, new, []) == 0.0
