"""Owns the addresses of releases: listing, publishing, withdrawing. Refuses to wait: an answer names the job."""

import hashlib

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Status

from cloud_tools.publish_server.api.access import PUBLISH, READ, WITHDRAW
from cloud_tools.publish_server.api.schemas import REFUSALS, JobState, Name, PublishOrder, ReleaseState, Version
from cloud_tools.publish_server.jobs.orders import order_publish, order_withdraw
from cloud_tools.publish_server.models import Job, Release
from cloud_tools.publish_server.stores import upload_store
from cloud_tools.publish_server.uploads.bundle import check_manifest

router = Router(tags=["releases"])
MOST = 200


@router.get("", response={200: list[ReleaseState], **REFUSALS}, auth=READ, summary="List releases, newest first")
def listing(request: HttpRequest, model: Name | None = None) -> "QuerySet[Release]":
    """At most 200, of ``model`` alone where it is named."""
    found = Release.objects.filter(model=model) if model else Release.objects.all()
    return found[:MOST]


@router.post("", response={202: JobState, **REFUSALS}, auth=PUBLISH, summary="Publish a bundle")
def publish(request: HttpRequest, order: PublishOrder) -> Status[Job]:
    """Ask for a job; the same bundle for the same channel is the same job, tried again if it failed."""
    manifest = check_manifest(order.manifest.encode(), upload_store())
    digest = hashlib.sha256(order.manifest.encode()).hexdigest()
    return Status(202, order_publish(request.user, manifest, digest, order.model_dump()))


@router.get("/{model}/{version}", response={200: ReleaseState, **REFUSALS}, auth=READ, summary="One release")
def one(request: HttpRequest, model: Name, version: Version) -> Release:
    """What is signed of a release."""
    return get_object_or_404(Release, model=model, version=version)


@router.post(
    "/{model}/{version}/withdraw", response={202: JobState, **REFUSALS}, auth=WITHDRAW, summary="Withdraw a release"
)
def withdraw(request: HttpRequest, model: Name, version: Version) -> Status[Job]:
    """No device takes it any more; those that have it keep it."""
    return Status(202, order_withdraw(request.user, get_object_or_404(Release, model=model, version=version)))
