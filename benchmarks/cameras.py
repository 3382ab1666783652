"""Measures how the agent takes cameras that fail, as docs/vision.md reports it: the real program and servers.

    python -m benchmarks.cameras [--json] [--reconnects 500] [--loop-minutes 10] [--pace 6]

Every harm is done to a camera by HTTP (Motion JPEG) and, where it can be, by RTSP: when it is noticed, and how long
after its end the agent has live pictures again. Then connections are hung up one after another, and last a video runs
in a loop: threads, descriptors, children and resident memory of the agent must not grow. The agent has a model and no
relay and no broker. Lines go to stderr while it runs, which takes about half an hour and less than one core.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from agent import live
from agent.camera.state import read_status
from cloud_tools.inputs import sample_video
from tests.agent_process import TINY, AgentProcess, make_runnable
from tests.camera_servers import CameraServer
from tests.site_builder import SiteBuilder

HOLD_S = 8.0  # a harm lasts so long after it was noticed: a pause long enough to be let go of
LIMIT_S = 60.0
BAR_S = 15.0
SHOWN = ("garbage", "silent", "hangup", "frozen", "black")
MEGABYTE = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Harm:
    """What was done to a camera; seconds until the agent said so, and from its end until live pictures."""

    camera: str
    harm: str
    noticed_s: float | None
    back_s: float


@dataclass(frozen=True)
class Load:
    """What the agent's process has: memory in MB; ``cpu_s`` since its start; ``at`` counts what is done meanwhile."""

    at: float
    threads: int
    descriptors: int
    children: int
    resident_mb: float
    cpu_s: float


Finding = TypeVar("Finding", Harm, Load)


@dataclass(frozen=True)
class Found:
    """All of it."""

    harms: list[Harm]
    reconnects: list[Load]
    loop: list[Load]


class RunningAgent:
    """The agent on one source."""

    def __init__(self, process: AgentProcess) -> None:
        self._process = process
        assert process.process
        self._pid = process.process.pid

    @property
    def frames(self) -> int:
        """Frames that it looked at."""
        facts = live.ask(self._process.data)
        return int(facts["frames"]) if facts else 0

    @property
    def camera(self) -> tuple[str, int]:
        """The camera's state and restarts."""
        told = read_status(self._process.data) or {}
        return str(told.get("state")), int(told.get("restarts", 0))

    def until(self, wanted: Callable[[], bool]) -> float:
        """Return how many seconds it took until ``wanted``."""
        begin_s = time.monotonic()
        while not wanted():
            if self._process.process is None or self._process.process.poll() is not None:
                raise SystemExit("the agent has ended:\n" + "\n".join(self._process.lines[-20:]))
            if time.monotonic() - begin_s > LIMIT_S:
                raise SystemExit(f"not within {LIMIT_S} s: {self.camera}\n" + "\n".join(self._process.lines[-20:]))
            time.sleep(0.05)
        return time.monotonic() - begin_s

    def until_live(self) -> float:
        """Return how many seconds it took until three live frames more."""
        before = self.frames
        return self.until(lambda: self.camera[0] == "live" and self.frames > before + 2)

    def load(self, at: float) -> Load:
        """Return what its process has now."""
        place = Path(f"/proc/{self._pid}")
        fields = (place / "stat").read_text().rpartition(") ")[2].split()
        tasks = [task.name for task in (place / "task").iterdir()]
        children = [pid for task in tasks for pid in (place / "task" / task / "children").read_text().split()]
        ticks = os.sysconf("SC_CLK_TCK")
        return Load(
            at=at,
            threads=len(tasks),
            descriptors=len(list((place / "fd").iterdir())),
            children=len(children),
            resident_mb=round(int((place / "statm").read_text().split()[1]) * PAGE / MEGABYTE, 1),
            cpu_s=round((int(fields[11]) + int(fields[12])) / ticks, 1),
        )


@contextmanager
def agent_on(folder: Path, camera: str) -> Iterator[RunningAgent]:
    """Run the agent with the lines ``camera`` as its table [camera]."""
    site = SiteBuilder(folder / "site")
    process = AgentProcess(folder / "agent", "http://127.0.0.1:9", site.root, TINY)
    process.config.write_text(
        f'id = "porch"\ndata = "data"\n[camera]\n{camera}\n[mqtt]\nbroker = "mqtt://127.0.0.1:9"\n'
        f'[relay]\nurl = "http://127.0.0.1:9"\nroot = "{site.root}"\n'
        "[trial]\ncrops = 3\nseconds = 1.0\nprobation_s = 1.0\n"
    )
    make_runnable(folder / "bundle", 1)
    done = process.command("install", "--bundle", str(folder / "bundle"))
    if done.returncode:
        raise SystemExit(done.stderr)
    process.start()
    try:
        running = RunningAgent(process)
        running.until(lambda: running.frames > 20)
        yield running
    finally:
        process.stop()


