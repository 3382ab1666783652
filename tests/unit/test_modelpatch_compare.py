"""Comparing with other tools: fair sums, checked results, and a picture; what is not installed is only named."""

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelpatch
from modelpatch.peers import HDiffPatch, Measurement, Peer, PeerError, all_peers, fastest_comparable, smallest
from modelpatch.peers.comparison import OURS, Comparison, Row, compare
from modelpatch.peers.comparison_chart import ChartError, check_chart, draw_chart
from modelpatch.peers.comparison_text import ProgressLine, lines
from modelpatch.peers.packages import CompressedWhole

OLD = bytes(range(256)) * 40
NEW = OLD[:5000] + b"new words" + OLD[5000:]
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def run(*arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelpatch", *map(str, arguments)]
    environment = os.environ | ({"PYTHONPATH": f"{path}{os.pathsep}{Path.cwd()}"} if path else {})
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


class StoredPeer(Peer):
    """A peer whose patch is the target itself."""

    name = "stored"
    all_settings = ("plain", "padded")

    def version(self) -> str | None:
        return "1"

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        return new + b"!" * (10 if setting == "padded" else 0)

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        return patch.rstrip(b"!")


class AbsentPeer(StoredPeer):
    name = "absent"

    def version(self) -> str | None:
        return None


class BrokenPeer(StoredPeer):
    name = "broken"

    def _diff(self, old: bytes, new: bytes, setting: str) -> bytes:
        raise RuntimeError("out of paper")


class WrongPeer(StoredPeer):
    name = "wrong"

    def _apply(self, old: bytes, patch: bytes) -> bytes:
        return old


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / "new").write_bytes(NEW)
    return tmp_path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    contents = {
        "old": {"same": b"same" * 99, "moved": b"moved" * 99, "changed": OLD},
        "new": {"same": b"same" * 99, "sub/moved": b"moved" * 99, "changed": NEW, "come": b"come" * 9, "empty": b""},
    }
    for name, files in contents.items():
        for file, data in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(data)
    return tmp_path


def row(tool: str, setting: str, size: int, cpu_s: float, *, exact: bool = True) -> Row:
    return Row(tool, "1", setting, size, cpu_s, 0.01, exact, "in process")


def installed() -> Iterator[Peer]:
    return (peer for peer in all_peers() if peer.available())


def test_the_command_measures_every_tool_and_all_results_are_exact(pair: Path) -> None:
    done = run("compare", pair / "old", pair / "new", "--json")
    data = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert [r["setting"] for r in data["rows"][:2]] == ["best", "fast"]
    assert {r["tool"] for r in data["rows"]} == {OURS} | {peer.name for peer in installed()}
    assert all(r["exact"] for r in data["rows"])
    assert data["missing"] == [peer.name for peer in all_peers() if not peer.available()]
    assert min(r["ratio"] for r in data["rows"] if r["tool"] == OURS) == 1


def test_the_table_has_ours_first_and_then_each_tool_once_by_size(pair: Path) -> None:
    shown = run("compare", pair / "old", pair / "new", "--effort", "fast").stdout.splitlines()
    tools = 1 + len(list(installed()))
    rule, *body = shown[3 : 4 + tools]
    end = len("  ".join(rule.split("  ")[:3]))  # of the third column, whose numbers stand at its right
    assert body[0].startswith("modelpatch")
    sizes = [int(line[:end].split()[-1].replace(",", "")) for line in body]
    assert sizes[1:] == sorted(sizes[1:])
    assert len({line.split("  ")[0] for line in body}) == tools


def test_our_row_is_the_size_of_the_patch_that_diff_writes(pair: Path) -> None:
    found = compare(pair / "old", pair / "new", effort="fast", peers=[])
    assert [r.patch_bytes for r in found.rows] == [len(modelpatch.diff_bytes(OLD, NEW, effort="fast"))]
    assert found.rows[0].exact


def test_in_a_folder_only_changed_and_new_files_cost_a_peer(folders: Path) -> None:
    found = compare(folders / "old", folders / "new", peers=[StoredPeer()])
    stored = {r.setting: r.patch_bytes for r in found.rows if r.tool == "stored"}
    assert stored == {"plain": len(NEW) + 36, "padded": len(NEW) + 36 + 20}
    assert found.files == 2
    assert all(r.exact for r in found.rows)
    assert found.new_bytes == 99 * 9 + len(NEW) + 36


@pytest.mark.slow
def test_equal_folders_are_compared_too(folders: Path) -> None:
    found = compare(folders / "old", folders / "old", peers=[StoredPeer()])
    assert found.smallest("stored").patch_bytes == 0
    draw_chart(found, folders / "c.png")
    assert (folders / "c.png").read_bytes().startswith(PNG_MAGIC)


def test_a_peer_that_is_not_installed_is_named_and_nothing_else(pair: Path) -> None:
    found = compare(pair / "old", pair / "new", effort="fast", peers=[AbsentPeer(), StoredPeer()])
    assert found.missing == ["absent"]
    assert found.tools() == ["stored"]
    assert lines(found)[-1] == "not installed: absent"


def test_a_peer_that_fails_is_named_and_the_others_are_measured(pair: Path) -> None:
    found = compare(pair / "old", pair / "new", effort="fast", peers=[BrokenPeer(), StoredPeer()])
    assert found.failed == {"broken": "broken: out of paper"}
    assert found.tools() == ["stored"]
    assert "failed: broken: out of paper" in lines(found)


