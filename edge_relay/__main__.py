"""Owns the command line of the relay: arguments, logging, exit codes. Refuses any other work."""

import argparse
import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from contract.config import load_config
from contract.errors import ConfigError, describe_os_error, missing_package, run_command
from contract.events import start_logging
from edge_relay.config import RelayConfig

try:
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root

    from edge_relay.relay import Relay, sole_user
except ModuleNotFoundError as missing:
    sys.exit(missing_package("edge_relay", missing))

LEAVE_S = 0.5  # for helper threads to end by themselves


class JsonLines(logging.Formatter):
    """One JSON object a line, for a log collector."""

    def format(self, record: logging.LogRecord) -> str:
        """Return ``record`` as JSON: time (seconds since 1970), level, logger, event, text."""
        message = record.getMessage()
        fields = {"time": round(record.created, 3), "level": record.levelname, "logger": record.name}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps({**fields, "event": message.split(" ", 1)[0], "text": message}, ensure_ascii=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the relay; return the exit code (0 ended by a signal, 1 failed, 2 wrong usage, 78 wrong configuration)."""
    parser = argparse.ArgumentParser(
        prog="edge_relay", description="Serve a publish site's verified releases to the devices of one place."
    )
    parser.add_argument("--config", type=Path, required=True, help="relay.toml")
    parser.add_argument("--json-logs", choices=("yes", "no"), default="no", help="log JSON lines (default: no)")
    options = parser.parse_args(arguments)
    start_logging()
    if options.json_logs == "yes":
        logging.getLogger().handlers[0].setFormatter(JsonLines())
    code = run_command("edge_relay", lambda: serve(options.config))
    _end_hung_threads(code)
    return code


def serve(path: Path) -> None:
    """Run a relay with the configuration file ``path`` until SIGTERM or SIGINT.

    Raises:
        ConfigError: the file, or the root metadata that it names, cannot be used.
        KinwatchError: anything else that a person can act on.
        OSError: the disk or the network refused.
    """
    config = load_config(path, RelayConfig)
    check_root(config.site.root)
    with sole_user(config.data):
        relay = Relay(config)
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(relay.run())
        finally:
            # Not asyncio.run: it waits for helper threads, and one may hang in a connect to a broker.
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def check_root(path: Path) -> None:
    """Check that ``path`` is root metadata; ConfigError names what is wrong."""
    try:
        kind = Metadata.from_bytes(path.read_bytes()).signed.type
    except OSError as error:
        raise ConfigError(f"site.root: {describe_os_error(error)}") from error
    except RepositoryError as error:
        raise ConfigError(f"site.root: {path} is no TUF metadata") from error
    if kind != Root.type:
        raise ConfigError(f"site.root: {path} is {kind} metadata, not root")


def _end_hung_threads(code: int) -> None:
    """End the process now when a helper thread waits for a peer: Python would join it, for nothing."""
    until_s = time.monotonic() + LEAVE_S
    helpers = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in helpers:
        if not thread.daemon:
            thread.join(max(0.0, until_s - time.monotonic()))
    if any(thread.is_alive() and not thread.daemon for thread in helpers):
        logging.shutdown()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
