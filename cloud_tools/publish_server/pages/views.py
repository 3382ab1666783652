"""Owns the pages about releases, jobs and deeds. Refuses to change anything but by asking for a job."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_GET, require_POST

from cloud_tools.publish_server.jobs.orders import order_withdraw
from cloud_tools.publish_server.models import AuditEntry, Job, Release

PAGE = 50


@require_GET
def releases(request: HttpRequest) -> HttpResponse:
    """What was published, newest first."""
    return _listing(request, "pages/releases.html", Release.objects.all())


@require_GET
def release(request: HttpRequest, model: str, version: int) -> HttpResponse:
    """One release, its patches, and the jobs that were about it."""
    found = get_object_or_404(Release, model=model, version=version)
    keys = [f"{kind}:{found.model}:{found.version}:{found.digest}" for kind in ("publish", "withdraw")]
    jobs = [job for key in keys for job in Job.objects.filter(key__startswith=key)]
    return render(request, "pages/release.html", {"release": found, "jobs": jobs})


@require_POST
def withdraw(request: HttpRequest, model: str, version: int) -> HttpResponse:
    """Withdraw a release, and show the job that does it."""
    job = order_withdraw(request.user, get_object_or_404(Release, model=model, version=version))
    messages.success(request, gettext("The release is being withdrawn."))
    return redirect("job", pk=job.pk)


@require_GET
def jobs(request: HttpRequest) -> HttpResponse:
    """What is done in the background, newest first."""
    return _listing(request, "pages/jobs.html", Job.objects.select_related("user"))


@require_GET
def job(request: HttpRequest, pk: int) -> HttpResponse:
    """One job, and what it said."""
    return render(request, "pages/job.html", {"job": get_object_or_404(Job, pk=pk)})


@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    """Who did what, newest first."""
    return _listing(request, "pages/audit.html", AuditEntry.objects.all())


def _listing(request: HttpRequest, template: str, rows: "QuerySet[Any]") -> HttpResponse:
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    return render(request, template, {"page": page})
