"""The real agent with a real delegate that fails: it watches on, blames no release, and `status` tells the truth."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from agent import doctor
from agent.config import load
from agent.updates.record import Phase, Slot, Trial
from agent.wiring import Agent
from tests.accelerators import TestDelegate, wait_until
from tests.agent_process import AgentProcess, RunnableSite, write_video
from tests.site_server import SiteServer, serving


@pytest.fixture
def site(tmp_path: Path) -> RunnableSite:
    """A site with release 1, whose head is there for the accelerator too."""
    site = RunnableSite(tmp_path / "publisher")
    site.publish(1, kind="compiled")
    return site


@pytest.fixture
def server(site: RunnableSite) -> Iterator[SiteServer]:
    """It, served."""
    with serving(site.folder / "site") as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path, site: RunnableSite, server: SiteServer, delegate: TestDelegate) -> Iterator[AgentProcess]:
    """An agent with an accelerator, not started yet."""
    video = write_video(tmp_path / "video.avi")
    made = AgentProcess(tmp_path / "agent", server.url, site.builder.root, video)
    with made.config.open("a") as config:
        config.write(f'[runtime]\naccelerator = "edgetpu"\nlibrary = "{delegate.library}"\nanswer_s = 0.5\n')
    yield made
    made.kill()


@pytest.mark.parametrize(("phase", "may"), [(None, True), (Phase.TRIAL, False), (Phase.PROBATION, True)])
def test_a_release_is_accelerated_only_when_the_processor_has_proved_it(phase: Phase | None, may: bool) -> None:
    trial = phase and Trial(Slot.A, 1, "0" * 64, phase, attempts_left=2)
    assert Agent._may_accelerate(cast("Agent", SimpleNamespace(running=SimpleNamespace(trial=trial)))) is may


@pytest.mark.slow
def test_faults_of_an_accelerator_end_no_agent_and_no_trial(
    agent: AgentProcess, site: RunnableSite, delegate: TestDelegate
) -> None:
    agent.start()
    assert agent.process
    pid = agent.process.pid
    agent.wait_for("trial.passed")
    assert not agent.events("accelerator.working"), "a release proves itself on the processor"
    agent.wait_for("slot.committed")
    agent.wait_for("accelerator.working")

    delegate.mode("hangs at invoke")
    agent.wait_for('accelerator.failed reason="no answer in 0.5 s"')
    told = agent.status()
    assert (told["state"], told["live"]["accelerator"]["state"], told["bad"]) == ("running", "failed", [])
    assert "the processor answers, tried again in" in agent.command("status").stdout

    delegate.mode("aborts at invoke")
    site.publish(2, kind="compiled")
    mark = agent.mark()
    agent.wait_for("slot.committed", after=mark)
    agent.wait_for("SIGABRT", after=mark)
    delegate.mode("works")
    agent.wait_for("accelerator.working", after=mark)

    told = agent.status()
    assert (told["version"], told["bad"], told["trial"]) == (2, [], None)
    assert (told["live"]["pid"], told["live"]["camera"]) == (pid, "watching")
    assert told["live"]["accelerator"]["faults"] >= 2
    assert not agent.events("model.failed")
    children = Path(f"/proc/{pid}/task").glob("*/children")
    assert any(path.read_text().split() for path in children)
    assert agent.stop() == 0
    wait_until(lambda: not left(delegate), "end of the accelerator's child")

    assert doctor.check("accelerator", load(agent.config)).text.endswith("passes its self-test there")
    delegate.mode("gives other answers")
    assert "an answer is off by" in doctor.check("accelerator", load(agent.config)).text


def left(delegate: TestDelegate) -> list[str]:
    """Return the processes that have the delegate loaded."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except OSError:
            continue  # it ended, or is somebody else's
        found += [str(maps)] * (delegate.library in text and f"/{os.getpid()}/" not in str(maps))
    return found
