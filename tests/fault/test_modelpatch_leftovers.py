"""Kill -9 in the middle, and two writers of one target: what a dead process leaves is removed, what lives is not."""

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelpatch
from modelpatch.apply import temporaries
from tests.vectors.patch_builder import add, folder_patch, literal, ops, patch, stored

MIB = 1 << 20
TARGET = random.Random(5).randbytes(3 * MIB)
_RUN = "import sys, modelpatch; getattr(modelpatch, sys.argv[1])(*sys.argv[2:])"


def patch_of_three_frames() -> bytes:
    """Return a whole-file patch in frames of 1 MiB: who has read half of it has written some of the target."""
    pieces = [TARGET[at : at + MIB] for at in range(0, len(TARGET), MIB)]
    return patch(None, TARGET, *(ops(literal(MIB), stored(piece)) for piece in pieces), memory_kib=20 << 10)


PATCH = patch_of_three_frames()
FOLDER_PATCH = folder_patch({}, {"model": TARGET}, add("model", PATCH), memory_kib=20 << 10)


class Stuck:
    """A process in the middle of an apply to `out`: it waits at a pipe for the second half of its patch."""

    def __init__(self, work: Path, function: str, made: bytes) -> None:
        os.mkfifo(work / "pipe")
        names = [work / name for name in ("old", "pipe", "out")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUN, function, *names], stderr=subprocess.PIPE, text=True
        )
        self._pipe: int | None = os.open(work / "pipe", os.O_WRONLY)
        self._rest = made[2 * MIB :]
        # This returns when all but the pipe's buffer (64 KiB) has been read, so the first frame has been decoded.
        self._send(made[: 2 * MIB])

    def _send(self, data: bytes) -> None:
        assert self._pipe is not None
        while data:
            data = data[os.write(self._pipe, data) :]

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait(timeout=60) == -signal.SIGKILL

    def finish(self) -> tuple[int, str]:
        """Send the rest; return the exit code and the last line on stderr."""
        self._send(self._rest)
        self._close()
        errors = self.process.communicate(timeout=60)[1].strip().splitlines()
        return self.process.returncode, errors[-1] if errors else ""

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self._close()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    (tmp_path / "patch").write_bytes(PATCH)
    (tmp_path / "folder_patch").write_bytes(FOLDER_PATCH)
    return tmp_path


@pytest.fixture
def stuck(work: Path) -> Iterator[Stuck]:
    (work / "old").rmdir()
    (work / "old").write_bytes(b"")
    running = Stuck(work, "apply_file", PATCH)
    yield running
    running.end()


@pytest.fixture
def stuck_folder(work: Path) -> Iterator[Stuck]:
    running = Stuck(work, "apply_folder", FOLDER_PATCH)
    yield running
    running.end()


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".part"))


def test_the_next_apply_removes_what_a_killed_one_left(work: Path, stuck: Stuck) -> None:
    stuck.kill()
    assert len(parts(work)) == 1
    assert not (work / "out").exists()
    modelpatch.apply_file(None, work / "patch", work / "out")
    assert (work / "out").read_bytes() == TARGET
    assert parts(work) == []


def test_a_failing_apply_removes_what_a_killed_one_left_too(work: Path, stuck: Stuck) -> None:
    stuck.kill()
    (work / "patch").write_bytes(PATCH[:-1])
    with pytest.raises(modelpatch.PatchFormatError):
        modelpatch.apply_file(None, work / "patch", work / "out")
    assert parts(work) == []


def test_the_next_folder_apply_removes_what_a_killed_one_left(work: Path, stuck_folder: Stuck) -> None:
    stuck_folder.kill()
    assert [(work / name).is_dir() for name in parts(work)] == [True]
    modelpatch.apply_folder(work / "old", work / "folder_patch", work / "out")
    assert (work / "out" / "model").read_bytes() == TARGET
    assert parts(work) == []


_KILLED_DIFF = """
import os, signal, sys, modelpatch
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
modelpatch.diff_file(*sys.argv[1:4], effort="fast")
"""


