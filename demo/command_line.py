"""Owns the command line of the demo: ``python -m demo``; see demo.story for what it does."""

import argparse
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from contract import __version__
from contract.errors import InputError, run_command
from demo.brokers import KINDS
from demo.house import House, HouseSettings
from demo.programs import console_script


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every step came to pass, 1 with one clear line otherwise."""
    return run_command("demo", lambda: run(parse(arguments)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Run the whole loop on real video.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--speed", type=float, default=2.0, help="times the video's own pace (default 2)")
    parser.add_argument("--out", type=Path, default=Path("demo-run"), help="folder for report and logs")
    parser.add_argument("--broker", choices=KINDS, default="iotcore", help="which MQTT broker to start")
    parser.add_argument("--keep", action="store_true", help="keep the house's folder for a look at its files")
    chosen = parser.parse_args(arguments)
    if not 0.5 <= chosen.speed <= 20:
        parser.error("--speed must be from 0.5 to 20")
    return chosen


def run(chosen: argparse.Namespace) -> int:
    """Run the story in a folder of its own, write the report, and leave nothing else behind."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: none of the house's programs is left behind
        signal.signal(number, signal.default_int_handler)
    console = Console(highlight=False)
    begin = time.monotonic()
    inputs = fetch_inputs(console)
    out = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    settings = HouseSettings(video=Path(inputs["video"]), pace=chosen.speed, broker=chosen.broker)
    folder = Path(tempfile.mkdtemp(prefix="kinwatch-demo-"))
    try:
        tell(console, folder, settings, Path(inputs["labels"]), out, begin)
    finally:
        if (folder / "logs").exists():
            shutil.copytree(folder / "logs", out / "logs", dirs_exist_ok=True)
        if chosen.keep:
            console.print(f"The house is kept in {folder}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def tell(console: Console, folder: Path, settings: HouseSettings, labels: Path, out: Path, begin: float) -> None:
    """Run the story and show it."""
    from demo.report import show, write_report
    from demo.story import Teller

    with console.status("starting") as status, House(folder, settings) as house:

        def say(text: str) -> None:
            console.print(f"[dim]{time.monotonic() - begin:6.1f} s[/dim]  {text}")
            status.update(text)

        story = Teller(house, settings.video, labels, say).tell()
        say("writing the report")
    figures = write_report(story, settings, labels, out)
    show(story, figures, out, console)


def fetch_inputs(console: Console) -> dict[str, str]:
    """Fetch the sample video and the weights, or find them in the cache."""
    with console.status("fetching the sample video and the weights (once, about 270 MB)"):
        command = [console_script("cloud_tools"), "inputs", "--json"]
        # In a group of its own: Ctrl-C at the terminal is ours, and one line; `run` ends the child then.
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, process_group=0)
    if done.returncode:
        raise InputError("the inputs could not be fetched; the line above says why")
    return dict(json.loads(done.stdout))
