"""Owns the first moment of the program, from which on Ctrl-C is one line; refuses all else.

What the command line says is read in ``edge_relay.command_line``.
"""

import sys
from collections.abc import Sequence

from contract.errors import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return run_command("edge_relay", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    from edge_relay.command_line import main as run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
