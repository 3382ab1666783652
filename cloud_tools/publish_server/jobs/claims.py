"""Owns every change of a job's row. Refuses to do the work.

Each change is one UPDATE that names the state it starts from; no row changed: somebody else got there first.
A worker that lost its lease holds an old ``fence``, and can write nothing.
"""

import datetime as dt
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F, Q
from django.utils import timezone

from cloud_tools.publish_server.models.job import Job, Kind, State

MOST_ATTEMPTS = 5
MOST_STEPS = 200
MOST_ERROR = 2000  # characters


def ask(kind: Kind, key: str, payload: dict[str, Any], user: User | None = None) -> Job:
    """Return the job of this key: a new one, the one that there is, or a failed one that is to be tried again."""
    fresh = {"kind": kind, "payload": payload, "user": user}
    job, is_new = Job.objects.get_or_create(key=key, defaults=fresh)
    if not is_new and ask_again(job, payload, user, State.FAILED):
        job.refresh_from_db()
    return job


def ask_again(job: Job, payload: dict[str, Any], user: User | None, *states: State) -> bool:
    """Let a job that is over in one of ``states`` wait anew; say whether that was ours to do."""
    unset = dict.fromkeys(("started_at", "heartbeat_at", "lease_until", "ended_at"))
    empty = {"result": {}, "steps": [], "error": "", "worker": "", "attempts": 0}
    waiting = Job.objects.filter(pk=job.pk, state__in=states, ended_at=job.ended_at)
    changed = waiting.update(
        state=State.QUEUED, payload=payload, user=user, created_at=timezone.now(), **unset, **empty
    )
    return bool(changed)


def claim(worker: str, lease: dt.timedelta) -> Job | None:
    """Return a job that is ours now, the oldest that waits or whose worker went silent; None when there is none."""
    now = timezone.now()
    waiting = Q(state=State.QUEUED) | Q(state=State.RUNNING, lease_until__lt=now)
    for job in Job.objects.filter(waiting).order_by("id")[:10]:
        if job.attempts >= MOST_ATTEMPTS:
            _give_up(job, now)
            continue
        mine = {"state": State.RUNNING, "worker": worker, "attempts": F("attempts") + 1, "fence": F("fence") + 1}
        times = {"started_at": now, "heartbeat_at": now, "lease_until": now + lease}
        # As it was seen: whoever claims it first moves the fence.
        if Job.objects.filter(waiting, pk=job.pk, fence=job.fence).update(**mine, **times, steps=[]):
            job.refresh_from_db()
            return job
    return None


def _give_up(job: Job, now: dt.datetime) -> None:
    error = f"given up: {job.attempts} workers ended in the middle of it"
    Job.objects.filter(pk=job.pk, state=job.state, fence=job.fence).update(
        state=State.FAILED, error=error, ended_at=now
    )


def beat(job: Job, lease: dt.timedelta) -> bool:
    """Prolong the lease and show the steps; return whether the job is still ours."""
    now = timezone.now()
    return _write(job, heartbeat_at=now, lease_until=now + lease, steps=job.steps[-MOST_STEPS:])


def finish(job: Job, result: dict[str, Any]) -> bool:
    """End a job well; return whether it was still ours."""
    return _end(job, State.DONE, result=result)


def fail(job: Job, error: str) -> bool:
    """End a job with its one reason; return whether it was still ours."""
    return _end(job, State.FAILED, error=error[:MOST_ERROR])


def _end(job: Job, state: State, **values: Any) -> bool:
    return _write(
        job, state=state, ended_at=timezone.now(), lease_until=None, steps=job.steps[-MOST_STEPS:], **values
    )


def _write(job: Job, **values: Any) -> bool:
    return bool(Job.objects.filter(pk=job.pk, state=State.RUNNING, fence=job.fence).update(**values))
