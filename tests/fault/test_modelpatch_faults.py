"""Bad input, disk full, files that vanish, kill -9: one clear error that names the file, and nothing half-written."""

import errno
import io
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import modelpatch
from modelpatch import cli

MIB = 1 << 20


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    rng = random.Random(7)
    old = rng.randbytes(3 * MIB)
    new = old[:MIB] + rng.randbytes(500) + old[MIB:]
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    modelpatch.diff_file(tmp_path / "old", tmp_path / "new", tmp_path / "p", effort="fast")
    return tmp_path


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".part")]


# A limit on file sizes stops the write as a full disk does; SIGXFSZ ignored makes it an error instead of a signal.
_SMALL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from modelpatch.cli import main
sys.exit(main(sys.argv[1:]))
"""


def one_line(done: "subprocess.CompletedProcess[str]", culprit: str) -> None:
    """The command failed with one line, and the line names the file at fault."""
    assert done.returncode == 1, done
    assert done.stderr.startswith("modelpatch: ")
    assert done.stderr.count("\n") == 1
    assert f"{culprit}: " in done.stderr


@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_the_target_as_it_was(pair: Path, existing: bool) -> None:
    if existing:
        (pair / "out").write_bytes(b"as it was")
    command = [sys.executable, "-c", _SMALL_DISK, "apply", pair / "old", pair / "p", pair / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    one_line(done, str(pair / "out"))
    assert "too large" in done.stderr
    assert (pair / "out").exists() == existing
    assert not existing or (pair / "out").read_bytes() == b"as it was"
    assert leftovers(pair) == []


def test_a_device_that_is_full_gives_an_os_error(pair: Path) -> None:
    with (
        (pair / "old").open("rb") as base,
        (pair / "p").open("rb") as patch,
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OSError, match="No space") as caught,
    ):
        modelpatch.apply_stream(base, patch, full)
    assert caught.value.errno == errno.ENOSPC


def test_a_folder_that_does_not_exist_is_an_os_error(pair: Path) -> None:
    with pytest.raises(FileNotFoundError):
        modelpatch.apply_file(pair / "old", pair / "p", pair / "none" / "out")


class _Vanishing(io.BytesIO):
    """A base that becomes shorter once its digest has been taken."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._ends = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data:
            self._ends += 1
        return data if self._ends == 0 else b""


def test_a_base_that_shrinks_during_the_work_is_an_error(pair: Path) -> None:
    base = _Vanishing((pair / "old").read_bytes())
    with pytest.raises(modelpatch.BaseMismatchError, match="shorter"):
        modelpatch.apply_stream(base, io.BytesIO((pair / "p").read_bytes()), io.BytesIO())


def test_a_base_that_changes_during_the_work_is_caught_by_the_target_digest(pair: Path) -> None:
    class Changing(_Vanishing):
        def read(self, size: int | None = -1) -> bytes:
            data = io.BytesIO.read(self, size)
            self._ends += not data
            return data if self._ends == 0 else bytes(len(data))

    with pytest.raises(modelpatch.TargetMismatchError):
        modelpatch.apply_stream(
            Changing((pair / "old").read_bytes()), io.BytesIO((pair / "p").read_bytes()), io.BytesIO()
        )


# Stops itself, as a power cut would, after a given number of bytes has reached the temporary.
_KILLED = """
import os, signal, sys
from modelpatch.apply import stream as applying
from modelpatch.apply import files
limit, name = int(sys.argv[4]), sys.argv[5]
write = applying._Target.write
def counted(self, data):
    write(self, data)
    counted.done += len(data)
    if name == "write" and counted.done >= limit:
        self._stream.flush(); os.kill(os.getpid(), signal.SIGKILL)
counted.done = 0
applying._Target.write = counted
if name == "rename":
    os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
files.apply_file(*sys.argv[1:4])
"""


@pytest.mark.parametrize(("limit", "name"), [(1, "write"), (MIB, "write"), (3 * MIB, "write"), (0, "rename")])
def test_kill_9_during_apply_leaves_no_file_under_the_final_name(pair: Path, limit: int, name: str) -> None:
    command = [sys.executable, "-c", _KILLED, pair / "old", pair / "p", pair / "out", str(limit), name]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (pair / "out").exists()
    modelpatch.apply_file(pair / "old", pair / "p", pair / "out")
    assert (pair / "out").read_bytes() == (pair / "new").read_bytes()


