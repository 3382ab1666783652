"""Owns what a server does without being asked: signing again before signatures expire, telling relays, tidying up.

Refuses to do it here: it asks for jobs, so that one of several workers does each, and the page tells of it.
"""

import datetime as dt

from django.contrib.sessions.models import Session
from django.utils import timezone

from cloud_tools.publish_server.config import ServerConfig
from cloud_tools.publish_server.jobs.claims import ask, ask_again
from cloud_tools.publish_server.jobs.handlers import tell
from cloud_tools.publish_server.jobs.record import record_releases
from cloud_tools.publish_server.models import Job
from cloud_tools.publish_server.models.job import Kind, State
from cloud_tools.publish_server.uploads.store import UploadStore
from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.repository import Repository
from cloud_tools.publishing.site_folder import SiteFolder
from contract.errors import PeerError

REFRESH_AGE = dt.timedelta(days=1)  # signatures live for 14: thirteen more tries
RETRY = dt.timedelta(minutes=1)
OWN = (Kind.REFRESH, Kind.NOTICE)  # nobody waits for these, so that a failed one is tried again by itself
KEPT = dt.timedelta(days=90)  # of jobs that nobody asked for


class Duties:
    """Call it now and then."""

    def __init__(self, config: ServerConfig) -> None:
        self._site, self._keys = SiteFolder(config.site), KeyFolder(config.keys)
        self._store = UploadStore(config)
        self._is_first = True

    def __call__(self) -> None:
        """Ask for what is due."""
        now = timezone.now()
        try:
            with self._site.locked(limit_s=0):
                self._look(Repository(self._site, self._keys))
        except PeerError:
            pass  # somebody publishes: what is due is due the next time as well
        for job in Job.objects.filter(kind__in=OWN, state=State.FAILED, ended_at__lt=now - RETRY):
            ask_again(job, job.payload, None, State.FAILED)
        Job.objects.filter(kind__in=OWN, state=State.DONE, ended_at__lt=now - KEPT).delete()
        self._store.remove_old(now)
        Session.objects.filter(expire_date__lt=now).delete()

    def _look(self, repository: Repository) -> None:
        if repository.is_due(REFRESH_AGE):
            version = repository.timestamp_version
            key, payload = f"refresh:{version}", {"timestamp_version": version}
            if not Job.objects.filter(key=key).exists():
                ask(Kind.REFRESH, key, payload)
        if self._is_first:
            self._is_first = False
            record_releases(repository)
            self._tell_all(repository)

    def _tell_all(self, repository: Repository) -> None:
        """A broker that started anew may have forgotten its retained messages."""
        for model in repository.models():
            for channel, version in repository.role(model).channels().items():
                job = tell(model, channel, version)
                ask_again(job, job.payload, None, State.DONE)
