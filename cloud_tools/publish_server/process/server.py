"""Owns a whole server on one machine: prepared, started, told to whoever waits, ended. Refuses to load Django."""

import errno
import http.client
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from cloud_tools.publish_server.config import PREFIX, ServerConfig, read_config
from cloud_tools.publish_server.process.supervisor import Child, Supervisor, environment_of, module
from cloud_tools.publish_server.process.web import SOCKET
from contract import sd_notify
from contract.errors import EXIT_CONFIG, ConfigError, PeerError
from contract.events import log_event

logger = logging.getLogger("cloud_tools.server")
BACKLOG = 512
READY_LIMIT_S = 60.0
PORT_LIMIT_S = 3.0  # a server that was killed a moment ago has children that end now
HERE = "cloud_tools.publish_server.process"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(overrides: dict[str, str], ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` gets the URL once pages are answered. ``overrides``: see ``config``.

    Raises:
        ConfigError: the environment says what cannot be.
        PeerError: the address cannot be listened on, or a process ended again and again.
        KeyboardInterrupt: it was SIGINT; everything ended in order all the same.
    """
    environment = environment_of({PREFIX + name: value for name, value in overrides.items()})
    config = read_config(environment)
    _prepare(environment)
    with _listening(config) as listener:
        listener.set_inheritable(True)
        environment[SOCKET] = str(listener.fileno())
        if config.listen not in LOOPBACK and not config.https:
            log_event(logger, "server.without_tls", logging.WARNING, listen=config.listen)
        with Supervisor(_children(config, listener.fileno()), environment).running() as supervisor:
            _wait_until_ready(listener)
            ready(config.url or _url(listener))
            sd_notify.notify("READY=1")
            supervisor.watch()


def _prepare(environment: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-m", f"{HERE}.first_start"], env=environment, check=False)
    if done.returncode:
        error = ConfigError if done.returncode == EXIT_CONFIG else PeerError
        raise error("the server could not be prepared; the reason is above")


def _children(config: ServerConfig, descriptor: int) -> list[Child]:
    children = [Child("web server", module(f"{HERE}.web"), (descriptor,)), Child("worker", module(f"{HERE}.worker"))]
    if not config.broker:
        words = ("--listen", config.listen, "--port", str(config.broker_port), "--log-level", "CRITICAL")
        children.append(Child("broker", module("iotcore", *words)))
    return children


def _listening(config: ServerConfig) -> socket.socket:
    """Return the socket, made here so that the port is known, and stays ours when the web server begins anew."""
    until_s = time.monotonic() + PORT_LIMIT_S
    while True:
        try:
            return _bound(config)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until_s:
                where = f"{config.listen}:{config.port}"
                raise PeerError(f"cannot listen on {where}: {error.strerror or error}") from error
        time.sleep(0.1)


def _bound(config: ServerConfig) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in config.listen else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.listen, config.port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _wait_until_ready(listener: socket.socket) -> None:
    host, port = _reachable(listener)
    connection = http.client.HTTPConnection(host, port, timeout=READY_LIMIT_S)
    try:
        connection.request("GET", "/api/health", headers={"X-Forwarded-Proto": "https"})
        status = connection.getresponse().status
    except OSError as error:
        raise PeerError(f"the web server did not answer within {READY_LIMIT_S:.0f} s") from error
    finally:
        connection.close()
    if status != http.client.OK:
        raise PeerError(f"the web server answers {status}; the reason is above")


def _reachable(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def _url(listener: socket.socket) -> str:
    host, port = _reachable(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
