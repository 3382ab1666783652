"""Files, folders and the command line: exit codes, one clear line that names the file, nothing half-written."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import modelpatch
from modelpatch import FolderError, PatchFormatError, PatchKind, cli
from modelpatch.apply.tree import check_name, scan, tree_sha256
from modelpatch.format import varint
from modelpatch.format.header import PatchHeader

OLD, NEW = bytes(range(256)) * 20, bytes(range(256)) * 10 + b"new words" + bytes(range(256)) * 10


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelpatch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / "new").write_bytes(NEW)
    modelpatch.diff_file(tmp_path / "old", tmp_path / "new", tmp_path / "p")
    return tmp_path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name, files in {
        "old": {"keep.bin": OLD, "change.bin": OLD[:999], "sub/gone.txt": b"gone", "moved.txt": b"moved" * 50},
        "new": {
            "keep.bin": OLD,
            "change.bin": OLD[:998] + b"!",
            "sub/come.txt": b"come",
            "to/here.txt": b"moved" * 50,
        },
    }.items():
        for file, data in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return tmp_path


def fails_in_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.name.endswith(".part")]


@pytest.mark.slow
def test_diff_apply_inspect_on_files(pair: Path) -> None:
    assert run("diff", pair / "old", pair / "new", pair / "q").returncode == 0
    assert run("apply", pair / "old", pair / "q", pair / "out").returncode == 0
    assert (pair / "out").read_bytes() == NEW
    shown = run("inspect", pair / "q")
    assert (shown.returncode, "file patch" in shown.stdout, "copy" in shown.stdout) == (0, True, True)
    assert "literal" in run("inspect", pair / "q", "--all").stdout
    data = json.loads(run("inspect", pair / "q", "--json").stdout)
    assert data["header"]["kind"] == "file"
    assert data["header"]["target_length"] == len(NEW)


@pytest.mark.slow
def test_diff_apply_inspect_on_folders(folders: Path) -> None:
    assert run("diff", folders / "old", folders / "new", folders / "q").returncode == 0
    assert run("apply", folders / "old", folders / "q", folders / "out").returncode == 0
    assert scan(folders / "out") == scan(folders / "new")
    data = json.loads(run("inspect", folders / "q", "--json").stdout)
    assert sorted(f["action"] for f in data["files"]) == ["add", "keep", "patch", "rename"]
    assert run("inspect", folders / "q").returncode == 0
    assert leftovers(folders) == []


def test_an_unchanged_file_in_a_folder_costs_two_bytes(folders: Path) -> None:
    before = modelpatch.diff_folder(folders / "old", folders / "new", folders / "q").body_length
    data = os.urandom(5000)
    for name in ("old", "new"):
        (folders / name / "also.bin").write_bytes(data)
    after = modelpatch.diff_folder(folders / "old", folders / "new", folders / "q").body_length
    assert after - before == 2


def test_diff_and_apply_tell_what_they_made_as_json(pair: Path) -> None:
    made = json.loads(run("diff", pair / "old", pair / "new", pair / "q", "--json").stdout)
    assert (made["kind"], made["target_bytes"], made["patch_bytes"]) == (
        "file",
        len(NEW),
        (pair / "q").stat().st_size,
    )
    applied = json.loads(run("apply", pair / "old", pair / "q", pair / "out", "--json").stdout)
    assert applied["target_sha256"] == made["target_sha256"] == hashlib.sha256(NEW).hexdigest()
    assert applied["target"] == str(pair / "out")


@pytest.mark.slow
def test_a_patch_needs_no_feature_that_the_device_does_not_have(pair: Path) -> None:
    (pair / "text").write_bytes(b"words that compress well " * 400)
    for features in ("none", "lzma", "deflate,nibble", "default"):
        done = run("diff", pair / "old", pair / "text", pair / "q", "--features", features, "--json")
        names = {"none": set(), "default": {"lzma", "grid", "sorted", "rescale", "nibble", "deflate"}}
        assert set(json.loads(done.stdout)["features"]) <= names.get(features, set(features.split(",")))
        assert run("apply", pair / "old", pair / "q", pair / "out").returncode == 0
        assert (pair / "out").read_bytes() == (pair / "text").read_bytes()


def test_an_unknown_feature_is_wrong_usage_and_the_known_ones_are_named(pair: Path) -> None:
    done = run("diff", pair / "old", pair / "new", pair / "q", "--features", "lzma,warp")
    assert done.returncode == 2
    assert "warp" in done.stderr
    assert "rescale" in done.stderr
    assert not (pair / "q").exists()


def test_a_whole_file_patch_is_applied_without_a_base(pair: Path) -> None:
    (pair / "none").write_bytes(b"")
    assert "whole-file patch" in run("diff", pair / "none", pair / "new", pair / "q").stdout
    assert run("apply", "-", pair / "q", pair / "out").returncode == 0
    assert (pair / "out").read_bytes() == NEW
    fails_in_one_line(run("apply", "-", pair / "p", pair / "other"), "base")


def test_a_reader_that_leaves_early_gets_no_traceback(pair: Path) -> None:
    command = [sys.executable, "-m", "modelpatch", "inspect", str(pair / "p"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_every_argument_of_every_command_says_what_it_is() -> None:
    commands = next(a for a in cli._parser()._actions if isinstance(a.choices, dict))
    assert isinstance(commands.choices, dict)
    assert list(commands.choices) == ["diff", "apply", "inspect", "compare"]
    for name, command in commands.choices.items():
        assert command.description
        assert all(action.help for action in command._actions)
        assert run(name, "--help").returncode == 0


def test_apply_loads_no_more_than_the_standard_library(pair: Path) -> None:
    code = f"""
