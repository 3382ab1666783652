"""Owns starting real MQTT brokers for demo and tests: the embedded one, and Mosquitto; on a free port of loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

KINDS = ("iotcore", "mosquitto")
START_LIMIT_S = 20.0


class Broker:
    """One broker process on 127.0.0.1; ``start`` after ``kill`` takes the same port again."""

    def __init__(self, kind: str, folder: Path, port: int) -> None:
        self.kind, self.folder, self.port = kind, folder, port
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The broker as the programs' configuration writes it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> "Broker":
        """Start the process and wait until it accepts connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        limit = time.monotonic() + START_LIMIT_S
        while not accepts(self.port):
            if self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"{self.kind} did not start: {(self.folder / 'broker.log').read_text()[-500:]}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End the process as a service manager would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process with SIGKILL: nothing of its memory is saved."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            self.process = None

    def _command(self) -> list[str]:
        if self.kind == "iotcore":
            return [sys.executable, "-m", "iotcore", "--listen", "127.0.0.1", "--port", str(self.port)]
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\npersistence true\n"
            f"persistence_location {self.folder}/\nautosave_interval 1\nautosave_on_changes true\n"
        )
        # Mosquitto gives up root for a user who may not write to a folder of ours.
        if os.geteuid() == 0:
            configuration.write_text(configuration.read_text() + "user root\n")
        return [find_mosquitto(), "-c", str(configuration)]


def find_mosquitto() -> str:
    """Return the path of the Mosquitto daemon; Debian puts it into a folder that only root has in PATH."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError("mosquitto is not installed: apt-get install mosquitto")
    return found


def start_broker(kind: str, folder: Path, port: int = 0) -> Broker:
    """Start a broker of ``kind`` with its files in ``folder``; port 0 takes a free one."""
    return Broker(kind, folder, port or free_port()).start()


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Return whether somebody accepts connections on ``port`` of loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
