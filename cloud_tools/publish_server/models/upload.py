"""Owns the row of a file that is being received, or was. Refuses to know where its bytes lie (``uploads``)."""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


class Upload(models.Model):
    """A file by its digest. The truth about how much of it is there is the length of what lies on the disk."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="uploads")
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField()
    complete = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """One for each file that a person sends, however often it is begun."""

        ordering = ("-created_at",)
        constraints = (models.UniqueConstraint(fields=("user", "sha256"), name="upload_once"),)

    def __str__(self) -> str:
        return f"{self.sha256[:12]} ({self.size} bytes)"
