"""Owns the command line of the relay: arguments, logging, exit codes. Refuses any other work."""

import argparse
import asyncio
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from contract import __version__
from contract.config import load_config
from contract.errors import ConfigError, describe_os_error, run_command
from contract.events import start_logging
from edge_relay.config import RelayConfig

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
    """Run the relay; return its exit code: 0 for SIGTERM, 130 for SIGINT, 1, 2 or 78 as everywhere."""
    options = parser().parse_args(arguments)
    start_logging()
    if options.json_logs == "yes":
        logging.getLogger().handlers[0].setFormatter(JsonLines())
    code = run_command("edge_relay", lambda: serve(options.config))
    _end_hung_threads(code)
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(
        prog="edge_relay", description="Serve a publish site's verified releases to the devices of one place."
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    made.add_argument("--config", type=Path, required=True, help="relay.toml")
    made.add_argument("--json-logs", choices=("yes", "no"), default="no", help="log JSON lines (default: no)")
    return made


def serve(path: Path) -> None:
    """Run a relay with the configuration file ``path`` until SIGTERM or SIGINT.

    Raises:
        KeyboardInterrupt: it was SIGINT; everything ended in order all the same.
        ConfigError: the file, or the root metadata that it names, cannot be used.
        KinwatchError: anything else that a person can act on.
        OSError: the disk or the network refused.
    """
    from edge_relay.relay import Relay, sole_user

    config = load_config(path, RelayConfig)
    check_root(config.site.root)
    with sole_user(config.data):
        relay = Relay(config)
        loop = asyncio.new_event_loop()
        try:
            ended_by = loop.run_until_complete(relay.run())
        finally:
            # Not asyncio.run: it waits for helper threads, and one may hang in a connect to a broker.
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
    if ended_by is signal.SIGINT:
        raise KeyboardInterrupt


def check_root(path: Path) -> None:
    """Check that ``path`` is root metadata; ConfigError names what is wrong."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root

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
