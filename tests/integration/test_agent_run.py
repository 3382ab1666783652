"""The real agent program: it watches, updates while it watches, and says in one line what is wrong."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent import doctor
from agent.config import load
from contract import topics
from contract.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_INTERRUPTED, PeerError
from contract.manifest import NAME
from contract.messages import ReleaseNotice
from tests.agent_process import LIMIT_S, ROOT, AgentProcess, RunnableSite, write_video
from tests.brokers import Broker
from tests.mqtt_peers import Listener
from tests.site_server import SiteServer, serving
from tests.vision_scenes import write_video as write_frames


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red coat that walks to and fro."""
    return write_video(tmp_path_factory.mktemp("video") / "video.avi")


@pytest.fixture
def site(tmp_path: Path) -> RunnableSite:
    """A site with release 1."""
    site = RunnableSite(tmp_path / "publisher")
    site.publish(1)
    return site


@pytest.fixture
def server(site: RunnableSite) -> Iterator[SiteServer]:
    """It, served."""
    with serving(site.folder / "site") as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path, site: RunnableSite, server: SiteServer, video: Path) -> Iterator[AgentProcess]:
    """An agent that is not started yet; no broker is there."""
    made = AgentProcess(tmp_path / "agent", server.url, site.builder.root, video)
    yield made
    made.kill()


