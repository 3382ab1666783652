"""A real delegate in a real child: what it does to the agent's answers when it works, crashes, hangs or lies."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent import doctor
from agent.config import AgentConfig, CameraSettings, RelaySettings
from agent.live import Live
from agent.runtimes.accelerator import Accelerator, State
from agent.runtimes.child import AcceleratorChild, AcceleratorError
from agent.runtimes.settings import RuntimeSettings
from agent.updates.selftest import check_bundle
from agent.vision.accelerated import AcceleratedModel, AcceleratedParts, job_of
from agent.vision.classifier import load_model
from contract.errors import ReleaseError
from contract.manifest import load_bundle
from contract.preprocess import Image
from tests.accelerators import COMPILED, TestDelegate, children, compiled_bundle, descriptors, wait_until
from tests.vision_scenes import BUNDLE, COATS

pytestmark = pytest.mark.slow
FEATURES = np.array([[0.1, 0.9, 0.3, 0.4, 0.5, 0.6]], np.float32)
RED: Image = np.full((20, 20, 3), COATS["red"], np.uint8)
AMBER: Image = np.full((20, 20, 3), (20, 120, 200), np.uint8)
ANSWER_S = 0.5


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The golden bundle, with a compiled head beside its plain one."""
    compiled_bundle(tmp_path / "bundle", BUNDLE)
    return tmp_path / "bundle"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No child and no descriptor outlives a test."""
    before, files = children(), descriptors()
    yield
    wait_until(lambda: children() <= before, "end of the children")
    assert descriptors() <= files


def settings(delegate: TestDelegate) -> RuntimeSettings:
    return RuntimeSettings("edgetpu", delegate.library, answer_s=ANSWER_S, start_s=20.0)


@contextlib.contextmanager
def accelerated(
    delegate: TestDelegate, bundle: Path, waits_s: tuple[float, ...] = (0.05,)
) -> Iterator[tuple[AcceleratedModel, Accelerator[AcceleratedParts]]]:
    """Return the bundle's model on an accelerator that was asked once, and answers where it can."""
    job = job_of(bundle, load_bundle(bundle))
    assert job is not None
    with Accelerator[AcceleratedParts](settings(delegate), waits_s) as accelerator:
        model = AcceleratedModel(load_model(bundle), job, accelerator, lambda: True)
        model.judge(RED)
        yield model, accelerator


def wait_for(accelerator: Accelerator[AcceleratedParts], state: State) -> None:
    wait_until(lambda: accelerator.status()["state"] == state, state)


def answers_there(accelerator: Accelerator[AcceleratedParts]) -> int:
    child = accelerator._child
    return child.answers if child else 0


@pytest.mark.parametrize("file", ["head.tflite", COMPILED])
def test_the_runtime_loads_the_delegate_which_claims_the_dense_layer(
    delegate: TestDelegate, bundle: Path, file: str
) -> None:
    here = load_model(bundle).classifier._models[-1].run(FEATURES)
    with AcceleratorChild(delegate.library, [bundle / file], 20.0) as child:
        child.begin()
        interpreter = child.interpreter(0)
        interpreter.set_tensor(0, FEATURES)
        interpreter.invoke()
        assert np.allclose(interpreter.get_tensor(0), here, atol=1e-6)
        delegate.mode("gives other answers")  # which it can only where it claimed the layer
        interpreter.invoke()
        assert not np.allclose(interpreter.get_tensor(0), here, atol=1e-3)


def test_a_compiled_model_runs_nowhere_else(bundle: Path, delegate: TestDelegate) -> None:
    delegate.mode("claims nothing")
    with (
        AcceleratorChild(delegate.library, [bundle / COMPILED], 20.0) as child,
        pytest.raises(AcceleratorError, match="edgetpu-custom-op"),
    ):
        child.begin()
    assert check_bundle(bundle).worst <= 0.02, "the processor's file is what the self-test runs"


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("fails at create", "no device was found"),
        ("aborts at create", r"crashed \(SIGABRT\): F driver/usb"),
        ("hangs at create", "no answer in 1 s"),
        ("aborts at invoke", r"crashed \(SIGABRT\): F driver/usb"),
        ("refuses at invoke", "the device is gone"),
        ("hangs at invoke", "no answer in 1 s"),
        ("spins at invoke", "no answer in 1 s"),
    ],
)
def test_each_way_of_failing_has_its_name_and_is_noticed_in_time(
    delegate: TestDelegate, bundle: Path, mode: str, text: str
) -> None:
    delegate.mode(mode)
    begun_s = time.monotonic()
    with (
        AcceleratorChild(delegate.library, [bundle / COMPILED], 20.0) as child,
        pytest.raises(AcceleratorError, match=text),
    ):
        if mode == "hangs at create":
            child.limit_s = 1.0
        child.begin()
        child.limit_s = 1.0
        child.ask(0, FEATURES)
    assert time.monotonic() - begun_s < 10


