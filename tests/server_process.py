"""Owns running the real publish server for tests: `cloud_tools serve` and its children, killed and started."""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cloud_tools.publish_server.config import PREFIX
from contract.trust import TrustedSite
from tests.brokers import free_port
from tests.sites import REPOSITORY, command

START_LIMIT_S = 60.0
PASSWORD = "four-words-for-the-tests"


class ServerProcess:
    """One server with everything in ``folder/data``; ``start`` after ``kill`` takes the same ports."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.data = folder, folder / "data"
        self.port, self.broker_port = free_port(), free_port()
        ours = {"BROKER_PORT": str(self.broker_port), "LEASE_S": "1", "PASSWORD": PASSWORD, **environment}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "DJANGO_"))}
        self._environment = {**inherited, **{PREFIX + name: value for name, value in ours.items()}}
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_file(self) -> Path:
        """The first person's token."""
        return self.data / "publish.token"

    @property
    def token(self) -> str:
        """The first person's token."""
        return self.token_file.read_text().strip()

    def start(self) -> "ServerProcess":
        """Start, and wait until pages are answered."""
        self.process = subprocess.Popen(
            command("serve", "--data", self.data, "--port", self.port),
            cwd=REPOSITORY,
            env={**self._environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(self.process, said), daemon=True).start()
        until_s = time.monotonic() + START_LIMIT_S
        while not (line := said.get(timeout=max(0.1, until_s - time.monotonic()))).startswith("serving "):
            assert line, "it ended:\n" + "\n".join(self.lines[-30:])
        return self

    def _read(self, process: "subprocess.Popen[str]", said: "queue.SimpleQueue[str]") -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                self.lines.append(line.rstrip("\n"))
                said.put(line)
        said.put("")

    def pid_of(self, module: str) -> int:
        """Return the process of ours that runs ``module``; of the web server's two, the one that answers."""
        assert self.process
        found = [pid for pid in _below(self.process.pid) if module in _words(pid)]
        return max(found)

    def resident_kb(self) -> int:
        """Return the memory of all processes; what several share counts once."""
        assert self.process
        everything = [self.process.pid, *_below(self.process.pid)]
        lines = [Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in everything]
        return sum(int(line.split()[1]) for found in lines for line in found if line.startswith("Pss:"))

    def kill_worker(self) -> None:
        """SIGKILL the worker; the server starts another."""
        os.kill(self.pid_of("process.worker"), signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL the server; its children end with it."""
        assert self.process
        children = _below(self.process.pid)
        self.process.kill()
        self.process.wait(10)
        wait_until(lambda: not any(_words(pid) for pid in children), "the children's end")

    def stop(self) -> int:
        """End it as a service manager does; return the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        finally:
            self.process.kill()
            self.process = None

    def client(self, name: str = "device") -> TrustedSite:
        """Return a device's view of the site that this server serves."""
        return TrustedSite(self.url, self.data / "site-keys" / "root.json", self.folder / name)


def _below(pid: int) -> list[int]:
    """Return the children of a process, theirs, and so on."""
    try:
        children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(below for child in children for below in _below(child))]


def _words(pid: int) -> str:
    """Return the command line of a process, nothing when it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def memory_kb(pid: int, field: str = "VmHWM") -> int:
    """Return a figure of a process's memory, by default the most that was ever resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {field}")


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    """Ask again and again until ``condition`` holds."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, f"not within {limit_s:g} s: {what}"
        threading.Event().wait(0.02)