def test_the_next_diff_removes_what_a_killed_one_left(work: Path) -> None:
    (work / "a").write_bytes(TARGET[:9000])
    (work / "b").write_bytes(TARGET[:8000])
    names = [work / "a", work / "b", work / "made"]
    done = subprocess.run([sys.executable, "-c", _KILLED_DIFF, *names], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(parts(work)) == 1
    modelpatch.diff_file(work / "a", work / "b", work / "made", effort="fast")
    assert parts(work) == []
    modelpatch.apply_file(work / "a", work / "made", work / "out")
    assert (work / "out").read_bytes() == TARGET[:8000]


def test_two_applies_to_one_target_leave_each_other_alone(work: Path, stuck: Stuck) -> None:
    held = parts(work)
    modelpatch.apply_file(None, work / "patch", work / "out")
    assert (work / "out").read_bytes() == TARGET
    assert parts(work) == held
    assert len(held) == 1
    (work / "out").write_bytes(b"in between")
    assert stuck.finish() == (0, "")
    assert (work / "out").read_bytes() == TARGET
    assert parts(work) == []


def test_of_two_folder_applies_to_one_target_the_first_to_end_wins(work: Path, stuck_folder: Stuck) -> None:
    held = parts(work)
    modelpatch.apply_folder(work / "old", work / "folder_patch", work / "out")
    assert parts(work) == held
    assert len(held) == 1
    code, error = stuck_folder.finish()
    assert code == 1
    assert error == f"modelpatch.errors.FolderError: {work / 'out'}: another process made it in the meantime"
    assert (work / "out" / "model").read_bytes() == TARGET
    assert parts(work) == []


def test_a_folder_that_vanishes_during_an_apply_is_one_error_with_the_targets_name(work: Path, stuck: Stuck) -> None:
    moved = work.with_name(work.name + "-moved")
    work.rename(moved)
    code, error = stuck.finish()
    assert code == 1
    assert error == f"FileNotFoundError: [Errno 2] No such file or directory: '{work / 'out'}'"
    assert not (moved / "out").exists()


def test_only_temporaries_of_the_same_target_are_removed(work: Path) -> None:
    stay = [".out.bin.abcdefgh.part", ".other.abcdefgh.part", ".out.abcdefg.part", ".out.abcdefghi.part", "out.part"]
    go = [".out.abcdefgh.part", ".out.12_45678.part"]
    for name in stay + go:
        (work / name).write_bytes(b"left")
    (work / ".out.abcdefg1.part").symlink_to(work / "patch")
    (work / ".out.abcdefg2.part").mkdir()
    (work / ".out.abcdefg2.part" / "inside").write_bytes(b"left")
    modelpatch.apply_file(None, work / "patch", work / "out")
    assert parts(work) == sorted([*stay, ".out.abcdefg1.part"])
    assert (work / "patch").read_bytes() == PATCH


def test_a_name_of_255_bytes_has_temporaries_too(work: Path) -> None:
    for name in ("n" * 255, "é" * 127, "\U0001f916" * 63):
        modelpatch.apply_file(None, work / "patch", work / name)
        assert (work / name).read_bytes() == TARGET
    assert parts(work) == []


def test_without_locks_leftovers_stay_and_the_work_is_done(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(temporaries.fcntl, "flock", no_locks)
    (work / ".out.abcdefgh.part").write_bytes(b"left")
    modelpatch.apply_file(None, work / "patch", work / "out")
    assert (work / "out").read_bytes() == TARGET
    assert parts(work) == [".out.abcdefgh.part"]


@pytest.mark.parametrize("function", ["apply_file", "apply_folder"])
def test_a_temporary_removed_before_it_is_locked_is_made_again(
    work: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, seen = temporaries._lock, []

    def too_late(handle: int) -> bool | None:
        if not seen:
            # Another process comes between: it finds the new temporary without a lock.
            seen.extend(parts(work))
            temporaries.remove_stale(work / "out")
            assert parts(work) == []
        return lock(handle)

    monkeypatch.setattr(temporaries, "_lock", too_late)
    source = work / ("patch" if function == "apply_file" else "folder_patch")
    getattr(modelpatch, function)(work / "old" if function == "apply_folder" else None, source, work / "out")
    assert len(seen) == 1
    made = work / "out" if function == "apply_file" else work / "out" / "model"
    assert made.read_bytes() == TARGET
    assert parts(work) == []


def test_a_temporary_that_another_process_is_about_to_remove_is_not_used(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bool] = [False]  # the other process has the lock and has not removed the file yet

    def held_at_first(handle: int) -> bool | None:
        return answers.pop() if answers else True

    monkeypatch.setattr(temporaries, "_lock", held_at_first)
    with temporaries.temporary_file(work / "out") as (_, name):
        assert len(parts(work)) == 2
        assert name.name in parts(work)


def test_a_target_that_is_a_device_is_refused(work: Path) -> None:
    os.mkfifo(work / "device")
    with pytest.raises(OSError, match="Not a regular file"):
        modelpatch.apply_file(None, work / "patch", work / "device")
    assert not (work / "device").is_file()
    assert parts(work) == []
