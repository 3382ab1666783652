"""What inspect says of a patch is true: names, shares of changed weights, bytes; for files and for folders."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelpatch
from modelpatch import BaseMismatchError, DecoderFeatures, PatchLimitError, inspect_patch
from modelpatch.inspect.inspection import PatchReport
from modelpatch.inspect.tensors import changed_elements
from tests.model_files import safetensors, write_bundle

RANDOM = np.random.default_rng(3)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelpatch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def weights(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype("<f4")


def retrained(values: np.ndarray, share: float) -> np.ndarray:
    out = values.copy().reshape(-1)
    out[RANDOM.permutation(out.size)[: round(share * out.size)]] *= np.float32(1.01)
    return out.reshape(values.shape)


def add_up(report: PatchReport) -> float:
    assert report.rest is not None
    return sum(t.patch_bytes for t in report.tensors) + report.rest.patch_bytes + report.overhead_bytes


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A model of 12 tensors of which 2 change: `head` in all its weights, `neck` in a tenth."""
    old = {f"backbone.{i}": weights(40, 50) for i in range(10)} | {"head": weights(64, 128), "neck": weights(80, 100)}
    new = old | {"head": retrained(old["head"], 1), "neck": retrained(old["neck"], 0.1)}
    (tmp_path / "old").write_bytes(safetensors(old))
    (tmp_path / "new").write_bytes(safetensors(new))
    modelpatch.diff_file(tmp_path / "old", tmp_path / "new", tmp_path / "p", effort="fast")
    return tmp_path


def test_each_tensor_has_its_name_shape_and_share_of_changed_weights(pair: Path) -> None:
    report = inspect_patch(pair / "p", base=pair / "old")
    found = {t.name: t for t in report.tensors}
    assert len(found) == 12
    assert (found["head"].dtype, found["head"].shape) == ("float32", (64, 128))
    assert found["head"].changed_share == 1
    assert found["neck"].changed_share == pytest.approx(0.1)
    assert {found[f"backbone.{i}"].changed_share for i in range(10)} == {0}
    assert report.rest is not None
    assert report.rest.changed_share == 0


def test_bytes_go_to_the_tensors_that_cost_them_and_add_up_to_the_patch(pair: Path) -> None:
    report = inspect_patch(pair / "p", base=pair / "old")
    assert add_up(report) == pytest.approx(report.patch_bytes)
    found = {t.name: t.patch_bytes for t in report.tensors}
    assert found["head"] > 4 * found["neck"] > 0
    assert found["head"] + found["neck"] > 0.95 * report.patch_bytes
    assert report.patch_bytes == (pair / "p").stat().st_size


def test_the_table_lists_what_changes_and_counts_the_rest(pair: Path) -> None:
    shown = run("inspect", pair / "p", "--base", pair / "old").stdout
    assert "64x128" in shown
    assert "10.0 %" in shown
    assert "10 of 12 tensors unchanged" in shown
    assert "backbone.3" not in shown
    everything = run("inspect", pair / "p", "--base", pair / "old", "--all").stdout
    assert "backbone.3" in everything
    assert "frame 0: ops" in everything


def test_without_a_base_the_summary_stands_alone_and_says_how_to_see_more(pair: Path) -> None:
    shown = run("inspect", pair / "p").stdout
    assert "copy" in shown
    assert "--base" in shown
    assert "head" not in shown.replace("headers", "")
    assert inspect_patch((pair / "p").read_bytes()).tensors == []


def test_json_has_tensors_operations_and_what_a_decoder_needs(pair: Path) -> None:
    data: dict[str, Any] = json.loads(run("inspect", pair / "p", "--base", pair / "old", "--json").stdout)
    head = next(t for t in data["tensors"] if t["name"] == "head")
    assert head["shape"] == [64, 128]
    assert head["how"]
    assert head["coders"]
    assert data["header"]["memory_bytes"] > 0
    assert set(data["header"]["features"]) <= {str(f.name).lower() for f in DecoderFeatures if f}
    assert sum(op["length"] for frame in data["frames"] for op in frame["ops"]) == (pair / "new").stat().st_size


