"""Owns how a person's wish becomes a job, with the audit's entry. Refuses to check what is asked for."""

from typing import Any

from django.contrib.auth.models import AnonymousUser, User

from cloud_tools.publish_server.jobs.claims import ask, ask_again
from cloud_tools.publish_server.models import Job, Release
from cloud_tools.publish_server.models.audit import record
from cloud_tools.publish_server.models.job import Kind, State
from contract.manifest import Manifest

Person = User | AnonymousUser


def order_publish(user: Person, manifest: Manifest, digest: str, asked: dict[str, Any]) -> Job:
    """Ask for publishing a bundle; ``asked`` is an order as the API takes it, ``digest`` the manifest's.

    One that is done is asked for again: it finds that everything is out, or publishes what a restored site has lost.
    """
    key = f"publish:{manifest.model}:{manifest.version}:{digest}:{asked['channel']}"
    job = ask(Kind.PUBLISH, key, asked, _known(user))
    if ask_again(job, asked, _known(user), State.DONE):
        job.refresh_from_db()
    record("publish.asked", f"{manifest.model} {manifest.version}", _known(user), job=job.pk, digest=digest)
    return job


def order_withdraw(user: Person, release: Release) -> Job:
    """Ask for withdrawing a release."""
    payload = {"model": release.model, "version": release.version}
    job = ask(Kind.WITHDRAW, f"withdraw:{release.model}:{release.version}:{release.digest}", payload, _known(user))
    record("withdraw.asked", str(release), _known(user), job=job.pk)
    return job


def _known(user: Person) -> User | None:
    return None if isinstance(user, AnonymousUser) else user
