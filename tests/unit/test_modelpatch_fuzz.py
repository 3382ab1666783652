"""Damaged patches by the hundred thousand, and the harness that applies them: it must see what it looks for."""

import contextlib
import io
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modelpatch
from modelpatch import PatchError, PatchFormatError
from modelpatch.apply.stream import COPY_BYTES
from modelpatch.format import big_integers
from modelpatch.installed import engine
from tests import fuzz_patches
from tests.fuzz_patches import MAX_TARGET, Fault, Fuzzer, Hang, Sample, bombs, declared_memory, full_frames

ROOT = Path(__file__).parents[2]
CASES = 100_000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    return Fuzzer(7, tmp_path_factory.mktemp("fuzz"))


@pytest.fixture
def alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGVTALRM, fuzz_patches._hang)
    yield
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.slow
def test_a_hundred_thousand_damaged_patches_break_no_promise() -> None:
    command = [sys.executable, "-m", "tests.fuzz_patches", "--cases", str(CASES), "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{CASES} cases")
    counts = {line.split(maxsplit=1)[1]: int(line.split()[0]) for line in done.stdout.splitlines()[2:]}
    assert sum(counts.values()) == CASES
    # Every way out is taken often, so that the body's decoder is known to be reached.
    for outcome in ("success", "PatchFormatError", "TargetMismatchError", "UnsupportedPatchError"):
        assert counts[outcome] > CASES // 100
    assert counts["folder PatchFormatError"] > CASES // 1000


@pytest.mark.slow
@pytest.mark.parametrize("numpy", [True, False], ids=["numpy", "plain"])
def test_a_frame_takes_no_more_memory_than_its_patch_declares(numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not numpy:
        monkeypatch.setattr(engine, "find_arithmetic", lambda: big_integers)
    for number, sample in enumerate(bombs() + full_frames()):
        assert peak_memory(sample) < declared_memory(sample.patch) + 2 * COPY_BYTES, f"sample {number}"


def peak_memory(sample: Sample) -> int:
    """Return the bytes that applying `sample` took at its peak."""
    base, patch, out = io.BytesIO(sample.base), io.BytesIO(sample.patch), io.BytesIO(bytes(MAX_TARGET))
    tracemalloc.start()
    with contextlib.suppress(PatchFormatError):  # a bomb makes more than it declares
        modelpatch.apply_stream(base, patch, out, max_target_bytes=MAX_TARGET)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_the_harness_sees_a_wrong_success(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(base: Any, patch: Any, out: io.BytesIO, **limits: int) -> None:
        out.write(b"something")

    monkeypatch.setattr(modelpatch, "apply_stream", careless)
    with pytest.raises((Fault, fuzz_patches.Invalid)):
        fuzzer.case(3)


@pytest.mark.slow
def test_the_harness_sees_a_foreign_exception(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*streams: Any, **limits: int) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(modelpatch, "apply_stream", broken)
    with pytest.raises(IndexError):
        fuzzer.case(3)


def test_the_harness_sees_a_hang(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch, alarm: None) -> None:
    def endless(*streams: Any, **limits: int) -> None:
        while True:
            pass

    monkeypatch.setattr(modelpatch, "apply_stream", endless)
    monkeypatch.setattr(fuzz_patches, "CASE_SECONDS", 0.02)
    with pytest.raises(Hang):
        fuzzer.case(3)


def test_the_harness_sees_too_much_memory(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(base: Any, patch: Any, out: io.BytesIO, **limits: int) -> None:
        bytes(64 << 20)
        raise PatchError("refused, but late")

    monkeypatch.setattr(modelpatch, "apply_stream", greedy)
    with pytest.raises(Fault, match="memory"):
        fuzzer.case(fuzz_patches.MEASURED + 2)


def test_the_harness_sees_a_file_that_stays(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    def untidy(base: Path, patch: Path, target: Path, **limits: int) -> None:
        target.write_bytes(b"half")
        raise PatchError("refused")

    monkeypatch.setattr(modelpatch, "apply_file", untidy)
    with pytest.raises(Fault, match="leaves"):
        fuzzer.case(fuzz_patches.NAMED + 1)
    (fuzzer.scratch / "made" / "out").unlink()


@pytest.mark.slow
def test_a_case_follows_from_its_number(tmp_path: Path, fuzzer: Fuzzer) -> None:
    (tmp_path / "second").mkdir()
    other = Fuzzer(7, tmp_path / "second")
    fuzzer.counts.clear()
    for number in (5, 77, 128, 129):
        fuzzer.case(number)
    for number in (129, 128, 77, 5):
        other.case(number)
    assert fuzzer.counts == other.counts