def test_a_new_tensor_and_a_moved_one_are_told_apart(tmp_path: Path) -> None:
    a, b, c = weights(900), weights(900), weights(900)
    (tmp_path / "old").write_bytes(safetensors({"a": a, "b": b}))
    (tmp_path / "new").write_bytes(safetensors({"b": b, "come": c, "a": a}))
    modelpatch.diff_file(tmp_path / "old", tmp_path / "new", tmp_path / "p")
    report = inspect_patch(tmp_path / "p", base=tmp_path / "old")
    share = {t.name: t.changed_share for t in report.tensors}
    assert share["a"] == share["b"] == 0
    assert share["come"] > 0.99
    assert add_up(report) == pytest.approx(report.patch_bytes)


def test_a_file_of_no_known_format_has_no_tensors_and_says_so(tmp_path: Path) -> None:
    old = RANDOM.bytes(5000)
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(old[:2500] + b"something" + old[2500:])
    modelpatch.diff_file(tmp_path / "old", tmp_path / "new", tmp_path / "p")
    done = run("inspect", tmp_path / "p", "--base", tmp_path / "old")
    assert (done.returncode, "no tensors" in done.stdout) == (0, True)


def test_a_wrong_base_is_refused_in_one_line_that_names_it(pair: Path) -> None:
    done = run("inspect", pair / "p", "--base", pair / "new")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert str(pair / "new") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_target_above_the_limit_is_refused_before_it_is_made(pair: Path) -> None:
    size = (pair / "new").stat().st_size
    with pytest.raises(PatchLimitError, match="allowed"):
        inspect_patch(pair / "p", base=pair / "old", max_target_bytes=size - 1)
    assert inspect_patch(pair / "p", base=pair / "old", max_target_bytes=size).tensors


