"""Owns running the programs as processes and keeping them up, as systemd would; refuses to know what they do."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

RESTART_DELAY_S = 0.3


class Program:
    """One long-running process, started again whenever it ends without being told to (Restart=always)."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name, self.log = name, log
        self.restarts: list[tuple[float, int]] = []  # when (monotonic seconds), and the exit code that it followed
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> "Program":
        """Start the process and its keeper."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._wanted.set()
        self._spawn()
        threading.Thread(target=self._keep, name=f"keep-{self.name}", daemon=True).start()
        return self

    def stop(self, limit_s: float = 20.0) -> int:
        """End it with SIGTERM, by SIGKILL after ``limit_s``; return the exit code."""
        self._wanted.clear()
        with self._lock:
            process = self._process
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut or the kernel would; its keeper starts it again."""
        with self._lock:
            if self._process is not None:
                self._process.send_signal(signal.SIGKILL)

    def tail(self, lines: int = 15) -> str:
        """Return the end of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _spawn(self) -> None:
        with self.log.open("ab") as log, self._lock:
            if self._wanted.is_set():
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=program_environment()
                )

    def _keep(self) -> None:
        while self._wanted.is_set():
            process = self._process
            assert process is not None
            code = process.wait()
            if not self._wanted.is_set():
                return
            self.restarts.append((time.monotonic(), code))
            time.sleep(RESTART_DELAY_S)
            self._spawn()


def program_environment() -> dict[str, str]:
    """Return the environment of a program: one thread for numeric libraries, as on a small board."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def console_script(name: str) -> str:
    """Return the path of an installed command of ours, beside the running interpreter."""
    return str(Path(sys.executable).parent / name)
