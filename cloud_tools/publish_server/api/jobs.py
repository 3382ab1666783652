"""Owns the addresses of jobs: what is being done, and what came of it. Refuses to change one."""

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router

from cloud_tools.publish_server.api.access import READ
from cloud_tools.publish_server.api.schemas import REFUSALS, JobState, Version
from cloud_tools.publish_server.models import Job

router = Router(auth=READ, tags=["jobs"])
MOST = 50


@router.get("", response={200: list[JobState], **REFUSALS}, summary="The newest jobs")
def listing(request: HttpRequest) -> "QuerySet[Job]":
    """At most 50."""
    return Job.objects.all()[:MOST]


@router.get("/{job_id}", response={200: JobState, **REFUSALS}, summary="One job")
def one(request: HttpRequest, job_id: Version) -> Job:
    """Ask again until its state is done or failed."""
    return get_object_or_404(Job, pk=job_id)
