"""Owns running the real agent program for tests: a video to watch, releases that run, its process and its events."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import modelpatch
from agent.status import status
from agent.vision.classifier import load_classifier
from contract.manifest import NAME, Manifest, load_bundle
from contract.trust import VerifiedRelease
from tests.accelerators import add_compiled_head
from tests.devices import release_of
from tests.site_builder import SiteBuilder, sha256

LIMIT_S = 40.0
ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "vectors" / "bundle_tiny"
STEEPNESS = np.float32(6.0)  # the head's weights are this, its negative, or 0


def write_video(path: Path, frames: int = 75) -> Path:
    """Write a video of a red coat that walks to and fro in front of a grey wall: 320x240, 25 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (320, 240))
    wall = np.random.default_rng(5).integers(96, 112, (240, 320, 1), np.uint8).repeat(3, axis=2)
    for number in range(frames):
        picture = wall.copy()
        left = int(20 + 230 * abs((number / frames * 2) % 2 - 1))
        picture[80:200, left : left + 50] = (30, 30, 200)
        writer.write(picture)
    writer.release()
    return path


def make_runnable(folder: Path, version: int, *, kind: str = "good") -> VerifiedRelease:
    """Write release ``version`` of a model that runs; its head differs a little from version to version.

    ``kind``: ``good``; ``compiled`` (good, and its head is there for an accelerator too); ``fails self-test`` (other
    answers are expected than it gives); ``fails in trial`` (right on the grey self-test pictures, not a number on a
    coloured crop).
    """
    shutil.copytree(TINY, folder)
    steepness = np.float32(3e38) if kind == "fails in trial" else STEEPNESS + np.float32(version) / 64
    head = (folder / "head.tflite").read_bytes()
    for sign in (1, -1):
        assert head.count((STEEPNESS * sign).tobytes()) == 6
        head = head.replace((STEEPNESS * np.float32(sign)).tobytes(), (steepness * np.float32(sign)).tobytes())
    (folder / "head.tflite").write_bytes(head)
    manifest = load_bundle(folder, verify=False)
    inputs = np.full_like(np.load(folder / manifest.selftest.file)["inputs"], 128)
    if kind != "fails in trial":
        inputs[0, :, :, 0] = 200
    np.savez(folder / manifest.selftest.file, inputs=inputs)
    write_manifest(folder, manifest, version, head)
    answers = load_classifier(folder).run(inputs)
    if kind == "fails self-test":
        answers = np.roll(answers, 1, axis=1)
    rows = tuple(tuple(float(value) for value in row) for row in answers)
    manifest = load_bundle(folder)
    expected = replace(manifest.selftest, expected=rows)
    (folder / NAME).write_bytes(replace(manifest, selftest=expected).to_bytes())
    if kind == "compiled":
        add_compiled_head(folder)
    return release_of(folder)


def write_manifest(folder: Path, manifest: Manifest, version: int, head: bytes) -> None:
    """Write release.json for the files as they are now."""
    selftest = (folder / manifest.selftest.file).read_bytes()
    stages = (manifest.stages[0], replace(manifest.stages[1], sha256=sha256(head), size=len(head)))
    tested = replace(manifest.selftest, sha256=sha256(selftest), size=len(selftest))
    changed = replace(manifest, model="household", version=version, stages=stages, selftest=tested)
    (folder / NAME).write_bytes(changed.to_bytes())


class RunnableSite:
    """A signed site of models that run; every release has a patch of the head from the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builder = SiteBuilder(folder / "site")
        self.releases: dict[int, VerifiedRelease] = {}

    def publish(self, version: int, *, kind: str = "good") -> VerifiedRelease:
        """Publish release ``version``."""
        place = self.folder / str(version)
        release = make_runnable(place, version, kind=kind)
        parts = {name: (place / name).read_bytes() for name in release.target.files}
        patches = []
        if version - 1 in self.releases:
            base = (self.folder / str(version - 1) / "head.tflite").read_bytes()
            made = modelpatch.diff_bytes(base, parts["head.tflite"], effort="fast")
            patches = [("head.tflite", sha256(base), made)]
        self.builder.publish(version, parts, patches, manifest=release.manifest)
        self.releases[version] = release
        return release


class AgentProcess:
    """``agent`` as a process with its data in ``folder``; ``start`` again after ``kill`` or ``stop``."""

    def __init__(
        self,
        folder: Path,
        site_url: str,
        root: Path,
        video: Path,
        broker_url: str = "mqtt://127.0.0.1:9",
        *,
        loop: bool = True,
        poll_s: float = 0.3,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.data, self.config = folder, folder / "data", folder / "agent.toml"
        self.config.write_text(
            f'id = "porch"\ndata = "data"\n[camera]\nsource = "{video}"\nloop = {str(loop).lower()}\npace = 2.0\n'
            f'[relay]\nurl = "{site_url}"\nroot = "{root}"\npoll_s = {poll_s}\n[mqtt]\nbroker = "{broker_url}"\n'
            "[trial]\nattempts = 3\ncrops = 3\nseconds = 1.0\nprobation_s = 0.3\n"
        )
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._news = threading.Condition()

    def command(self, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another command of the agent to its end."""
        command = [sys.executable, "-m", "agent", name, "--config", str(self.config), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def start(self, environment: dict[str, str] | None = None) -> "AgentProcess":
        """Start ``agent run``."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(self.config)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        return self

    def wait_for(self, text: str, *, after: int = 0) -> str:
        """Wait for a log line with ``text``, counted from line ``after``; return it."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [line for line in self.lines[after:] if text in line]
            return bool(found)

        self.wait_until(look, text)
        return found[0]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until ``condition``, which is asked at every log line, holds."""
        limit = time.monotonic() + LIMIT_S
        with self._news:
            while not condition():
                left = limit - time.monotonic()
                assert left > 0, f"no {what!r} within {LIMIT_S:g} s; the log:\n" + "\n".join(self.lines[-60:])
                self._news.wait(min(left, 0.5))

    def mark(self) -> int:
        """Return the number of the next log line."""
        with self._news:
            return len(self.lines)

    def kill_at(self, text: str) -> None:
        """SIGKILL as soon as a new log line has ``text``."""
        self.wait_for(text, after=self.mark())
        self.kill()

    def kill(self) -> None:
        """SIGKILL, now."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as a service manager does; return the exit code."""
        return self._end(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it ends by itself; return the exit code."""
        assert self.process is not None
        return self.process.wait(LIMIT_S)

    def _end(self, number: int) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            return self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
            self.process.wait(LIMIT_S)
            self.process = None

    def status(self) -> dict[str, Any]:
        """Return what `agent status --json` says, without the half second that a process costs."""
        value: dict[str, Any] = json.loads(json.dumps(status(self.data)))
        return value

    def holds(self, release: VerifiedRelease) -> bool:
        """Return whether the active slot has exactly the signed files of ``release``."""
        folder = self.data / "slots" / self.status()["active"]
        wanted = {name: entry.sha256 for name, entry in release.target.files.items()} | {NAME: release.digest}
        return {path.name: sha256(path.read_bytes()) for path in folder.iterdir()} == wanted

    def events(self, event: str) -> list[str]:
        """Return the log lines of ``event`` so far."""
        with self._news:
            return [line for line in self.lines if re.search(rf" {re.escape(event)}( |$)", line)]

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