import sys
from modelpatch.cli import main
main(["apply", {str(pair / "old")!r}, {str(pair / "p")!r}, {str(pair / "out")!r}])
main(["inspect", {str(pair / "p")!r}])
foreign = {{"numpy", "matplotlib", "hdiffpatch", "zstandard", "detools", "bsdiff4"}} & set(sys.modules)
sys.exit(f"loaded {{foreign}}" if foreign else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_usage_is_exit_code_2(pair: Path) -> None:
    for arguments in (
        [],
        ["apply", pair / "old"],
        ["melt"],
        ["diff", "a", "b", "c", "--effort", "hard"],
        ["apply", "a", "b", "c", "--max-target-mib", "-1"],
    ):
        assert run(*arguments).returncode == 2


@pytest.mark.slow
def test_missing_files_are_named(pair: Path) -> None:
    fails_in_one_line(run("apply", pair / "none", pair / "p", pair / "out"), "none", "No such file")
    fails_in_one_line(run("apply", pair / "old", pair / "none", pair / "out"), "none", "No such file")
    fails_in_one_line(run("inspect", pair / "none"), "none", "No such file")
    fails_in_one_line(run("diff", pair / "old", pair / "none", pair / "q"), "none", "No such file")
    fails_in_one_line(run("diff", pair, pair / "none", pair / "q"), "none", "No such file")
    fails_in_one_line(run("inspect", pair / "p", "--base", pair / "none"), "none", "No such file")
    assert leftovers(pair) == []


def test_damage_and_wrong_base_are_named_and_leave_the_target_alone(pair: Path) -> None:
    (pair / "out").write_bytes(b"as it was")
    (pair / "cut").write_bytes((pair / "p").read_bytes()[:-3])
    fails_in_one_line(run("apply", pair / "old", pair / "cut", pair / "out"), "cut")
    fails_in_one_line(run("apply", pair / "new", pair / "p", pair / "out"), str(pair / "new"), "base")
    (pair / "text").write_bytes(b"no patch at all, but long enough to be read")
    fails_in_one_line(run("apply", pair / "old", pair / "text", pair / "out"), "text", "not a patch")
    fails_in_one_line(run("inspect", pair / "text"), "text", "not a patch")
    assert (pair / "out").read_bytes() == b"as it was"
    assert leftovers(pair) == []


@pytest.mark.slow
def test_the_same_path_in_and_out_is_refused(pair: Path) -> None:
    (pair / "link").symlink_to(pair / "old")
    (pair / "hard").hardlink_to(pair / "old")
    for out in ("old", "p", "link", "hard"):
        fails_in_one_line(run("apply", pair / "old", pair / "p", pair / out), out, "input")
    fails_in_one_line(run("diff", pair / "old", pair / "new", pair / "new"), "new", "input")
    assert (pair / "old").read_bytes() == OLD


def test_limits_on_the_command_line_are_kept(pair: Path) -> None:
    fails_in_one_line(run("apply", pair / "old", pair / "p", pair / "out", "--max-target-mib", 0), "p", "allowed")
    fails_in_one_line(run("apply", pair / "old", pair / "p", pair / "out", "--max-memory-mib", 0), "p", "memory")
    assert not (pair / "out").exists()


def test_a_file_and_a_folder_do_not_mix(folders: Path) -> None:
    file = folders / "old" / "keep.bin"
    fails_in_one_line(run("diff", folders / "old", file, folders / "q"), "folder")
    modelpatch.diff_folder(folders / "old", folders / "new", folders / "q")
    fails_in_one_line(run("apply", file, folders / "q", folders / "out"), "keep.bin", "Not a directory")
    modelpatch.diff_file(file, folders / "new" / "change.bin", folders / "f")
    fails_in_one_line(run("apply", folders / "old", folders / "f", folders / "out"), "old", "directory")


def test_the_mode_of_a_replaced_file_stays(pair: Path) -> None:
    (pair / "out").write_bytes(b"x")
    (pair / "out").chmod(0o640)
    modelpatch.apply_file(pair / "old", pair / "p", pair / "out")
    assert (pair / "out").stat().st_mode & 0o777 == 0o640


def test_a_folder_patch_needs_exactly_its_base_and_a_free_target(folders: Path) -> None:
    modelpatch.diff_folder(folders / "old", folders / "new", folders / "q")
    with pytest.raises(FolderError, match="exists"):
        modelpatch.apply_folder(folders / "old", folders / "q", folders / "new")
    (folders / "old" / "extra").write_bytes(b"x")
    with pytest.raises(modelpatch.BaseMismatchError, match="old"):
        modelpatch.apply_folder(folders / "old", folders / "q", folders / "out")
    assert not (folders / "out").exists()
    assert leftovers(folders) == []


def test_a_folder_with_a_link_is_refused(folders: Path) -> None:
    (folders / "new" / "link").symlink_to("/etc/hostname")
    with pytest.raises(FolderError, match="link"):
        modelpatch.diff_folder(folders / "old", folders / "new", folders / "q")
    assert not (folders / "q").exists()


@pytest.mark.parametrize(
    "name", ["", "/etc/x", "../x", "a/../b", "a//b", "./a", "a/", "a\\b", "a\nb", "a\0", "x" * 300]
)
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(PatchFormatError):
        check_name(name.encode())


def test_a_folder_patch_cannot_write_outside_its_target(folders: Path) -> None:
    files = scan(folders / "old")
    name = b"../evil"
    body = varint.encode(1) + b"\x01" + varint.encode(0) + varint.encode(len(name)) + name
    header = PatchHeader(
        kind=PatchKind.FOLDER,
        features=modelpatch.DecoderFeatures.NONE,
        memory_bytes=0,
        base_sha256=tree_sha256(files),
        base_length=sum(f.length for f in files),
        target_sha256="0" * 64,
        target_length=1 << 20,
        body_length=len(body),
    )
    (folders / "q").write_bytes(header.encode() + body)
    with pytest.raises(PatchFormatError, match="unsafe"):
        modelpatch.apply_folder(folders / "old", folders / "q", folders / "out")
    assert not (folders / "evil").exists()
    assert leftovers(folders) == []


@pytest.mark.slow
def test_a_damaged_folder_patch_never_makes_a_folder(folders: Path) -> None:
    modelpatch.diff_folder(folders / "old", folders / "new", folders / "q")
    patch = (folders / "q").read_bytes()
    for at in range(len(patch)):
        (folders / "bad").write_bytes(patch[:at] + bytes((patch[at] ^ 0x21,)) + patch[at + 1 :])
        try:
            modelpatch.apply_folder(folders / "old", folders / "bad", folders / "out")
        except modelpatch.PatchError:
            assert not (folders / "out").exists()
        else:  # a changed length of memory, for one, makes no difference to the result
            assert scan(folders / "out") == scan(folders / "new")
            for path in sorted((folders / "out").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (folders / "out").rmdir()
    assert leftovers(folders) == []


@pytest.mark.parametrize("name", ["old/p", "new/p", "old/sub/p"])
def test_a_patch_inside_of_its_own_folders_is_refused(folders: Path, name: str) -> None:
    before = scan(folders / "old"), scan(folders / "new")
    fails_in_one_line(run("diff", folders / "old", folders / "new", folders / name), name, "inside of the folder")
    assert (scan(folders / "old"), scan(folders / "new")) == before
    assert leftovers(folders) == []


def test_names_in_a_patch_cannot_control_the_terminal(tmp_path: Path) -> None:
    def model(name: str, data: bytes) -> bytes:
        entry = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
        text = json.dumps({name: entry}, ensure_ascii=False).encode()
        return len(text).to_bytes(8, "little") + text + data

    name = "w\x1b]0owned\x07\x9b2J\u202e\r" + "end"
    for folder, data in (("old", OLD), ("new", OLD[::-1])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a\x9b31m\u202e").write_bytes(model(name, data))
    modelpatch.diff_folder(tmp_path / "old", tmp_path / "new", tmp_path / "p")
    for arguments in (("--base", tmp_path / "old", "--all"), ("--base", tmp_path / "old"), ()):
        shown = run("inspect", tmp_path / "p", *arguments)
        assert shown.returncode == 0
        assert all(c.isprintable() or c == "\n" for c in shown.stdout)
        if arguments:
            assert "a\\x9b31m\\u202e" in shown.stdout
            assert "w\\x1b]0owned\\x07\\x9b2J\\u202e\\rend" in shown.stdout
