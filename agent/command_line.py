"""Owns the agent's command line: what can be said, and to which command it leads; refuses logic of its own.

agent run|status|install|rollback|allow|pause|check|doctor --config agent.toml
Exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage, 78 wrong configuration, 130 interrupted.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from contract import __version__
from contract.errors import run_command

# Everything heavy is imported by the command that needs it: `agent --help` must answer at once on a small board.
COMMANDS = {
    "run": "watch, name who is seen, and keep the model current",
    "status": "say whether an agent runs here, what it sees, what the slots hold, and how the last update went",
    "install": "install the newest release, or a bundle from a folder, while no agent runs",
    "rollback": "go back to the release in the other slot, while no agent runs",
    "allow": "forget that a release is bad, so that it may be taken again, while no agent runs",
    "pause": "look at nobody for a while, or until told; an agent that runs obeys within a second",
    "check": "check the configuration and every file in the slots",
    "doctor": "look at everything that `run` needs, and say what is wrong and what to do",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = parser().parse_args(arguments)
    return run_command("agent", lambda: _run(options))


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    top = argparse.ArgumentParser(prog="agent", description="A camera that knows who is at home.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        if name in ("status", "check", "doctor"):
            command.add_argument("--json", action="store_true", help="one JSON object on stdout")
        if name == "install":
            command.add_argument("--bundle", type=Path, metavar="FOLDER", help="a bundle on this machine, not signed")
        if name == "allow":
            command.add_argument("release", type=int, metavar="VERSION", help="of the release, as `status` tells it")
        if name == "pause":
            command.add_argument("length", nargs="+", metavar="HOW LONG", help="30m, 2h, until 07:00, on, or off")
    return top


def _run(options: argparse.Namespace) -> int:
    from agent import commands
    from agent.config import load

    config = load(options.config)
    match options.command:
        case "run":
            return commands.run(config)
        case "status":
            return commands.status(config, as_json=options.json)
        case "install":
            return commands.install(config, options.bundle)
        case "rollback":
            return commands.rollback(config)
        case "allow":
            return commands.allow(config, options.release)
        case "pause":
            return commands.pause(config, options.length)
        case "check":
            return commands.check(config, as_json=options.json)
        case _:
            return commands.doctor(config, as_json=options.json)
