"""Owns a worker: it claims jobs, keeps its lease on them, and writes what came of them. Refuses to know how.

A worker that is killed says nothing more; its lease runs out, and the next one begins the job anew. So every handler
must end well when it is run twice. ``cloud_tools.publishing`` is made like that.
"""

import datetime as dt
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping

from django.db import DatabaseError, close_old_connections, connection

from cloud_tools.progress import Say
from cloud_tools.publish_server.jobs import claims
from cloud_tools.publish_server.models import Job
from cloud_tools.setting_errors import Sentence
from contract.errors import KinwatchError, one_line
from contract.events import log_event
from modelpatch.errors import PatchError

logger = logging.getLogger("cloud_tools.worker")
IDLE_S = 0.5  # between two looks for work
DUTIES_S = 30.0  # between two looks at what the server does by itself
BEATS = 3  # in a lease

Handler = Callable[[Job, Say], dict[str, object]]


class Worker:
    """``handlers`` by kind of job; ``duties`` adds jobs that nobody asked for, and tidies up."""

    def __init__(
        self, handlers: Mapping[str, Handler], lease: dt.timedelta, duties: Callable[[], None] = lambda: None
    ) -> None:
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self._handlers, self._lease, self._duties = handlers, lease, duties
        self._duties_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``. A database that does not answer is waited for."""
        log_event(logger, "worker.started", name=self.name)
        while not stop.is_set():
            try:
                worked = self.run_once()
            except DatabaseError as error:
                log_event(logger, "worker.database", logging.WARNING, error=one_line(error))
                connection.close()
                worked = False
            if not worked:
                stop.wait(IDLE_S)

    def run_once(self) -> bool:
        """Do one job, if there is one; return whether there was."""
        close_old_connections()
        if time.monotonic() >= self._duties_at:
            self._duties_at = time.monotonic() + DUTIES_S
            self._duties()
        job = claims.claim(self.name, self._lease)
        if job is not None:
            self._do(job)
        return job is not None

    def _do(self, job: Job) -> None:
        log_event(logger, "job.started", id=job.pk, kind=job.kind, attempt=job.attempts)
        began_s = time.monotonic()

        def say(sentence: Sentence) -> None:
            job.steps.append({"s": round(time.monotonic() - began_s, 3), "text": str(sentence)})

        with Heart(job, self._lease):
            result, error = self._result(job, say)
        if not (claims.fail(job, error) if error else claims.finish(job, result)):
            log_event(logger, "job.lost", logging.WARNING, id=job.pk, attempt=job.attempts)
            return
        log_event(logger, "job.failed" if error else "job.done", id=job.pk, kind=job.kind, error=error or "-")

    def _result(self, job: Job, say: Say) -> tuple[dict[str, object], str]:
        try:
            return self._handlers[job.kind](job, say), ""
        except (KinwatchError, PatchError, OSError) as error:
            return {}, one_line(error)
        except DatabaseError:
            raise  # the job stays ours until the lease is over, and then it is begun anew
        except Exception as error:  # a fault of ours must end one job, with its reason, and no worker
            logger.exception("job.fault id=%s", job.pk)
            return {}, f"a fault of this program: {type(error).__name__}: {one_line(error)}"


class Heart:
    """Keeps the lease of a job from a thread of its own while the block runs."""

    def __init__(self, job: Job, lease: dt.timedelta) -> None:
        self._job, self._lease = job, lease
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        try:
            while not self._over.wait(self._lease.total_seconds() / BEATS):
                self._try()
        finally:
            connection.close()  # each thread has its own

    def _try(self) -> None:
        try:
            if not claims.beat(self._job, self._lease):
                log_event(logger, "job.lease_lost", logging.WARNING, id=self._job.pk)
        except DatabaseError as error:
            log_event(logger, "job.heartbeat", logging.WARNING, id=self._job.pk, error=one_line(error))