def test_a_wrong_result_is_shown_as_wrong(pair: Path) -> None:
    found = compare(pair / "old", pair / "new", effort="fast", peers=[WrongPeer()])
    assert not found.smallest("wrong").exact
    assert next(line for line in lines(found) if line.startswith("wrong")).split()[-2] == "NO"


def test_fast_leaves_out_the_slow_settings_of_peers(pair: Path) -> None:
    class Slow(StoredPeer):
        slow_settings = frozenset({"padded"})

    found = compare(pair / "old", pair / "new", effort="fast", peers=[Slow()])
    assert [r.setting for r in found.rows] == ["fast", "plain"]


def test_fastest_comparable_is_the_least_cpu_within_five_percent_of_the_smallest() -> None:
    rows = [
        row("x", "slow", 1000, 9),
        row("x", "good", 1050, 2),
        row("x", "quick", 1051, 1),
        row("x", "tie", 1000, 10),
    ]
    found = Comparison("a", "b", 1, 1, 1, rows)
    assert found.smallest("x").setting == "slow"
    assert found.fastest_comparable("x").setting == "good"
    measured = [Measurement(r.setting, bytes(r.patch_bytes), r.diff_cpu_s) for r in rows]
    assert smallest(measured).setting == "slow"
    assert fastest_comparable(measured).setting == "good"


@pytest.mark.parametrize("peer", all_peers(), ids=lambda peer: peer.name)
@pytest.mark.parametrize("old", [OLD, b""], ids=["base", "empty base"])
def test_each_installed_peer_is_exact_at_every_setting(peer: Peer, old: bytes) -> None:
    if not peer.available():
        pytest.skip(f"{peer.name} is not installed")
    found = list(peer.measure(old, NEW))
    assert [t.setting for t in found] == list(peer.usable_settings())
    assert {peer.apply(old, t.patch) for t in found} == {NEW}
    assert all(t.diff_cpu_s >= 0 for t in found)
    assert len(peer.diff(old, NEW)) == len(smallest(found).patch)


def test_a_peer_turns_damage_into_its_own_error() -> None:
    with pytest.raises(PeerError, match="compressed whole file"):
        CompressedWhole().apply(OLD, b"\xfd7zXZ\0 damaged")


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="xz-9e"):
        CompressedWhole(["xz-10"])


def test_hdiffpatch_compressed_again_is_what_its_diff_gives() -> None:
    if not HDiffPatch().available():
        pytest.skip("hdiffpatch is not installed")
    package = importlib.import_module("hdiffpatch")
    (one,) = HDiffPatch(["lzma2-9"]).measure(OLD, NEW)
    assert one.patch == package.diff(OLD, NEW, package.Lzma2Config(level=9, window=25))


@pytest.mark.slow
def test_charts_show_every_tool(pair: Path) -> None:
    rows = [row(OURS, "best", 600, 3), row("other tool", "9", 900, 0.05), row("huge", "1", 9_000_000, 1, exact=False)]
    found = Comparison("a/old.bin", "b/new.bin", 10, 20, 1, rows)
    draw_chart(found, pair / "c.svg")
    draw_chart(found, pair / "c.png")
    svg = (pair / "c.svg").read_text()
    for words in (
        "modelpatch",
        "other tool",
        "huge",
        "900 (1.50x)",
        "9,000,000 (15,000x), bar cut",
        "new.bin, 20 bytes",
    ):
        assert words in svg
    assert (pair / "c.png").read_bytes().startswith(PNG_MAGIC)
    before = (pair / "c.svg").read_bytes()
    draw_chart(found, pair / "c.svg")
    assert (pair / "c.svg").read_bytes() == before


@pytest.mark.slow
def test_the_command_draws_a_chart(pair: Path) -> None:
    done = run("compare", pair / "old", pair / "new", "--effort", "fast", "--chart", pair / "c.svg")
    assert done.returncode == 0
    assert "modelpatch" in (pair / "c.svg").read_text()


def test_a_chart_of_another_format_or_in_no_folder_is_refused(pair: Path) -> None:
    with pytest.raises(ChartError, match=r"\.png"):
        check_chart(pair / "c.gif")
    with pytest.raises(FileNotFoundError):
        check_chart(pair / "none" / "c.png")


def test_a_missing_matplotlib_is_one_line(pair: Path) -> None:
    blocked = pair / "blocked" / "matplotlib"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('blocked')\n")
    done = run("compare", pair / "old", pair / "new", "--chart", pair / "c.png", path=blocked.parent)
    # Nothing on stdout: it failed before it measured.
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "matplotlib" in done.stderr
    assert "numpy" not in done.stderr


@pytest.mark.slow
def test_a_missing_file_and_a_mix_of_kinds_are_one_line(folders: Path) -> None:
    for old, new, words in (
        ("none", "new", "No such file"),
        ("old", "new/come", "folder"),
        ("new/come", "new", "folder"),
    ):
        done = run("compare", folders / old, folders / new)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert words in done.stderr


def test_progress_is_shown_on_a_terminal_alone_and_is_gone_at_the_end() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        with ProgressLine(stream) as progress:
            progress(1, 4, "HDiffPatch lzma-9")
    assert "1 of 4: HDiffPatch lzma-9" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert file.getvalue() == ""


def test_progress_counts_every_step(folders: Path) -> None:
    seen: list[tuple[int, int]] = []
    compare(
        folders / "old",
        folders / "new",
        peers=[StoredPeer()],
        progress=lambda done, steps, _: seen.append((done, steps)),
    )
    assert seen == [(i, 6) for i in range(6)]
