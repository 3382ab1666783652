"""Owns the API as a whole: its parts, its description (OpenAPI), and what errors look like. Refuses HTML."""

from http import HTTPStatus
from typing import Any

from django.db import OperationalError, connection
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from cloud_tools.publish_server.api import jobs, releases, uploads
from cloud_tools.publish_server.api.schemas import Health
from cloud_tools.publish_server.uploads.store import BusyError, OffsetError
from contract import __version__
from contract.errors import InputError, KinwatchError, StorageError, one_line

# Docs in a browser would load scripts from elsewhere, which our pages never do.
api = NinjaAPI(title="Kinwatch publish server", version=__version__, docs_url=None, urls_namespace="api")
api.add_router("/uploads", uploads.router)
api.add_router("/releases", releases.router)
api.add_router("/jobs", jobs.router)


@api.get("/health", response=Health, auth=None, tags=["health"], summary="Whether the server answers")
def health(request: HttpRequest) -> dict[str, object]:
    """For whoever watches the server; asks the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {"ok": True}


def _refuse(request: HttpRequest, status: int, error: str, detail: str, **more: Any) -> HttpResponse:
    return api.create_response(request, {"error": error, "detail": detail, **more}, status=status)


@api.exception_handler(KinwatchError)
def _ours(request: HttpRequest, error: KinwatchError) -> HttpResponse:
    """Say the one line that a command line would print."""
    if isinstance(error, OffsetError):
        return _refuse(request, HTTPStatus.CONFLICT, "offset", one_line(error), offset=error.offset)
    if isinstance(error, BusyError):
        return _refuse(request, HTTPStatus.CONFLICT, "busy", one_line(error))
    if isinstance(error, InputError):
        return _refuse(request, HTTPStatus.UNPROCESSABLE_ENTITY, "input", one_line(error))
    if isinstance(error, StorageError):
        return _refuse(request, HTTPStatus.INSUFFICIENT_STORAGE, "storage", one_line(error))
    return _refuse(request, HTTPStatus.SERVICE_UNAVAILABLE, "peer", one_line(error))


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    first = error.errors[0] if error.errors else {}
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    return _refuse(
        request, HTTPStatus.UNPROCESSABLE_ENTITY, "input", f"{where}: {first.get('msg', 'not understood')}"
    )


@api.exception_handler(AuthenticationError)
def _unknown(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return _refuse(request, HTTPStatus.UNAUTHORIZED, "token", "no token, or one that is unknown, expired or revoked")


@api.exception_handler(Http404)
def _missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return _refuse(request, HTTPStatus.NOT_FOUND, "missing", "there is no such thing")


@api.exception_handler(HttpError)
def _refused(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _refuse(request, error.status_code, "refused", str(error))


@api.exception_handler(OperationalError)
def _busy(request: HttpRequest, error: OperationalError) -> HttpResponse:
    return _refuse(request, HTTPStatus.SERVICE_UNAVAILABLE, "database", "the database does not answer; try again")
