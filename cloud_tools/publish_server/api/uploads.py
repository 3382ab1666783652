"""Owns the addresses for sending files. Refuses to keep a body in memory: it is read in pieces, as it comes."""

import uuid

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Status

from cloud_tools.publish_server.api.access import PUBLISH
from cloud_tools.publish_server.api.schemas import REFUSALS, File, Received, Refusal
from cloud_tools.publish_server.models import Token, Upload
from cloud_tools.publish_server.stores import upload_store
from contract.checks import whole_number
from contract.errors import InputError
from contract.manifest import FileEntry

router = Router(auth=PUBLISH, tags=["uploads"])
OFFSET_HEADER = "Upload-Offset"
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        {"name": OFFSET_HEADER, "in": "header", "required": True, "schema": {"type": "integer", "minimum": 0}}
    ],
}


@router.post("", response={201: Received, 507: Refusal, **REFUSALS}, summary="Begin to send a file, or go on")
def begin(request: HttpRequest, file: File) -> Status[dict[str, object]]:
    """The same file gives the same upload; what is here already, from whatever release, is complete at once."""
    upload = upload_store().begin(_token(request).user, FileEntry(file.sha256, file.size))
    return Status(201, _received(upload))


@router.get("/{upload_id}", response={200: Received, **REFUSALS}, summary="Where to go on")
def state(request: HttpRequest, upload_id: uuid.UUID) -> dict[str, object]:
    """Tell how much of a file is here."""
    return _received(_own(request, upload_id))


@router.patch(
    "/{upload_id}",
    response={200: Received, 409: Refusal, 507: Refusal, **REFUSALS},
    openapi_extra=BODY,
    summary="Send the next bytes",
)
def add(request: HttpRequest, upload_id: uuid.UUID) -> dict[str, object]:
    """The header Upload-Offset says which byte the body begins with; 409 says which it should be."""
    upload = _own(request, upload_id)
    offset = whole_number(request.headers.get(OFFSET_HEADER, ""))
    length = whole_number(request.headers.get("Content-Length") or "0")
    if offset is None or length is None:
        raise InputError(f"{OFFSET_HEADER} and Content-Length must be whole numbers")
    there = upload_store().receive(upload, offset, length, request)
    return _received(upload, there)


def _own(request: HttpRequest, upload_id: uuid.UUID) -> Upload:
    return get_object_or_404(Upload, pk=upload_id, user=_token(request).user)


def _token(request: HttpRequest) -> Token:
    token: Token = request.auth  # type: ignore[attr-defined]
    return token


def _received(upload: Upload, offset: int | None = None) -> dict[str, object]:
    there = upload_store().offset(upload) if offset is None else offset
    whole = {"sha256": upload.sha256, "size": upload.size, "complete": upload.complete}
    return {"id": upload.pk, "offset": there, **whole}
