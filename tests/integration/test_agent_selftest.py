"""The self-test in its child process: what passes, and what each way of failing is called."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.updates.selftest import ADDRESS_SPACE_BYTES, SelfTestImpossibleError, run_selftest
from contract.errors import ReleaseError
from contract.manifest import NAME, load_bundle
from tests.agent_process import ROOT, TINY, make_runnable


def test_a_good_bundle_passes_with_its_worst_difference() -> None:
    result = run_selftest(TINY)
    assert 0 <= result.worst <= load_bundle(TINY).selftest.tolerance
    assert result.run_ms > 0


def test_other_answers_than_expected_fail(tmp_path: Path) -> None:
    make_runnable(tmp_path / "1", 1, kind="fails self-test")
    with pytest.raises(ReleaseError, match="off by"):
        run_selftest(tmp_path / "1")


def test_a_model_that_does_not_load_fails(tmp_path: Path) -> None:
    make_runnable(tmp_path / "1", 1)
    head = tmp_path / "1" / "head.tflite"
    head.write_bytes(b"TFL3" * (head.stat().st_size // 4))
    with pytest.raises(ReleaseError, match="head.tflite"):
        run_selftest(tmp_path / "1")


def test_pictures_that_cannot_be_read_fail(tmp_path: Path) -> None:
    make_runnable(tmp_path / "1", 1)
    (tmp_path / "1" / "selftest.npz").write_bytes(b"no zip")
    with pytest.raises(ReleaseError, match="self-test"):
        run_selftest(tmp_path / "1")


def test_a_manifest_that_expects_fewer_answers_fails(tmp_path: Path) -> None:
    make_runnable(tmp_path / "1", 1)
    manifest = load_bundle(tmp_path / "1")
    fewer = replace(manifest.selftest, expected=manifest.selftest.expected[:1])
    (tmp_path / "1" / NAME).write_bytes(replace(manifest, selftest=fewer).to_bytes())
    with pytest.raises(ReleaseError, match="shape"):
        run_selftest(tmp_path / "1")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.abort()", "SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("time.sleep(60)", "not done in 1 s"),
        ("os._exit(0)", "without a result"),
    ],
)
def test_a_child_that_crashes_or_hangs_is_the_release_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    _in_every_child(tmp_path, monkeypatch, code)
    with pytest.raises(ReleaseError, match=said):
        run_selftest(TINY, time_limit_s=1.0)


@pytest.mark.parametrize("code", ["os.kill(os.getpid(), signal.SIGTERM)", "sys.modules['cv2'] = None"])
def test_a_child_that_is_ended_from_outside_or_lacks_a_library_says_nothing_about_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    _in_every_child(tmp_path, monkeypatch, code)
    with pytest.raises(SelfTestImpossibleError):
        run_selftest(TINY)


def test_a_child_that_is_slow_once_gets_a_second_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "was_here"
    slow = f"if not os.path.exists({str(mark)!r}):\n    open({str(mark)!r}, 'w').close()\n    time.sleep(60)"
    _in_every_child(tmp_path, monkeypatch, slow)
    assert run_selftest(TINY, time_limit_s=10.0).worst < 1
    assert mark.exists()


def _in_every_child(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let every Python that starts from here run ``code`` first."""
    (folder / "sitecustomize.py").write_text(f"import os, signal, sys, time\n{code}\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (f"bytearray({ADDRESS_SPACE_BYTES})", "MemoryError"),
        ("open(sys.argv[1], 'w').write('x' * 100_000)", "OSError"),
        ("import socket; socket.socket()", "PermissionError"),
    ],
)
def test_the_child_has_neither_much_memory_nor_files_nor_network(tmp_path: Path, code: str, error: str) -> None:
    whole = f"import sys\nfrom agent.updates import selftest\nselftest._limit_this_process(20)\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", whole, str(tmp_path / "picture")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(error)