def test_a_whole_file_patch_says_that_it_is_one_and_needs_no_base(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(modelpatch.diff_bytes(b"", b"a whole file " * 99))
    done = run("inspect", tmp_path / "p")
    assert done.returncode == 0
    assert "whole-file patch" in done.stdout
    assert "--base" not in done.stdout
    assert run("inspect", tmp_path / "p", "--base", tmp_path / "nowhere").returncode == 0


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder as of a SavedModel: a shard with its index, a file that stays, one that comes and one that moves."""
    old = {"a/kernel": weights(30, 40), "b/bias": weights(77)}
    new = old | {"a/kernel": retrained(old["a/kernel"], 0.25), "c/extra": weights(50)}
    for name, tensors in (("old", old), ("new", new)):
        write_bundle(tmp_path / name / "variables", tensors)
        (tmp_path / name / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "old" / "here.txt").write_bytes(b"moved" * 20)
    (tmp_path / "new" / "there.txt").write_bytes(b"moved" * 20)
    (tmp_path / "new" / "come.txt").write_text("new")
    modelpatch.diff_folder(tmp_path / "old", tmp_path / "new", tmp_path / "p")
    return tmp_path


@pytest.mark.slow
def test_a_folder_patch_names_its_files_and_the_tensors_in_them(folders: Path) -> None:
    report = inspect_patch(folders / "p", base=folders / "old")
    actions = {file.name: file.action for file in report.files}
    assert actions["labels.txt"] == "keep"
    assert actions["there.txt"] == "rename"
    assert actions["come.txt"] == "add"
    shard = next(f.report for f in report.files if f.name == "variables/variables.data-00000-of-00001")
    assert shard is not None
    share = {t.name: round(t.changed_share, 3) for t in shard.tensors}
    assert share == {"a/kernel": 0.25, "b/bias": 0, "c/extra": share["c/extra"]}  # the new index knows c/extra
    assert share["c/extra"] > 0.9
    assert add_up(shard) == pytest.approx(shard.patch_bytes)


@pytest.mark.slow
def test_a_folder_patch_as_text_names_files_with_a_base_and_counts_those_that_stay(folders: Path) -> None:
    shown = run("inspect", folders / "p", "--base", folders / "old").stdout
    assert "patch variables/variables.data-00000-of-00001" in shown
    assert "rename there.txt (from here.txt)" in shown
    assert "1 of 5 files unchanged" in shown
    assert "a/kernel" in shown
    without = run("inspect", folders / "p")
    assert (without.returncode, "base file" in without.stdout, "--base" in without.stdout) == (0, True, True)


@pytest.mark.slow
def test_a_single_shard_is_described_by_the_index_beside_it(folders: Path) -> None:
    old, new = (folders / n / "variables" / "variables.data-00000-of-00001" for n in ("old", "new"))
    same_layout = old.read_bytes()[:-4] + b"\0\0\0\1"
    new.write_bytes(same_layout)
    modelpatch.diff_file(old, new, folders / "q")
    assert [t.name for t in inspect_patch(folders / "q", base=old).tensors] == ["a/kernel", "b/bias"]


@pytest.mark.slow
def test_a_file_as_the_base_of_a_folder_patch_is_refused_in_one_line(folders: Path) -> None:
    done = run("inspect", folders / "p", "--base", folders / "old" / "labels.txt")
    assert (done.returncode, done.stderr.count("\n"), "Not a directory" in done.stderr) == (1, 1, True)


def test_a_folder_as_the_base_of_a_file_patch_is_refused_in_one_line(pair: Path) -> None:
    done = run("inspect", pair / "p", "--base", pair)
    assert (done.returncode, done.stderr.count("\n"), "Is a directory" in done.stderr) == (1, 1, True)


@pytest.mark.slow
def test_another_folder_as_base_is_refused(folders: Path) -> None:
    with pytest.raises(BaseMismatchError, match="new"):
        inspect_patch(folders / "p", base=folders / "new")


@given(st.binary(max_size=300), st.data(), st.sampled_from([1, 2, 4, 8]))
def test_changed_elements_are_counted_as_numpy_does(old: bytes, data: st.DataObject, width: int) -> None:
    new = data.draw(st.binary(min_size=len(old), max_size=len(old)) | st.just(old))
    whole = -(-len(old) // width) * width
    a, b = (np.frombuffer(x.ljust(whole, b"\0"), f"<u{width}") for x in (old, new))
    assert changed_elements(old, new, width) == int((a != b).sum())


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_shares_and_bytes_hold_for_any_pair(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    old = {f"t{i}": random.normal(size=random.integers(1, 700)).astype("<f4") for i in range(count)}
    new = {k: np.where(random.random(v.shape) < random.random(), v * np.float32(1.5), v) for k, v in old.items()}
    patch = modelpatch.diff_bytes(safetensors(old), safetensors(new), effort="fast")
    report = _with_base(patch, safetensors(old))
    if report.header.kind is modelpatch.PatchKind.FILE:
        assert add_up(report) == pytest.approx(report.patch_bytes)
        for t in report.tensors:
            assert t.changed_share == pytest.approx(np.mean(old[t.name] != new[t.name]))


def _with_base(patch: bytes, base: bytes) -> PatchReport:
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile() as file:
        file.write(base)
        file.flush()
        return inspect_patch(io.BytesIO(patch), base=file.name)


@pytest.mark.slow
def test_a_damaged_patch_is_an_error_of_ours_with_a_base_too(folders: Path, pair_of_files: tuple[Path, Path]) -> None:
    for patch, base in ((folders / "p", folders / "old"), pair_of_files):
        good, errors = patch.read_bytes(), []
        places = range(0, len(good), 1 + len(good) // 120)
        for at in places:
            patch.write_bytes(good[:at] + bytes((good[at] ^ 0x15,)) + good[at + 1 :])
            try:
                inspect_patch(patch, base=base)
            except modelpatch.PatchError as e:
                errors.append(str(e))
        assert len(errors) > 0.7 * len(places)
        assert all(str(patch) in error or str(base) in error for error in errors)


@pytest.fixture
def pair_of_files(tmp_path: Path) -> tuple[Path, Path]:
    old = safetensors({"a": weights(90), "b": weights(60)})
    (tmp_path / "x.old").write_bytes(old)
    (tmp_path / "x.p").write_bytes(modelpatch.diff_bytes(old, old[:-40] + bytes(40), effort="fast"))
    return tmp_path / "x.p", tmp_path / "x.old"
