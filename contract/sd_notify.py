"""Owns the readiness and watchdog datagram to systemd (sd_notify(3)); refuses to do more than send it.

The protocol is one datagram to ``$NOTIFY_SOCKET``. A library of the name ``systemd`` cannot be used from a checkout:
our folder of unit files has that name.
"""

import contextlib
import os
import socket

from contract.checks import whole_number


def notify(*assignments: str) -> bool:
    """Send ``assignments`` such as ``READY=1``; return whether a service manager was there to be told.

    A manager that vanished, or does not read, is no error and costs no wait: the program's own work goes on.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer,
    ):
        peer.setblocking(False)
        peer.connect(address)
        peer.sendall("\n".join(assignments).encode())
        return True
    return False


def watchdog_interval_s() -> float | None:
    """Return how often to feed the watchdog, in seconds: half of what systemd set, or None when it set none."""
    period_us = whole_number(os.environ.get("WATCHDOG_USEC", ""))
    if not period_us:
        return None
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return period_us / 2e6
