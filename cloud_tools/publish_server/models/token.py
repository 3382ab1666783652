"""Owns the tokens that programs use the API with. Refuses to keep one: only its SHA-256 is in the table.

A token is 32 random bytes, so that a plain digest is as good as a slow one, and finding it costs one look-up.
"""

import datetime as dt
import hashlib
import secrets

from django.conf import settings
from django.db import models
from django.utils import timezone

MARK = "kinwatch_"  # by which a leaked one is found in a repository or a log


class Scope(models.TextChoices):
    """What a token may do."""

    READ = "read", "read"
    PUBLISH = "publish", "publish"
    WITHDRAW = "withdraw", "withdraw"


class Token(models.Model):
    """Who a program is. ``scopes`` are words, with a blank between them."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=64)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(max_length=100)
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Newest first."""

        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    def allows(self, scope: Scope) -> bool:
        """Return whether it may do ``scope``."""
        return scope.value in self.scopes.split()

    def is_valid(self, now: dt.datetime) -> bool:
        """Return whether it counts at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_of(token: str) -> str:
    """Return what is kept of ``token``."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def new_token() -> str:
    """Return a token that nobody has."""
    return MARK + secrets.token_urlsafe(32)
