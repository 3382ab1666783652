"""Owns what follows when a task of the relay ends by a fault: one event with traceback, a restart, at last the end.

Refuses to restart for ever: a task that spends its budget ends the process with exit code 1, and the service manager
starts it afresh. Failures that are expected (no site, no broker, a full disk) are dealt with where they arise.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from contract.errors import KinwatchError, one_line

logger = logging.getLogger("edge_relay.supervision")
MOST_RESTARTS = 5
WITHIN_S = 600.0  # restarts longer ago than this do not count
# Doubled with each restart that counts: a minute in all, so that ten ends of the process take longer than the ten
# minutes in which the service manager would give up (StartLimitIntervalSec in systemd/kinwatch-relay.service).
FIRST_PAUSE_S = 2.0


async def supervised(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` until it returns or is cancelled; after a fault log ``task.failed`` and run it again.

    Raises:
        KinwatchError: it failed more than ``MOST_RESTARTS`` times within ``WITHIN_S`` seconds, or says itself, by an
            error of ours, that this process cannot go on.
    """
    restarts: deque[float] = deque()
    while True:
        try:
            return await work()
        except KinwatchError:
            raise
        except Exception as error:  # nobody else notices that a task has died
            logger.exception("task.failed name=%s", name)
            while restarts and time.monotonic() - restarts[0] > WITHIN_S:
                restarts.popleft()
            if len(restarts) == MOST_RESTARTS:
                text = f"the task {name} failed {MOST_RESTARTS + 1} times: {type(error).__name__}: {one_line(error)}"
                raise KinwatchError(text) from error
            restarts.append(time.monotonic())
            await asyncio.sleep(FIRST_PAUSE_S * 2.0 ** (len(restarts) - 1))
