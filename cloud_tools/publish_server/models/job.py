"""Owns the row of a job: the one truth about what is to be done, by whom, and what came of it.

Refuses to change by itself: ``jobs.claims`` moves rows from state to state, each time only if nobody else has.

    queued ──claim──► running ──finish──► done | failed
       ▲                 │ lease over: claimed again, or failed when attempts are used up
       └──asked again──── failed
"""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone


class Kind(models.TextChoices):
    """What there is to do."""

    PUBLISH = "publish", "publish"
    WITHDRAW = "withdraw", "withdraw"
    REFRESH = "refresh", "sign again"
    NOTICE = "notice", "tell relays"


class State(models.TextChoices):
    """Where a job is."""

    QUEUED = "queued", "waiting"
    RUNNING = "running", "running"
    DONE = "done", "done"
    FAILED = "failed", "failed"


class Job(models.Model):
    """``key`` names the work: however often it is asked for, there is one row.

    ``fence`` grows with each claim and never falls: who holds an older number may write nothing. ``steps`` are what
    the job said, each with its seconds since the start.
    """

    kind = models.CharField(max_length=16, choices=Kind.choices)
    key = models.CharField(max_length=300, unique=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.QUEUED)
    payload: "models.JSONField[dict[str, Any], dict[str, Any]]" = models.JSONField(default=dict)
    result: "models.JSONField[dict[str, Any], dict[str, Any]]" = models.JSONField(default=dict)
    steps: "models.JSONField[list[Any], list[Any]]" = models.JSONField(default=list)
    error = models.TextField(default="", blank=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="jobs")
    attempts = models.PositiveIntegerField(default=0)
    fence = models.PositiveBigIntegerField(default=0)
    worker = models.CharField(max_length=100, default="", blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Newest first; workers look for the oldest that waits."""

        ordering = ("-id",)
        indexes = (models.Index(fields=("state", "lease_until"), name="job_claimable"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in (State.DONE, State.FAILED)

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took, or None while it is not over."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at and self.started_at else None
