"""Owns what the pages tell of a release. Refuses to be the truth: that is what the site has signed."""

from typing import Any

from django.db import models


class Release(models.Model):
    """A copy of what is signed, so that pages and searches need not read metadata; written after each job.

    A row stays when the site lists the release no more: its version is never given to anything else.
    """

    model = models.CharField(max_length=64)
    version = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)
    signed: "models.JSONField[dict[str, Any], dict[str, Any]]" = models.JSONField(default=dict)
    channels: "models.JSONField[list[str], list[str]]" = models.JSONField(default=list)
    withdrawn = models.BooleanField(default=False)
    published_at = models.DateTimeField()

    class Meta:
        """Newest first; a version is one release."""

        ordering = ("-published_at", "-version")
        constraints = (models.UniqueConstraint(fields=("model", "version"), name="release_once"),)

    def __str__(self) -> str:
        return f"{self.model} {self.version}"

    @property
    def whole_bytes(self) -> int:
        """How much a device without any release fetches."""
        return sum(entry["size"] for entry in self.signed.get("files", {}).values())

    @property
    def patches(self) -> list[dict[str, Any]]:
        """The patches as they are signed."""
        return list(self.signed.get("patches", []))