def one_line(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """Assert that a command failed with ``code`` and one clear line; return the line."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_releases_are_tried_and_committed_while_the_agent_watches(agent: AgentProcess, site: RunnableSite) -> None:
    agent.start().wait_for("slot.committed")
    mark = agent.mark()
    release = site.publish(2)
    agent.wait_for("slot.committed", after=mark)
    assert "patch=1" in agent.events("update.planned")[-1]
    status = json.loads(agent.command("status", "--json").stdout)
    assert (status["state"], status["version"], status["bad"]) == ("running", 2, [])
    assert status["live"]["camera"] == "watching"
    assert status["live"]["fps"] > 0
    assert "running, since" in agent.command("status").stdout
    assert agent.stop() == 0
    status = json.loads(agent.command("status", "--json").stdout)
    assert (status["state"], status["live"], status["version"]) == ("not running", None, 2)
    assert "release 2" in agent.command("status").stdout
    assert status["last_update"]["state"] == "committed"
    assert agent.holds(release)
    sightings = [json.loads(line) for line in (agent.data / "sightings.jsonl").read_text().splitlines()]
    assert "red" in {sighting["label"] for sighting in sightings}


@pytest.mark.parametrize(
    ("kind", "event"), [("fails self-test", "selftest.failed"), ("fails in trial", "slot.rolled_back")]
)
def test_a_bad_release_is_refused_and_the_old_one_goes_on(
    agent: AgentProcess, site: RunnableSite, server: SiteServer, kind: str, event: str
) -> None:
    agent.start().wait_for("slot.committed")
    mark = agent.mark()
    site.publish(2, kind=kind)
    agent.wait_for(event, after=mark)
    fetched = contents(server)
    agent.wait_for("update.refused", after=mark)  # it has been offered again, and was left alone
    assert contents(server) == fetched
    mark = agent.mark()
    site.publish(3)
    agent.wait_for("slot.committed", after=mark)
    assert agent.stop() == 0
    status = agent.status()
    assert (status["version"], [bad["version"] for bad in status["bad"]]) == (3, [2])


def contents(server: SiteServer) -> int:
    """Return how many requests for contents there were."""
    return sum(count for path, count in server.requests.items() if path.startswith("content/"))


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    """It."""
    listener = Listener(broker)
    yield listener
    listener.close()


def test_the_broker_hears_of_status_update_and_sightings_and_a_notice_wakes_the_agent(
    tmp_path: Path, site: RunnableSite, server: SiteServer, video: Path, broker: Broker, listener: Listener
) -> None:
    # A poll is an hour away: only the relay's word can bring release 2 in time.
    agent = AgentProcess(tmp_path / "agent", server.url, site.builder.root, video, broker.url, poll_s=3600.0)
    agent.start()
    try:
        listener.wait_for(topics.status_topic("porch"), lambda value: value == {"v": 1, "status": "online"})
        agent.wait_for("slot.committed")
        site.publish(2)
        notice = topics.edge_release_topic("home", "household", "stable")
        listener.client.publish(notice, ReleaseNotice(2, 0.2).encode(), qos=1, retain=True)
        done = listener.wait_for(
            topics.update_topic("porch"), lambda value: value["state"] == "committed" and value["to"] == 2
        )
        assert (done["from"], done["error"]) == (1, None)
        assert done["bytes"] > 0
        listener.wait_for(topics.home_topic("porch", "sightings"), lambda value: value["label"] == "red")
        listener.wait_for(topics.home_topic("porch", "motion"), lambda value: value["motion"] is True)
        assert agent.stop() == 0
        listener.wait_for(topics.status_topic("porch"), lambda value: value == {"v": 1, "status": "offline"})
    finally:
        agent.kill()


def test_an_agent_that_is_killed_is_offline_by_its_last_will(
    tmp_path: Path, site: RunnableSite, server: SiteServer, video: Path, broker: Broker, listener: Listener
) -> None:
    agent = AgentProcess(tmp_path / "agent", server.url, site.builder.root, video, broker.url).start()
    try:
        listener.wait_for(topics.status_topic("porch"), lambda value: value == {"v": 1, "status": "online"})
    finally:
        agent.kill()
    listener.wait_for(topics.status_topic("porch"), lambda value: value == {"v": 1, "status": "offline"})


def test_a_broker_that_goes_and_comes_back_costs_one_line_and_no_news(
    tmp_path: Path, site: RunnableSite, server: SiteServer, video: Path, broker: Broker
) -> None:
    agent = AgentProcess(tmp_path / "agent", server.url, site.builder.root, video, broker.url).start()
    try:
        agent.wait_for("broker.connected")
        broker.kill()
        agent.wait_for("broker.lost")
        mark = agent.mark()
        site.publish(2)
        agent.wait_for("version=2", after=mark)
        agent.wait_for("slot.committed", after=mark)
        broker.start()
        agent.wait_for("broker.connected", after=mark)
        assert len(agent.events("broker.lost")) == 1
        listener = Listener(broker)
        listener.wait_for(topics.update_topic("porch"), lambda value: value["to"] == 2)
        listener.close()
    finally:
        agent.kill()


def test_doctor_gives_up_on_a_broker_that_never_answers(agent: AgentProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIMIT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        text = re.sub(r"mqtt://[^\"]*", f"mqtt://127.0.0.1:{mute.getsockname()[1]}", agent.config.read_text())
        agent.config.write_text(text)
        begin = time.monotonic()
        with pytest.raises(PeerError, match="no answer"):
            doctor._broker(load(agent.config))
        assert time.monotonic() - begin < LIMIT_S / 2


def test_a_broker_that_is_down_from_the_start_costs_one_line(agent: AgentProcess) -> None:
    agent.start().wait_for("slot.committed")
    assert agent.stop() == 0
    assert len(agent.events("broker.lost")) == 1


def test_the_service_manager_hears_of_the_first_frame_and_of_frames_alone(
    agent: AgentProcess, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT_S)
        agent.start({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"})
        assert manager.recv(1000).split() == [b"READY=1", b"WATCHDOG=1"]
        assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3


def test_an_absent_camera_is_waited_for_without_a_restart_and_spends_no_attempt(
    agent: AgentProcess, tmp_path: Path
) -> None:
    assert agent.command("install").returncode == 0
    watch_camera(agent, "rtsp://127.0.0.1:9/camera")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT_S)
        agent.start({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"})
        assert manager.recv(1000).split() == [b"READY=1", b"WATCHDOG=1"]
        assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    assert "refused" in agent.wait_for("camera.lost")
    assert agent.status()["camera"]["state"] == "lost"
    assert agent.stop() == 0
    assert (len(agent.events("camera.lost")), len(agent.events("camera.decoder"))) == (1, 1)
    assert agent.status()["trial"]["attempts_left"] == 3


def test_a_picture_that_is_black_never_commits_a_trial(agent: AgentProcess, tmp_path: Path) -> None:
    watch_camera(agent, str(write_frames(tmp_path / "black.avi", [np.zeros((48, 64, 3), np.uint8)] * 50)))
    agent.start().wait_for("camera.black")
    assert agent.stop() == 0
    assert agent.events("slot.committed") == []


def watch_camera(agent: AgentProcess, source: str) -> None:
    """Let ``agent`` watch another source."""
    agent.config.write_text(re.sub(r'source = ".*"', f'source = "{source}"', agent.config.read_text()))


def test_a_film_that_ends_ends_the_agent_well(
    tmp_path: Path, site: RunnableSite, server: SiteServer, video: Path
) -> None:
    agent = AgentProcess(tmp_path / "agent", server.url, site.builder.root, video, loop=False)
    assert agent.start().wait() == 0
    agent.kill()


def test_a_file_that_is_no_video_is_one_line_and_spends_no_attempt(agent: AgentProcess, tmp_path: Path) -> None:
    assert agent.command("install").returncode == 0
    before = (agent.data / "state.json").read_bytes()
    (tmp_path / "notes.avi").write_bytes(b"this is no video" * 100)
    text = re.sub(r'source = ".*"', f'source = "{tmp_path / "notes.avi"}"', agent.config.read_text())
    agent.config.write_text(text)
    line = [text for text in agent.command("run").stderr.splitlines() if text.startswith("agent:")]
    assert len(line) == 1
    assert "not a video" in line[0]
    assert agent.command("run").returncode == EXIT_FAILED
    assert (agent.data / "state.json").read_bytes() == before


def test_an_unknown_key_stops_the_start_and_names_the_nearest(agent: AgentProcess) -> None:
    agent.config.write_text(agent.config.read_text().replace("poll_s", "pol_s"))
    line = one_line(agent.command("run"), EXIT_CONFIG)
    assert "relay.pol_s" in line
    assert "poll_s" in line
    assert not agent.data.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "porch"', 'id = "../porch"', "id"),
        ("http://", "ftp://", "url"),
        ("mqtt://", "tcp://", "broker"),
        ('source = "', 'source = "rtsp://cam:p@ss:w/rd#1@camera/', "user and password"),
        ('source = "', 'source = "rtsp://:99999', "source"),
        ("1.root.json", "no.json", "root"),
        ("1.root.json", "timestamp.json", "is no root metadata"),
        ("attempts = 3", "attempts = 0", "attempts"),
        ('id = "porch"', "", "id"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_exit_code_78(
    agent: AgentProcess, old: str, new: str, said: str
) -> None:
    text = agent.config.read_text()
    assert old in text
    agent.config.write_text(text.replace(old, new))
    assert said in one_line(agent.command("check"), EXIT_CONFIG)


def test_a_bundle_with_a_missing_file_is_one_line_and_changes_nothing(
    agent: AgentProcess, site: RunnableSite, tmp_path: Path
) -> None:
    shutil.copytree(site.folder / "1", tmp_path / "usb")
    (tmp_path / "usb" / "head.tflite").unlink()
    line = one_line(agent.command("install", "--bundle", str(tmp_path / "usb")), EXIT_FAILED)
    assert "head.tflite" in line
    assert one_line(agent.command("install", "--bundle", str(tmp_path)), EXIT_FAILED).count(NAME) == 1
    assert agent.status()["version"] is None


def test_a_bundle_from_a_folder_runs_without_a_site(
    agent: AgentProcess, site: RunnableSite, server: SiteServer
) -> None:
    server.stop()
    done = agent.command("install", "--bundle", str(site.folder / "1"))
    assert done.returncode == 0, done.stderr
    assert "release 1 is in slot a" in done.stdout
    agent.start().wait_for("slot.committed")
    assert agent.stop() == 0
    assert agent.holds(site.releases[1])


def test_a_site_with_a_wrong_signature_is_one_line_and_nothing_is_lost(
    agent: AgentProcess, tmp_path: Path, server: SiteServer
) -> None:
    stranger = RunnableSite(tmp_path / "stranger")
    stranger.publish(2)
    server.folder = stranger.folder / "site"
    assert "not trusted" in one_line(agent.command("install"), EXIT_FAILED)
    mark = agent.mark()
    agent.start().wait_for("update.failed", after=mark)
    agent.wait_for("watch.ready")
    assert agent.stop() == 0
    assert agent.status()["version"] is None


def test_while_an_agent_runs_install_and_rollback_are_refused(agent: AgentProcess) -> None:
    agent.start().wait_for("watch.ready")
    for command in ("install", "rollback", "run"):
        done = agent.command(command)
        assert done.returncode == EXIT_FAILED
        assert done.stderr.strip().splitlines()[-1].startswith("agent: an agent already runs on")
    assert agent.command("check").returncode == 0


def test_rolling_back_by_hand_brings_the_release_before_and_keeps_the_other_away(
    agent: AgentProcess, site: RunnableSite
) -> None:
    assert "no other slot" in one_line(agent.command("rollback"), EXIT_FAILED)
    agent.start().wait_for("slot.committed")
    mark = agent.mark()
    site.publish(2)
    agent.wait_for("slot.committed", after=mark)
    assert agent.stop() == 0
    assert "release 1" in agent.command("rollback").stdout
    mark = agent.mark()
    agent.start().wait_for("update.refused", after=mark)
    assert agent.stop() == 0
    assert agent.status()["version"] == 1


def test_a_roll_back_by_hand_has_a_way_back(agent: AgentProcess, site: RunnableSite) -> None:
    assert "no release" not in one_line(agent.command("allow", "1"), EXIT_FAILED)
    agent.start().wait_for("slot.committed")
    mark = agent.mark()
    site.publish(2)
    agent.wait_for("slot.committed", after=mark)
    assert "already runs" in agent.command("allow", "1").stderr
    assert agent.stop() == 0
    assert "`agent allow 2`" in agent.command("rollback").stdout
    assert "remembered as bad: `agent allow 2` first" in one_line(agent.command("rollback"), EXIT_FAILED)
    assert "(these are: 2)" in one_line(agent.command("allow", "7"), EXIT_FAILED)
    assert agent.command("allow", "2").returncode == 0
    assert "release 2 in slot b runs" in agent.command("rollback").stdout
    assert agent.command("allow", "1").returncode == 0
    assert agent.status()["bad"] == []


def test_an_update_takes_a_release_that_is_allowed_again(agent: AgentProcess, site: RunnableSite) -> None:
    agent.start().wait_for("slot.committed")
    mark = agent.mark()
    site.publish(2)
    agent.wait_for("slot.committed", after=mark)
    assert agent.stop() == 0
    assert agent.command("rollback").returncode == 0
    assert agent.command("allow", "2").returncode == 0
    mark = agent.mark()
    agent.start().wait_for("slot.committed", after=mark)
    assert agent.stop() == 0
    assert (agent.status()["version"], agent.status()["bad"]) == (2, [])


def test_while_paused_nobody_is_looked_at_no_trial_goes_on_and_frames_advance(
    agent: AgentProcess, tmp_path: Path
) -> None:
    assert "until `agent pause off`" in agent.command("pause", "on").stdout
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT_S)
        agent.start({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"})
        agent.wait_for("pause.begun")
        agent.wait_for("model.swapped")  # the trial has begun, and a second of frames would pass it
        for _ in range(12):
            assert b"WATCHDOG=1" in manager.recv(1000)
        assert (agent.events("trial.passed"), agent.status()["state"]) == ([], "trial")
        assert agent.status()["live"]["paused"]
        assert not (agent.data / "sightings.jsonl").exists()
        mark = agent.mark()
        assert agent.command("pause", "off").stdout == "the pause is over\n"
        agent.wait_for("slot.committed", after=mark)
    assert agent.stop() == 0
    assert agent.command("pause", "off").stdout == "there was no pause\n"
    assert "is no pause" in one_line(agent.command("pause", "soon"), EXIT_FAILED)


def test_ctrl_c_ends_it_in_order_in_one_line_with_130(agent: AgentProcess) -> None:
    agent.start().wait_for("slot.committed")
    assert agent._end(signal.SIGINT) == EXIT_INTERRUPTED
    assert [line for line in agent.lines if line.startswith("agent: ")] == ["agent: interrupted"]
    assert not any("Traceback" in line for line in agent.lines)


def test_check_finds_a_bit_that_turned(agent: AgentProcess) -> None:
    agent.start().wait_for("slot.committed")
    assert agent.stop() == 0
    assert agent.command("check").returncode == 0
    head = agent.data / "slots" / "a" / "head.tflite"
    head.write_bytes(head.read_bytes()[:-1] + b"\xff")
    assert "head.tflite" in one_line(agent.command("check"), EXIT_FAILED)
    found = json.loads(agent.command("check", "--json").stdout)
    assert (found["ok"], len(found["problems"])) == (False, 1)
    model = json.loads(agent.command("doctor", "--json").stdout)[-1]
    assert (model["name"], model["ok"]) == ("model", False)
    assert "head.tflite" in model["text"]
    mark = agent.mark()
    agent.start().wait_for("slot.committed", after=mark)  # fetched again, and tried again
    assert agent.stop() == 0
    assert agent.command("check").returncode == 0


def test_doctor_finds_each_thing_that_is_wrong(agent: AgentProcess, server: SiteServer) -> None:
    findings = {found["name"]: found for found in json.loads(agent.command("doctor", "--json").stdout)}
    assert {name for name, found in findings.items() if not found["ok"]} == {"broker"}
    server.stop()
    done = agent.command("doctor")
    assert done.returncode == EXIT_FAILED
    failing = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert failing == ["relay", "broker"]


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, agent.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\nprint(list(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("[")[2].replace("'", "").replace("]", "").replace(" ", "").strip().split(","))
    assert "argparse" in loaded
    assert not loaded & {"numpy", "cv2", "tuf", "paho", "urllib3", "ai_edge_litert"}


def test_wrong_usage_is_exit_code_2() -> None:
    done = subprocess.run([sys.executable, "-m", "agent", "dance"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 2
