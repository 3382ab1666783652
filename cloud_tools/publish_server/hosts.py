"""Owns the names that a server answers to. Refuses any other: a page elsewhere could lead a browser here by one."""

import contextlib
import socket

from cloud_tools.publish_server.config import ServerConfig

ALL = ("0.0.0.0", "::")
ELSEWHERE = ("192.0.2.1", 9)  # an address for documents: nothing is sent there, but the way to it is looked up


def allowed_hosts(config: ServerConfig) -> list[str]:
    """Return loopback, this machine's name and address where it listens on all, and what the configuration names."""
    name = socket.gethostname()
    here = {"localhost", "127.0.0.1", "[::1]", name, f"{name}.local"}
    listen = _own_address() if config.listen in ALL else config.listen
    written = f"[{listen}]" if ":" in listen else listen
    return sorted({*here, written, config.host, *config.hosts} - {""})


def _own_address() -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(ELSEWHERE)
        address: str = probe.getsockname()[0]
        return address
    return ""
