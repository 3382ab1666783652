"""Owns what each kind of job does, by ``cloud_tools.publishing``. Refuses to decide: errors go to the job's row.

Each may be run again after a kill at any moment: the site's lock lets one at a time work, what is published is found
to be published, and a release is recorded from what is signed.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloud_tools.progress import Say
from cloud_tools.publish_server.config import ServerConfig
from cloud_tools.publish_server.jobs.claims import ask
from cloud_tools.publish_server.jobs.record import known_releases, record_releases
from cloud_tools.publish_server.jobs.worker import Handler
from cloud_tools.publish_server.models import AuditEntry, Job, Upload
from cloud_tools.publish_server.models.audit import record
from cloud_tools.publish_server.models.job import Kind
from cloud_tools.publish_server.uploads.bundle import assemble
from cloud_tools.publish_server.uploads.store import UploadStore
from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.notify import send_notice
from cloud_tools.publishing.publish import Order, Published, current_notice, publish
from cloud_tools.publishing.repository import Repository
from cloud_tools.publishing.site_folder import SiteFolder, storage_errors
from cloud_tools.publishing.withdraw import withdraw
from cloud_tools.setting_errors import Sentence
from contract.broker import parse_broker


class Handlers:
    """The handlers of one server."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._site, self._keys = SiteFolder(config.site), KeyFolder(config.keys)
        self._store = UploadStore(config)

    def by_kind(self) -> Mapping[str, Handler]:
        """Return what does each kind of job."""
        return {
            Kind.PUBLISH: self.publish,
            Kind.WITHDRAW: self.withdraw,
            Kind.REFRESH: self.refresh,
            Kind.NOTICE: self.notice,
        }

    def publish(self, job: Job, say: Say) -> dict[str, object]:
        """Make a bundle of what was received, publish it, record it, and let relays be told."""
        with self._bundle(job) as (bundle, model):
            published = publish(self._order(job.payload, model, bundle), say)
        say(Sentence(published.outcome.value))
        self._record()
        release = published.target
        tell(release.model, published.channel, published.channel_version)
        sent = [entry.sha256 for entry in release.files.values()]
        self._store.forget(list(Upload.objects.filter(complete=True, sha256__in=sent)))
        _record_once(f"{release.model} {release.version} in {published.channel}", job, published.digest)
        return _result(published)

    @contextlib.contextmanager
    def _bundle(self, job: Job) -> Iterator[tuple[Path, str]]:
        """Return the folder of the job's bundle, of this attempt alone, and its model; gone afterwards."""
        work = self._config.data / "work"
        for left in work.glob(f"{job.pk}-*"):
            shutil.rmtree(left, ignore_errors=True)
        place = work / f"{job.pk}-{job.fence}"
        try:
            with storage_errors("putting the bundle together"):
                manifest = assemble(job.payload["manifest"].encode(), self._store, place)
            yield place, manifest.model
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _order(self, asked: Mapping[str, Any], model: str, bundle: Path) -> Order:
        choices = ("channel", "rollout_percent", "jitter_s", "patches_from", "margin_points", "accept_regression")
        return Order(
            bundle=bundle,
            site=self._config.site,
            keys=self._config.keys,
            known=known_releases(model),
            **{name: asked[name] for name in choices},
        )

    def withdraw(self, job: Job, say: Say) -> dict[str, object]:
        """Sign a release as withdrawn."""
        model, version = job.payload["model"], job.payload["version"]
        changed = withdraw(self._config.site, self._config.keys, model, version)
        self._record()
        if changed:
            record("release.withdrawn", f"{model} {version}", job.user, job=job.pk)
        return {"model": model, "version": version, "withdrawn": True}

    def refresh(self, job: Job, say: Say) -> dict[str, object]:
        """Sign the short-lived metadata again, unless somebody did since this was asked for."""
        with storage_errors("signing again"), self._site.locked():
            repository = Repository(self._site, self._keys)
            is_old = repository.timestamp_version == job.payload["timestamp_version"]
            return {"signed": repository.refresh() if is_old else []}

    def notice(self, job: Job, say: Say) -> dict[str, object]:
        """Tell the broker what a channel has now, with the lock held, so that it keeps the newest."""
        model, channel = job.payload["model"], job.payload["channel"]
        with self._site.locked():
            notice = current_notice(self._site, self._keys, model, channel)
            send_notice(parse_broker(self._config.broker_url), model, channel, notice)
        return {"version": notice.version}

    def _record(self) -> None:
        with self._site.locked():
            record_releases(Repository(self._site, self._keys))


def tell(model: str, channel: str, version: int) -> Job:
    """Let relays be told that ``channel`` has ``version``."""
    return ask(Kind.NOTICE, f"notice:{model}:{channel}:{version}", {"model": model, "channel": channel})


def _record_once(subject: str, job: Job, digest: str) -> None:
    """Write that a release is out, unless an attempt that was killed later has written it."""
    event = "release.published"
    if not AuditEntry.objects.filter(event=event, subject=subject, detail__digest=digest).exists():
        record(event, subject, job.user, job=job.pk, digest=digest)


def _result(published: Published) -> dict[str, object]:
    return {
        "outcome": published.outcome.name.lower(),
        "digest": published.digest,
        "channel": published.channel,
        "channel_version": published.channel_version,
        "release": published.target.custom(),
    }
