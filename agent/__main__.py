"""Owns the agent's command line and wires its parts together; refuses to hold logic of its own.

agent run|status|install|rollback|check|doctor --config agent.toml
Exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage, 78 wrong configuration.
"""

import argparse
import sys
from pathlib import Path

from contract.errors import run_command

# Everything heavy is imported by the command that needs it: `agent --help` must answer at once on a small board.
COMMANDS = {
    "run": "watch, name who is seen, and keep the model current",
    "status": "say which release runs, what the slots hold, and how the last update went",
    "install": "install the newest release, or a bundle from a folder, while no agent runs",
    "rollback": "go back to the release in the other slot, while no agent runs",
    "check": "check the configuration and every file in the slots",
    "doctor": "look at clock, disk, camera, relay, broker and runtime, and say what is wrong",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    return run_command("agent", lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent", description="A camera that knows who is at home.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        if name in ("status", "check", "doctor"):
            command.add_argument("--json", action="store_true", help="one JSON object on stdout")
        if name == "install":
            command.add_argument("--bundle", type=Path, metavar="FOLDER", help="a bundle on this machine, not signed")
    return parser


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
        case "check":
            return commands.check(config, as_json=options.json)
        case _:
            return commands.doctor(config, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
