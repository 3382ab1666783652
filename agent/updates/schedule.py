"""Owns when updates are made: at the start, by polling, and when the relay tells of a release; all with jitter.

Refuses to make two at once, and to make one during a trial. A failure is tried again sooner than the next poll, with
waits that double; nothing that goes wrong in an update ends the thread.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from agent.updates.disk import disk_errors
from agent.updates.installer import Installer
from agent.updates.plan import Reason, Refusal
from contract.errors import KinwatchError, ReleaseError
from contract.events import log_event
from contract.messages import ReleaseNotice

logger = logging.getLogger("agent.schedule")
FIRST_RETRY_S = 2.0
START_JITTER_S = 2.0  # boards of one house that get power back together do not all ask at once


class UpdateSchedule(threading.Thread):
    """Runs ``installer`` when it is time; a daemon thread: the next start completes a killed update."""

    def __init__(
        self, installer: Installer, poll_s: float, *, jitter: Callable[[float, float], float] = random.uniform
    ) -> None:
        super().__init__(name="update", daemon=True)
        self._installer = installer
        self._poll_s = poll_s
        self._jitter = jitter
        self._changed = threading.Condition()
        self._due = time.monotonic() + jitter(0, min(START_JITTER_S, poll_s))
        self._ending = False
        self._failures = 0

    def notice(self, notice: ReleaseNotice) -> None:
        """The relay says that it has a release: look within the notice's jitter, unless that release runs here."""
        record = self._installer.slots.record
        held = record.held(record.running) if record.running else None
        if held is None or held.version != notice.version:
            log_event(logger, "update.noticed", version=notice.version, jitter_s=notice.jitter_s)
            self.wake(self._jitter(0, notice.jitter_s))

    def wake(self, within_s: float = 0.0) -> None:
        """Look for a release within ``within_s`` seconds, or sooner where that was planned."""
        with self._changed:
            self._due = min(self._due, time.monotonic() + within_s)
            self._changed.notify()

    def end(self) -> None:
        """Make no further update; one under way is left to the end of the process."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    def run(self) -> None:
        """Wait, update, plan the next, until ``end``."""
        while self._wait_until_due():
            next_s = self._attempt()
            with self._changed:
                # A wake-up that came during the update has set `_due` to before now and stays.
                self._due = min(self._due, time.monotonic() + next_s)

    def _wait_until_due(self) -> bool:
        with self._changed:
            while not self._ending and self._due > time.monotonic():
                self._changed.wait(self._due - time.monotonic())
            self._due = float("inf")
            return not self._ending

    def _attempt(self) -> float:
        """Make one update; return in how many seconds to look again."""
        if self._installer.slots.record.trial:
            return self._poll()  # the end of the trial wakes this thread
        try:
            with disk_errors():
                refusal = self._installer.install(self._installer.newest)
        except ReleaseError:
            return self._poll()  # told, and remembered as bad: trying again would change nothing
        except KinwatchError as error:
            return self._failed(error)
        except Exception as error:  # a fault of ours in one update must not end all later ones
            logger.exception("update.fault")
            return self._failed(f"{type(error).__name__}: {error}")
        self._failures = 0
        disk = isinstance(refusal, Refusal) and refusal.reason is Reason.DISK
        return min(self._poll(), 600.0) if disk else self._poll()

    def _failed(self, error: KinwatchError | str) -> float:
        retry_s = min(self._poll_s, FIRST_RETRY_S * 2.0 ** min(self._failures, 20)) * self._jitter(0.5, 1.5)
        self._failures += 1
        log_event(logger, "update.failed", logging.ERROR, error=error, retry_s=retry_s)
        self._installer.progress.failed(error)
        return retry_s

    def _poll(self) -> float:
        return self._poll_s * self._jitter(0.5, 1.5)
