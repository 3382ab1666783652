"""The relay as a service: readiness, watchdog, signals, exit codes."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.errors import EXIT_INTERRUPTED
from tests.relay_process import LIMIT_S, ROOT, RelayProcess
from tests.site_builder import SiteBuilder, frozen, sha256
from tests.site_server import serving


@pytest.fixture
def site(tmp_path: Path) -> SiteBuilder:
    built = SiteBuilder(tmp_path / "site")
    built.publish(1, {"head.tflite": frozen("head", 500_000)})
    return built


def run_once(config: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edge_relay", "--config", str(config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_systemd_is_told_of_readiness_of_a_turning_loop_and_of_the_end(
    site: SiteBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, serving(site.folder) as server:
        manager.bind(address)
        manager.settimeout(LIMIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        relay = RelayProcess(tmp_path / "relay", server.url, site.root).start()
        try:
            heard = [manager.recv(100).decode() for _ in range(3)]
            assert heard == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
            assert relay.get("health")[0] == 200
            assert relay.stop() == 0
        finally:
            relay.kill()
        while heard[-1] != "STOPPING=1":
            heard.append(manager.recv(100).decode())


def test_a_stop_does_not_wait_for_a_site_that_hangs(site: SiteBuilder, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        relay = RelayProcess(tmp_path / "relay", url, site.root).start()
        with silent.accept()[0]:
            started_s = time.monotonic()
            assert relay.stop() == 0
            assert time.monotonic() - started_s < 3


def test_a_stop_does_not_wait_for_a_broker_whose_address_swallows_packets(site: SiteBuilder, tmp_path: Path) -> None:
    # A listener whose queue is full drops further connections without a word, as a firewall does.
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        url = f"mqtt://127.0.0.1:{full.getsockname()[1]}"
        relay = RelayProcess(tmp_path / "relay", "http://127.0.0.1:9", site.root, url).start()
        relay.wait_for("site.failed")
        assert relay.process is not None
        tasks = Path(f"/proc/{relay.process.pid}/task")
        relay.wait_until(lambda: len(list(tasks.iterdir())) > 1, "a helper thread connects")
        assert not relay.events("broker.lost")
        started_s = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - started_s < 3


def test_a_stop_in_the_middle_of_a_fetch_keeps_the_part_for_the_next_start(site: SiteBuilder, tmp_path: Path) -> None:
    digest = sha256(frozen("head", 500_000))
    with serving(site.folder) as server:
        server.stall_after[f"content/{digest}"] = 200_000
        relay = RelayProcess(tmp_path / "relay", server.url, site.root).start()
        part = relay.data / "parts" / f"{digest}.part"
        try:
            relay.wait_until(lambda: part.exists() and part.stat().st_size == 200_000, "the part has come")
            assert relay.stop() == 0
            mark = len(relay.lines)
            relay.start().wait_for("release.announced", after=mark)
            assert server.ranges == ["bytes=200000-"]
            assert sha256(relay.get(f"content/{digest}")[1]) == digest
        finally:
            relay.kill()


def test_json_logs_are_one_object_a_line(site: SiteBuilder, tmp_path: Path) -> None:
    with serving(site.folder) as server:
        relay = RelayProcess(tmp_path / "relay", server.url, site.root).start(["--json-logs", "yes"])
        relay.wait_for("release.announced")
        assert relay.stop() == 0
    events = [json.loads(line)["event"] for line in relay.lines]
    assert events[0] == "http.listening"
    assert events[-1] == "relay.stopped"


def test_a_wrong_configuration_is_one_line_and_exit_code_78(site: SiteBuilder, tmp_path: Path) -> None:
    relay = RelayProcess(tmp_path / "relay", "http://127.0.0.1:9", site.root)
    relay.config.write_text(relay.config.read_text().replace("poll_s", "pol_s"))
    ended = run_once(relay.config)
    assert (ended.returncode, ended.stderr.count("\n")) == (78, 1)
    assert "did you mean poll_s?" in ended.stderr
    relay.config.write_text(relay.config.read_text().replace("pol_s", "poll_s").replace("1.root.json", "none.json"))
    ended = run_once(relay.config)
    assert (ended.returncode, ended.stderr.count("\n")) == (78, 1)
    assert "none.json" in ended.stderr


def test_a_port_in_use_is_one_line_and_exit_code_1(site: SiteBuilder, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        relay = RelayProcess(tmp_path / "relay", "http://127.0.0.1:9", site.root)
        port = taken.getsockname()[1]
        relay.config.write_text(relay.config.read_text().replace("port = 0", f"port = {port}"))
        ended = run_once(relay.config)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert str(port) in ended.stderr


def test_a_second_relay_in_the_same_folder_is_refused(site: SiteBuilder, tmp_path: Path) -> None:
    relay = RelayProcess(tmp_path / "relay", "http://127.0.0.1:9", site.root).start()
    try:
        ended = run_once(relay.config)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert "in use" in ended.stderr
        assert relay.get("health")[0] == 200
    finally:
        relay.kill()


def test_a_data_folder_that_cannot_be_made_is_one_line_and_exit_code_1(site: SiteBuilder, tmp_path: Path) -> None:
    relay = RelayProcess(tmp_path / "relay", "http://127.0.0.1:9", site.root)
    relay.data.write_bytes(b"a file is in the way")
    ended = run_once(relay.config)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert str(relay.data) in ended.stderr


def test_ctrl_c_ends_it_as_cleanly_and_says_so(site: SiteBuilder, tmp_path: Path) -> None:
    relay = RelayProcess(tmp_path / "relay", "http://127.0.0.1:9", site.root).start()
    assert relay.process is not None
    relay.process.send_signal(signal.SIGINT)
    assert relay.process.wait(LIMIT_S) == EXIT_INTERRUPTED
    relay.wait_for("relay.stopped")
    relay.wait_for("edge_relay: interrupted")