def harms(agent: RunningAgent, server: CameraServer) -> Iterator[Harm]:
    """Do everything to ``server`` that can be done to it."""
    yield harm(agent, server.kind, "killed", server.kill, server.start)
    yield harm(agent, server.kind, "paused", server.pause, server.resume)
    if server.kind == "rtsp":
        return
    for shows in SHOWN:
        yield harm(agent, server.kind, shows, partial(server.show, shows), partial(server.show, "live"))
    for size in ("120x160", "640x480", "160x120"):
        server.show(size)
        yield tell(Harm(server.kind, f"changed to {size}", None, round(agent.until_live(), 1)))


def harm(agent: RunningAgent, camera: str, name: str, do: Callable[[], object], undo: Callable[[], object]) -> Harm:
    """Do one harm, and undo it."""
    do()
    noticed_s = agent.until(lambda: agent.camera[0] != "live")
    time.sleep(HOLD_S)
    undo()
    return tell(Harm(camera, name, round(noticed_s, 1), round(agent.until_live(), 1)))


def reconnects(agent: RunningAgent, server: CameraServer, count: int) -> list[Load]:
    """Hang up ``count`` connections after five pictures each; return the load between two of them, and at last."""
    begin, loads = agent.camera[1], list[Load]()
    server.show("hiccup")
    for done in range(1, count + 1):
        agent.until(lambda wanted=begin + done: agent.camera[1] >= wanted)  # type: ignore[misc]
        if done % max(1, count // 10) == 0:
            loads.append(tell(agent.load(done)))
    server.show("live")
    agent.until_live()
    return [*loads, tell(agent.load(count))]


def looped(agent: RunningAgent, minutes: float, pace: float) -> list[Load]:
    """Return the load each half minute while a video runs; ``at`` is in minutes of video."""
    loads, begin_s = [tell(agent.load(0))], time.monotonic()
    while (passed_s := time.monotonic() - begin_s) < minutes * 60:
        time.sleep(min(30.0, minutes * 60 - passed_s + 0.1))
        loads.append(tell(agent.load(round((time.monotonic() - begin_s) * pace / 60, 1))))
    return loads


def grown(loads: list[Load]) -> float:
    """Return by how many MB resident memory grows over the last two thirds of ``loads``, on a straight line."""
    settled = loads[len(loads) // 3 :]
    at, resident = [load.at for load in settled], [load.resident_mb for load in settled]
    return round(float(np.polyfit(at, resident, 1)[0]) * (at[-1] - at[0]), 1)


def tell(found: Finding) -> Finding:
    """Say what was found, and return it."""
    print(found, file=sys.stderr, flush=True)
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def measure(options: argparse.Namespace) -> Found:
    """Measure everything."""
    found, hung_up = list[Harm](), list[Load]()
    for kind in ("rtsp", "http"):
        with _folder() as folder, CameraServer(kind) as server, agent_on(folder, f'source = "{server.url}"') as agent:
            found += harms(agent, server)
            hung_up += reconnects(agent, server, options.reconnects) if kind == "http" else []
    camera = f'source = "{sample_video()}"\nloop = true\npace = {options.pace}'
    with _folder() as folder, agent_on(folder, camera) as agent:
        return Found(found, hung_up, looped(agent, options.loop_minutes, options.pace))


def table(found: Found) -> str:
    """Return the findings as Markdown."""
    lines = ["| camera | what happens to it | noticed after s | live again after s |", "|---|---|---|---|"]
    lines += [f"| {one.camera} | {one.harm} | {one.noticed_s or '-'} | {one.back_s} |" for one in found.harms]
    lines += _load_lines("connections hung up", found.reconnects)
    return "\n".join(lines + _load_lines("minutes of looped video", found.loop))


def _load_lines(what: str, loads: list[Load]) -> list[str]:
    head = f"| {what} | threads | descriptors | children | resident MB | CPU s |"
    form = "| {at:g} | {threads} | {descriptors} | {children} | {resident_mb} | {cpu_s} |"
    rows = [form.format(**asdict(load)) for load in loads]
    grows = f"resident memory grows by {grown(loads)} MB over the last two thirds"
    return ["", head, "|---|---|---|---|---|---|", *rows, "", grows]


def main() -> int:
    """Measure, print, and fail where the agent is not back in time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--reconnects", type=int, default=500)
    parser.add_argument("--loop-minutes", type=float, default=10.0, help="of the clock on the wall")
    parser.add_argument("--pace", type=float, default=6.0, help="times real time, of the looped video")
    options = parser.parse_args()
    found = measure(options)
    print(json.dumps(asdict(found), indent=1) if options.json else table(found))
    return int(any(one.back_s > BAR_S for one in found.harms))


if __name__ == "__main__":
    sys.exit(main())
