"""Owns the web server's process: gunicorn with threads, on a socket that it is given. Refuses to open one itself."""

import os
import sys

from gunicorn.app.base import BaseApplication

from cloud_tools.publish_server.config import read_config
from contract.checks import whole_number
from contract.errors import ConfigError, run_command

SOCKET = "KINWATCH_SOCKET"  # the descriptor to listen on
STUCK_S = 60  # a worker whose main loop is silent for so long is replaced
GRACEFUL_S = 10  # for requests that are under way when it is told to end
KEEPALIVE_S = 15


class Web(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """One worker with threads: what is slow is done by the other processes."""

    def load_config(self) -> None:
        """Set what is not gunicorn's default."""
        descriptor = whole_number(os.environ.get(SOCKET, ""))
        if descriptor is None:
            raise ConfigError(f"{SOCKET} names no socket")
        chosen = {
            "bind": f"fd://{descriptor}",
            "worker_class": "gthread",
            "workers": 1,
            "threads": read_config(os.environ).threads,
            "timeout": STUCK_S,
            "graceful_timeout": GRACEFUL_S,
            "keepalive": KEEPALIVE_S,
            "loglevel": "warning",
            "control_socket_disable": True,
        }
        for name, value in chosen.items():
            self.cfg.set(name, value)

    def load(self) -> object:
        """Return the application; only the worker loads it."""
        from cloud_tools.publish_server.wsgi import make_application

        return make_application()


def main() -> int:
    """Serve until told to end."""
    sys.argv[1:] = []  # gunicorn would read options there
    return run_command("cloud_tools", Web().run)


if __name__ == "__main__":
    sys.exit(main())
