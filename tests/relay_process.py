"""Owns running the real relay program for tests: its configuration, its process, its events."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LIMIT_S = 20.0
ROOT = Path(__file__).resolve().parent.parent


class RelayProcess:
    """``edge_relay`` as a process, with its data in ``folder``; ``start`` again after ``kill`` or ``stop``.

    ``prefix`` is a command that runs it (with a resource limit, say).
    """

    def __init__(
        self,
        folder: Path,
        site_url: str,
        root: Path,
        broker_url: str = "mqtt://127.0.0.1:9",
        *,
        poll_s: float = 600.0,
        cache_bytes: int = 50_000_000,
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self.config = folder / "relay.toml"
        self.config.write_text(
            f'name = "home"\ndata = "data"\n[http]\nlisten = "127.0.0.1"\nport = 0\n'
            f'[site]\nurl = "{site_url}"\nroot = "{root}"\nmodels = ["household"]\npoll_s = {poll_s}\n'
            f'[mqtt]\nbroker = "{broker_url}"\n[cache]\nbytes = {cache_bytes}\n'
        )
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self._prefix = prefix
        self._news = threading.Condition()

    def start(self, arguments: Sequence[str] = ()) -> "RelayProcess":
        """Start and wait until it listens."""
        mark = len(self.lines)
        self.process = subprocess.Popen(
            [*self._prefix, sys.executable, "-m", "edge_relay", "--config", str(self.config), *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        line = self.wait_for("http.listening", after=mark)
        self.port = int(re.findall(r"port=(\d+)", line)[0])
        return self

    @property
    def url(self) -> str:
        """Root of the relay's HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def wait_for(self, text: str, *, after: int = 0) -> str:
        """Wait for a log line with ``text``, counted from line ``after``; return it."""
        until_s = time.monotonic() + LIMIT_S
        with self._news:
            while True:
                for line in self.lines[after:]:
                    if text in line:
                        return line
                if not self._news.wait(max(0.0, until_s - time.monotonic())):
                    raise AssertionError(f"no {text!r} within {LIMIT_S:g} s; the log:\n" + "\n".join(self.lines))

    def events(self, event: str) -> list[str]:
        """Return the log lines of ``event`` so far."""
        with self._news:
            return [line for line in self.lines if f" {event} " in f"{line} "]

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, dict[str, str]]:
        """GET ``path``; return status, body and headers, whatever the status is."""
        request = urllib.request.Request(f"{self.url}/{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
                return response.status, response.read(), dict(response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), dict(error.headers)

    def stats(self) -> dict[str, Any]:
        """GET /stats."""
        value: dict[str, Any] = json.loads(self.get("stats")[1])
        return value

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Ask again and again until ``condition`` holds."""
        until_s = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < until_s, f"not within {LIMIT_S:g} s: {what}\n" + "\n".join(self.lines)
            threading.Event().wait(0.02)

    def stop(self) -> int:
        """End it as a service manager does; return the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            code = self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
        self.process = None
        return code

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()
