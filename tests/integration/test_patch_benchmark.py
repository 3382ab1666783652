"""The patch benchmark measures in processes of their own, and believes no tool that it has not checked."""

import sys
from pathlib import Path

import numpy as np
import pytest

import modelpatch
from benchmarks.patches import measure
from benchmarks.patches.records import Made


@pytest.fixture
def pair(tmp_path: Path) -> Made:
    random = np.random.default_rng(1)
    old = random.standard_normal(20_000).astype("<f4")
    new = old.copy()
    new[5_000:6_000] += np.float32(1e-3)
    for name, values in (("old.bin", old), ("new.bin", new)):
        (tmp_path / name).write_bytes(values.tobytes())
    return Made("made.float32", tmp_path / "old.bin", tmp_path / "new.bin", "", {})


def test_our_measurement_is_of_the_patch_that_the_package_makes(pair: Made) -> None:
    found = measure.measure_ours(pair, "fast")
    old, new = (path.read_bytes() for path in pair.files)
    assert found["bytes"] == len(modelpatch.diff_bytes(old, new, effort="fast"))
    assert 0 < found["diff_cpu_s"] < found["diff_whole_cpu_s"]
    assert found["copy_cpu_s"] > 0
    assert 0 < found["apply_cpu_s"] < found["apply_whole_cpu_s"]
    assert 5 << 20 < found["apply_peak_bytes"] < 64 << 20


def test_a_peer_is_measured_with_each_of_its_settings(pair: Made) -> None:
    found = measure.measure_peer(pair, "compressed whole file")
    assert found["bytes"] == min(size for size, _ in found["trials"].values())
    assert found["setting"] in found["trials"]
    assert found["apply_cpu_s"] > 0


def test_peak_memory_is_that_of_the_command_and_not_of_its_parent(tmp_path: Path) -> None:
    ballast = np.ones(30 << 20, np.uint8)
    code = "import sys; x = bytearray(int(sys.argv[1])); x[::4096] = b'1' * len(x[::4096])"
    small, large = (measure._run([sys.executable, "-c", code, size])["peak_bytes"] for size in (0, 50 << 20))
    assert ballast.nbytes == 30 << 20
    assert small < 25 << 20
    assert 45 << 20 < large - small < 60 << 20


def test_a_result_that_is_not_the_target_is_refused(pair: Made) -> None:
    measure._check(pair.new, pair.new, "a tool")
    with pytest.raises(measure.MeasureError, match="a tool gave another file"):
        measure._check(pair.old, pair.new, "a tool")


def test_a_command_that_fails_is_an_error_with_its_last_line() -> None:
    with pytest.raises(measure.MeasureError, match="no such thing"):
        measure._run([sys.executable, "-c", "raise SystemExit('no such thing')"])