def test_an_interrupted_folder_apply_makes_no_folder(pair: Path) -> None:
    for name, file in (("a", "old"), ("b", "new")):
        (pair / name).mkdir()
        (pair / name / "model").write_bytes((pair / file).read_bytes())
    modelpatch.diff_folder(pair / "a", pair / "b", pair / "fp", effort="fast")
    command = [sys.executable, "-c", _SMALL_DISK, "apply", pair / "a", pair / "fp", pair / "c"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    one_line(done, str(pair / "c" / "model"))
    assert not (pair / "c").exists()
    assert leftovers(pair) == []


def test_a_full_disk_during_a_diff_leaves_no_patch(pair: Path) -> None:
    (pair / "old").write_bytes(b"")
    (pair / "new").write_bytes((pair / "new").read_bytes()[: MIB + 1000])
    command = [sys.executable, "-c", _SMALL_DISK, "diff", pair / "old", pair / "new", pair / "q", "--effort", "fast"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    one_line(done, str(pair / "q"))
    assert not (pair / "q").exists()
    assert leftovers(pair) == []


# Root may write anywhere, so it becomes nobody. To nobody the folders above and Python's own may be closed: so the
# folder is entered before, and a first run loads all modules.
_AS_NOBODY = """
import contextlib, io, os, sys
from modelpatch.cli import main
os.chdir(sys.argv[1])
with contextlib.redirect_stderr(io.StringIO()):
    assert main([*sys.argv[2:-1], "none/out"]) == 1
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("patch", ["p", "fp"])
def test_a_folder_that_is_read_only_is_one_error(small: Path, patch: str) -> None:
    base = {"p": "old", "fp": "a"}[patch]
    small.chmod(0o555)
    try:
        command = [sys.executable, "-c", _AS_NOBODY, small, "apply", base, patch, "out"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        small.chmod(0o755)
    one_line(done, "out")
    assert "Permission denied" in done.stderr
    assert not (small / "out").exists()
    assert leftovers(small) == []


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a small pair of files, `old` and `new`, folders `a` and `b` of them, and their patches."""
    rng = random.Random(3)
    old = rng.randbytes(400)
    new = old[:100] + b"inserted" + old[100:]
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    for folder, data in (("a", old), ("b", new)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model").write_bytes(data)
    modelpatch.diff_file(tmp_path / "old", tmp_path / "new", tmp_path / "p", effort="fast")
    modelpatch.diff_folder(tmp_path / "a", tmp_path / "b", tmp_path / "fp", effort="fast")
    return tmp_path


def change(name: str, at: int, value: int) -> Callable[[Path], None]:
    """Return what overwrites one byte of a file."""

    def run(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        assert data[at] != value
        data[at] = value
        (folder / name).write_bytes(data)

    return run


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1]) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def nothing(folder: Path) -> None:
    pass


# name -> what happens, the command, the file at fault.
BAD: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "truncated": (cut("p"), ["apply", "old", "p", "out"], "p"),
    "altered": (change("p", -1, 0xFF), ["apply", "old", "p", "out"], "p"),
    "no_patch": (lambda f: (f / "p").write_bytes(b"hello"), ["apply", "old", "p", "out"], "p"),
    "empty_patch": (lambda f: (f / "p").write_bytes(b""), ["apply", "old", "p", "out"], "p"),
    "other_version": (change("p", 4, 2), ["apply", "old", "p", "out"], "p"),
    "other_kind": (change("p", 5, 8), ["apply", "old", "p", "out"], "p"),
    "wrong_base": (change("old", 7, 0), ["apply", "old", "p", "out"], "old"),
    "short_base": (cut("old"), ["apply", "old", "p", "out"], "old"),
    "new_as_base": (nothing, ["apply", "new", "p", "out"], "new"),
    "no_base": (remove("old"), ["apply", "old", "p", "out"], "old"),
    "no_patch_file": (remove("p"), ["apply", "old", "p", "out"], "p"),
    "base_is_a_folder": (nothing, ["apply", "a", "p", "out"], "a"),
    "patch_is_a_folder": (nothing, ["apply", "old", "a", "out"], "a"),
    "target_is_a_folder": (nothing, ["apply", "old", "p", "b"], "b"),
    "no_folder_for_the_target": (nothing, ["apply", "old", "p", "none/out"], "none/out"),
    "target_is_the_base": (nothing, ["apply", "old", "p", "old"], "old"),
    "target_is_the_base_by_another_name": (nothing, ["apply", "old", "p", "a/../old"], "a/../old"),
    "target_is_the_patch": (nothing, ["apply", "old", "p", "p"], "p"),
    "target_links_to_the_base": (lambda f: (f / "s").symlink_to("old"), ["apply", "old", "p", "s"], "s"),
    "base_links_to_the_target": (lambda f: (f / "s").symlink_to("old"), ["apply", "s", "p", "old"], "old"),
    "target_is_a_hard_link_of_the_base": (
        lambda f: (f / "s").hardlink_to(f / "old"),
        ["apply", "old", "p", "s"],
        "s",
    ),
    "target_is_a_hard_link_of_the_patch": (
        lambda f: (f / "s").hardlink_to(f / "p"),
        ["apply", "old", "p", "s"],
        "s",
    ),
    "target_too_large": (nothing, ["apply", "old", "p", "out", "--max-target-mib", "0"], "p"),
    "too_much_memory": (nothing, ["apply", "old", "p", "out", "--max-memory-mib", "1"], "p"),
    "folder_truncated": (cut("fp"), ["apply", "a", "fp", "out"], "fp"),
    "folder_altered": (change("fp", -1, 0xFF), ["apply", "a", "fp", "out"], "fp"),
    "folder_other_base": (nothing, ["apply", "b", "fp", "out"], "b"),
    "folder_changed_base": (change("a/model", 7, 0), ["apply", "a", "fp", "out"], "a"),
    "folder_base_with_a_file_more": (lambda f: (f / "a" / "x").touch(), ["apply", "a", "fp", "out"], "a"),
    "folder_base_with_a_link": (lambda f: (f / "a" / "x").symlink_to("model"), ["apply", "a", "fp", "out"], "a/x"),
    "folder_no_base": (nothing, ["apply", "none", "fp", "out"], "none"),
    "folder_base_is_a_file": (nothing, ["apply", "old", "fp", "out"], "old"),
    "folder_target_exists": (nothing, ["apply", "a", "fp", "b"], "b"),
    "folder_target_is_a_file": (nothing, ["apply", "a", "fp", "new"], "new"),
    "folder_target_is_a_dead_link": (lambda f: (f / "s").symlink_to("gone"), ["apply", "a", "fp", "s"], "s"),
    "folder_target_is_the_base": (nothing, ["apply", "a", "fp", "a"], "a"),
    "folder_target_in_the_base": (nothing, ["apply", "a", "fp", "a/out"], "a/out"),
    "folder_no_folder_for_the_target": (nothing, ["apply", "a", "fp", "none/out"], "none/out"),
    "diff_no_old": (remove("old"), ["diff", "old", "new", "q"], "old"),
    "diff_no_new": (remove("new"), ["diff", "old", "new", "q"], "new"),
    "diff_onto_old": (nothing, ["diff", "old", "new", "old"], "old"),
    "diff_onto_new": (nothing, ["diff", "old", "new", "new"], "new"),
    "diff_onto_a_folder": (nothing, ["diff", "old", "new", "a"], "a"),
    "diff_no_folder_for_the_patch": (nothing, ["diff", "old", "new", "none/q"], "none/q"),
    "diff_file_and_folder": (nothing, ["diff", "old", "b", "q"], "b"),
    "diff_of_a_link": (lambda f: (f / "b" / "x").symlink_to("model"), ["diff", "a", "b", "q"], "b/x"),
    "inspect_no_patch": (remove("p"), ["inspect", "p"], "p"),
    "inspect_truncated": (cut("p"), ["inspect", "p"], "p"),
    "inspect_text": (lambda f: (f / "p").write_bytes(b"hello"), ["inspect", "p"], "p"),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error_that_names_the_file_and_changes_nothing(
    small: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    happens, command, culprit = BAD[case]
    happens(small)
    before = contents(small)
    monkeypatch.chdir(small)
    assert cli.main(command) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith(f"modelpatch: {culprit}: ")
    assert len(error) > len(f"modelpatch: {culprit}: ") + 8
    assert contents(small) == before


@pytest.mark.parametrize("case", ["truncated", "wrong_base", "target_is_the_base", "folder_altered", "diff_no_old"])
def test_bad_input_is_the_same_error_from_the_command_line(small: Path, case: str) -> None:
    happens, command, culprit = BAD[case]
    happens(small)
    before = contents(small)
    run = [sys.executable, "-m", "modelpatch", *command]
    done = subprocess.run(run, cwd=small, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    one_line(done, culprit)
    assert contents(small) == before


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(modelpatch.__file__).parents[1])}
