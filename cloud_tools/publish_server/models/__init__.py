"""The tables: a module each. Refuses to know of HTTP, and of how releases are made."""

from cloud_tools.publish_server.models.audit import AuditEntry
from cloud_tools.publish_server.models.job import Job
from cloud_tools.publish_server.models.release import Release
from cloud_tools.publish_server.models.token import Token
from cloud_tools.publish_server.models.upload import Upload

__all__ = ["AuditEntry", "Job", "Release", "Token", "Upload"]