def test_a_library_that_is_not_there_or_no_delegate_is_one_clear_line() -> None:
    for library, text in (("libedgetpu-is-not-here.so.1", "cannot open shared object"), ("libm.so.6", "no delegate")):
        with AcceleratorChild(library, (), 20.0) as child, pytest.raises(AcceleratorError, match=text):
            child.begin()


def test_a_child_has_limits_and_ends_with_who_started_it(delegate: TestDelegate, bundle: Path) -> None:
    with AcceleratorChild(delegate.library, [bundle / COMPILED], 20.0) as child:
        child.begin()
        limits = Path(f"/proc/{child.pid}/limits").read_text()
        assert [line.split()[3] for line in limits.splitlines() if line.startswith("Max address space")] == [
            "2147483648"
        ]
        processor = next(line for line in limits.splitlines() if line.startswith("Max cpu time"))
        assert int(processor.split()[3]) <= 62
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom agent.runtimes.child import AcceleratorChild\n"
        "child = AcceleratorChild(sys.argv[1], [Path(sys.argv[2])], 20.0)\nchild.begin()\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, delegate.library, str(bundle / COMPILED)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "end of the child")


def test_answers_are_the_same_there_and_here_and_faults_lose_none(
    delegate: TestDelegate, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent.accelerator")
    right = load_model(bundle).judge(AMBER)[0]
    with accelerated(delegate, bundle) as (model, accelerator):
        for mode in ("aborts at invoke", "hangs at invoke", "refuses at invoke", "gives no number"):
            wait_for(accelerator, State.WORKING)
            before = answers_there(accelerator)
            assert np.allclose(model.judge(AMBER)[0], right, atol=1e-6)
            assert answers_there(accelerator) == before + 1
            delegate.mode(mode)
            begun_s = time.monotonic()
            assert np.array_equal(model.judge(AMBER)[0], right), "of the processor"
            assert time.monotonic() - begun_s < ANSWER_S + 1
            delegate.mode("works")
        wait_for(accelerator, State.WORKING)
        assert accelerator.status()["faults"] == 4
    assert sum("accelerator.failed" in line for line in caplog.messages) == 4
    assert sum("accelerator.working" in line for line in caplog.messages) == 5


def test_a_delegate_that_talks_without_end_spoils_no_answer(delegate: TestDelegate, bundle: Path) -> None:
    right = load_model(bundle).judge(AMBER)[0]
    with accelerated(delegate, bundle) as (model, accelerator):
        wait_for(accelerator, State.WORKING)
        delegate.mode("talks")
        for _ in range(3):
            assert np.allclose(model.judge(AMBER)[0], right, atol=1e-6)
        assert accelerator.status()["faults"] == 0


def test_an_accelerator_that_gives_other_answers_to_the_self_test_is_never_asked(
    delegate: TestDelegate, bundle: Path
) -> None:
    delegate.mode("gives other answers")
    right = load_model(bundle).judge(AMBER)[0]
    with accelerated(delegate, bundle) as (model, accelerator):
        wait_until(lambda: accelerator.status()["faults"] >= 2, "second try")
        assert "an answer is off by" in accelerator.status()["reason"]
        assert np.array_equal(model.judge(AMBER)[0], right)
        delegate.mode("works")
        wait_for(accelerator, State.WORKING)


def test_a_child_that_dies_while_nobody_asks_is_noticed_and_replaced(delegate: TestDelegate, bundle: Path) -> None:
    with accelerated(delegate, bundle) as (_, accelerator):
        wait_for(accelerator, State.WORKING)
        assert accelerator._child
        os.kill(accelerator._child.pid, signal.SIGSEGV)
        wait_until(lambda: accelerator.status()["faults"] == 1, "fault", limit_s=3.0)
        wait_for(accelerator, State.WORKING)


def test_many_faults_leave_no_zombie_and_no_descriptor(delegate: TestDelegate, bundle: Path) -> None:
    before, files = children(), 0
    with accelerated(delegate, bundle, (0.0,)) as (model, accelerator):
        for fault in range(12):
            wait_for(accelerator, State.WORKING)
            files = files or descriptors()
            assert len(children() - before) == 1
            delegate.mode("aborts at invoke")
            model.judge(RED)
            delegate.mode("works")
            assert accelerator.status()["faults"] >= fault + 1
        wait_for(accelerator, State.WORKING)
        assert len(children() - before) == 1
        assert descriptors() <= files


def test_the_wait_grows_with_each_fault_and_nobody_waits_meanwhile(delegate: TestDelegate, bundle: Path) -> None:
    delegate.mode("fails at create")
    with accelerated(delegate, bundle, (0.0, 0.1, 30.0)) as (model, accelerator):
        wait_until(lambda: accelerator.status()["faults"] == 3, "third fault")
        told = accelerator.status()
        assert told["state"] == "failed"
        assert 25 < told["next_try_s"] <= 30
        assert "no device was found" in told["reason"]
        begun_s = time.monotonic()
        model.judge(RED)
        assert time.monotonic() - begun_s < 1


def test_the_accelerator_is_for_the_model_that_is_asked(delegate: TestDelegate, bundle: Path, tmp_path: Path) -> None:
    compiled_bundle(tmp_path / "other", BUNDLE)
    job = job_of(tmp_path / "other", load_bundle(tmp_path / "other"))
    assert job is not None
    with accelerated(delegate, bundle) as (model, accelerator):
        wait_for(accelerator, State.WORKING)
        other = AcceleratedModel(load_model(tmp_path / "other"), job, accelerator, lambda: True)
        other.judge(RED)
        wait_for(accelerator, State.WORKING)
        assert accelerator.ready(job)
        held = AcceleratedModel(load_model(bundle), model._job, accelerator, lambda: False)
        held.judge(RED)
        assert accelerator.ready(job), "a model that may not be accelerated takes nothing away"
        accelerator.serve(None)
        assert accelerator.status()["state"] == "unused"
        wait_until(lambda: accelerator._child is None, "end of the child")


def test_a_child_that_is_let_go_of_is_no_fault(delegate: TestDelegate, bundle: Path) -> None:
    with accelerated(delegate, bundle) as (model, accelerator):
        for _ in range(3):
            wait_until(lambda: accelerator._child is not None, "child")
            accelerator.serve(None)
            model.judge(RED)
        wait_for(accelerator, State.WORKING)
        assert accelerator.status()["faults"] == 0


def test_the_end_does_not_wait_for_a_child_that_hangs(delegate: TestDelegate, bundle: Path) -> None:
    delegate.mode("hangs at create")
    with accelerated(delegate, bundle) as (_, accelerator):
        wait_until(lambda: accelerator._child is not None, "child")
        ending_s = time.monotonic()
    assert time.monotonic() - ending_s < 3


def test_a_release_at_fault_is_still_blamed(delegate: TestDelegate, bundle: Path) -> None:
    with accelerated(delegate, bundle) as (model, accelerator):
        wait_for(accelerator, State.WORKING)

        def fail(image: Image) -> tuple[np.ndarray, None]:
            raise ReleaseError("the model does not run")

        model._plain = replace(model._plain, classifier=type("Broken", (), {"judge": staticmethod(fail)})())
        delegate.mode("aborts at invoke")
        with pytest.raises(ReleaseError, match="does not run"):
            model.judge(RED)


@pytest.fixture
def config(tmp_path: Path, delegate: TestDelegate) -> AgentConfig:
    return AgentConfig(
        "porch",
        tmp_path / "data",
        CameraSettings(str(tmp_path)),
        RelaySettings(tmp_path / "root"),
        runtime=settings(delegate),
    )


def test_the_doctor_says_whether_the_delegate_can_be_had(config: AgentConfig, delegate: TestDelegate) -> None:
    plain = replace(config, runtime=RuntimeSettings())
    assert "none is wanted" in doctor.check("accelerator", plain).text
    found = doctor.check("accelerator", config)
    assert (found.ok, "no release here was compiled" in found.text) == (True, True)
    delegate.mode("fails at create")
    found = doctor.check("accelerator", config)
    assert not found.ok
    assert "no device was found" in found.text
    assert "plugdev" in found.advice


def test_the_doctor_leaves_the_device_to_the_agent_that_runs(config: AgentConfig) -> None:
    config.data.mkdir()
    told = {"state": "failed", "since_s": 1.0, "faults": 3, "reason": "no answer in 2 s", "next_try_s": 5.0}
    with Live(config.data, 5.0, accelerator=lambda: told):
        found = doctor.check("accelerator", config)
        assert not found.ok
        assert "no answer in 2 s" in found.text
        told["state"] = "working"
        assert "working, 3 faults" in doctor.check("accelerator", config).text
