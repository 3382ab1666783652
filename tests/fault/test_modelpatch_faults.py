"""Disk full, files that vanish, kill -9: no half-written file under its final name, no temporary after an error."""

import errno
import io
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import modelpatch

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


@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_the_target_as_it_was(pair: Path, existing: bool) -> None:
    if existing:
        (pair / "out").write_bytes(b"as it was")
    command = [sys.executable, "-c", _SMALL_DISK, "apply", pair / "old", pair / "p", pair / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
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
from modelpatch import applying, files
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
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert not (pair / "c").exists()
    assert leftovers(pair) == []
