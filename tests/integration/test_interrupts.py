"""Ctrl-C, whenever it comes after a program's first import: one line and exit code 130, no traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import EXIT_INTERRUPTED

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60
# Sends the signal when a module is about to be imported: the moments that a person's finger finds by chance.
AT_IMPORT = """
import os, runpy, signal, sys
class Finger:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finger())
sys.argv = [{program!r}, *{arguments!r}]
runpy.run_module({program!r}, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("program", "arguments", "module"),
    [
        ("agent", ["--help"], "agent.command_line"),
        ("agent", ["status", "--config", "none.toml"], "agent.commands"),
        ("agent", ["status", "--config", "none.toml"], "numpy"),
        ("edge_relay", ["--config", "none.toml"], "edge_relay.command_line"),
        ("edge_relay", ["--config", "none.toml"], "asyncio"),
        ("edge_relay", ["--config", "none.toml"], "aiohttp"),
        ("cloud_tools", ["--version"], "click"),
        ("cloud_tools", ["dataset", "stats", "none"], "cloud_tools.datasets.dataset"),
        ("modelpatch", ["--version"], "modelpatch.cli"),
        ("modelpatch", ["--version"], "argparse"),
        ("modelpatch", ["--version"], "modelpatch.format.header"),
        ("demo", ["--version"], "demo.command_line"),
        ("demo", ["--version"], "rich.console"),
    ],
)
def test_ctrl_c_while_a_program_loads_is_one_line(program: str, arguments: list[str], module: str) -> None:
    code = AT_IMPORT.format(program=program, arguments=arguments, module=module)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, f"{program}: interrupted\n")


@pytest.mark.parametrize("program", ["agent", "edge_relay", "cloud_tools", "modelpatch"])
def test_nothing_slow_is_loaded_before_a_program_can_be_interrupted(program: str) -> None:
    code = f"import sys; had = set(sys.modules); import {program}.__main__; print(*sorted(set(sys.modules) - had))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    allowed = {program, f"{program}.__main__", "contract", "contract.errors", "collections.abc", "errno"}
    assert set(done.stdout.split()) <= allowed


@pytest.mark.parametrize("program", ["agent", "edge_relay", "cloud_tools", "modelpatch", "demo"])
def test_a_program_tells_its_version(program: str) -> None:
    command = [sys.executable, "-m", program, "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0
    assert "0.1.0" in done.stdout


def test_a_site_that_is_served_ends_in_order_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "timestamp.json").write_text("{}")
    command = [sys.executable, "-m", "cloud_tools", "serve", "--site", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("serving ")
        server.send_signal(signal.SIGINT)
        _, stderr = server.communicate(timeout=LIMIT_S)
    assert (server.returncode, stderr.splitlines()[-1]) == (EXIT_INTERRUPTED, "cloud_tools: interrupted")
