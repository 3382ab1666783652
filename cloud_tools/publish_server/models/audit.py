"""Owns who did what, and when. Refuses to change or to remove an entry."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.utils import timezone


class AuditEntry(models.Model):
    """One deed. ``actor`` is kept as text, for when the person is gone; "server" is the server itself."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    actor = models.CharField(max_length=200)
    event = models.CharField(max_length=64)
    subject = models.CharField(max_length=200)
    detail: "models.JSONField[dict[str, Any], dict[str, Any]]" = models.JSONField(default=dict)

    class Meta:
        """Newest first."""

        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.actor}: {self.event} {self.subject}"


def record(event: str, subject: str, user: User | None = None, **detail: Any) -> AuditEntry:
    """Write an entry; ``event`` is a stable id such as ``release.published``."""
    actor = user.get_username() if user else "server"
    return AuditEntry.objects.create(user=user, actor=actor, event=event, subject=subject[:200], detail=detail)
