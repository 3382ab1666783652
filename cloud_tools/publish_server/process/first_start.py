"""Owns the process before the others: it prepares a server, tells a person of it, and ends. Refuses to serve.

What it needs is not resident afterwards.
"""

import sys

from cloud_tools.publish_server.process.django_setup import set_up
from contract.errors import run_command


def main() -> int:
    """Prepare; return the exit code."""
    return run_command("cloud_tools", _run)


def _run() -> None:
    config = set_up()
    # Models can be imported only now.
    from cloud_tools.publish_server.process.preparation import prepare

    for line in prepare(config):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
