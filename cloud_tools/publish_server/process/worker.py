"""Owns a worker's process: it works until SIGTERM or SIGINT, and ends after the job at hand. Refuses to serve."""

import datetime as dt
import signal
import sys
import threading
from types import FrameType

from cloud_tools.publish_server.process.django_setup import set_up
from contract.errors import run_command


def work() -> None:
    """Do jobs until told to end.

    Raises:
        ConfigError: the environment says what cannot be.
    """
    config = set_up()
    # Models can be imported only now.
    from cloud_tools.publish_server.jobs.duties import Duties
    from cloud_tools.publish_server.jobs.handlers import Handlers
    from cloud_tools.publish_server.jobs.worker import Worker

    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    Worker(Handlers(config).by_kind(), dt.timedelta(seconds=config.lease_s), Duties(config)).run(stop)


def main() -> int:
    """Work; return the exit code."""
    return run_command("cloud_tools", work)


if __name__ == "__main__":
    sys.exit(main())
