"""kill -9 of the real agent at every named event of an update: started again, it ends at the new release."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_process import AgentProcess, RunnableSite, write_video
from tests.site_server import SiteServer, serving

EVENTS = (
    "update.planned",
    "update.downloaded",
    "slot.materialised",
    "slot.verified",
    "selftest.passed",
    "trial.started",
    "model.swapped",
    "trial.passed",
    "slot.committed",
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunnableSite, SiteServer]]:
    """A device that committed release 1, and a site that has release 2."""
    folder = tmp_path_factory.mktemp("scene")
    site = RunnableSite(folder / "publisher")
    site.publish(1)
    write_video(folder / "video.avi")
    with serving(site.folder / "site") as server:
        agent = AgentProcess(folder / "agent", server.url, site.builder.root, folder / "video.avi")
        try:
            agent.start().wait_for("slot.committed")
            agent.stop()
        finally:
            agent.kill()
        site.publish(2)
        yield folder, site, server


def restarted(scene: tuple[Path, RunnableSite, SiteServer], folder: Path) -> AgentProcess:
    """Return an agent whose data are those of the device with release 1."""
    prepared, site, server = scene
    agent = AgentProcess(folder, server.url, site.builder.root, prepared / "video.avi")
    shutil.copytree(prepared / "agent" / "data", agent.data)
    return agent


def assert_it_gets_there(agent: AgentProcess, site: RunnableSite) -> None:
    """Assert that the agent, started once more, ends at release 2 with every byte as signed."""
    try:
        agent.start()
        agent.wait_until(lambda: _version(agent) == 2, "release 2 committed")
        assert agent.stop() == 0
    finally:
        agent.kill()
    assert agent.status()["bad"] == []
    assert agent.holds(site.releases[2])


def _version(agent: AgentProcess) -> int | None:
    status = agent.status()
    return status["version"] if status["state"] == "running" else None


@pytest.mark.parametrize("event", EVENTS)
def test_killed_at_a_named_event_the_agent_ends_at_the_new_release(
    scene: tuple[Path, RunnableSite, SiteServer], tmp_path: Path, event: str
) -> None:
    agent = restarted(scene, tmp_path / "agent")
    try:
        agent.start().kill_at(event)
    finally:
        agent.kill()
    assert agent.command("check").returncode == 0
    assert_it_gets_there(agent, scene[1])


def test_killed_at_random_moments_the_agent_ends_at_the_new_release(
    scene: tuple[Path, RunnableSite, SiteServer], tmp_path: Path
) -> None:
    chance = random.Random(11)
    agent = restarted(scene, tmp_path / "agent")
    for _ in range(4):
        mark = agent.mark()
        agent.start()
        try:
            agent.wait_for("watch.ready", after=mark)
            lines = chance.randrange(0, 6)
            limited = agent.mark() + lines
            agent.wait_until(lambda limit=limited: agent.mark() >= limit or _version(agent) == 2, "more lines")
        finally:
            agent.kill()
        assert agent.command("check").returncode == 0
        if agent.status()["trial"] and agent.status()["trial"]["attempts_left"] == 0:
            break  # the next start would rightly give the release up
    assert_it_gets_there(agent, scene[1])


def test_a_release_that_kills_the_agent_each_time_is_given_up_after_its_attempts(
    scene: tuple[Path, RunnableSite, SiteServer], tmp_path: Path
) -> None:
    agent = restarted(scene, tmp_path / "agent")
    try:
        for _ in range(3):
            mark = agent.mark()
            agent.start().wait_for("attempts_left", after=mark)
            agent.kill()
        mark = agent.mark()
        agent.start().wait_for("slot.rolled_back", after=mark)
        agent.wait_for("update.refused", after=mark)
        assert agent.stop() == 0
    finally:
        agent.kill()
    status = agent.status()
    assert (status["version"], [bad["version"] for bad in status["bad"]]) == (1, [2])
