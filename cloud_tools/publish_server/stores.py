"""Owns the one store of uploads of a process. Refuses to know what it is used for."""

import functools

from django.conf import settings

from cloud_tools.publish_server.uploads.store import UploadStore


@functools.cache
def upload_store() -> UploadStore:
    """Return the store that the settings describe."""
    return UploadStore(settings.CONFIG)
