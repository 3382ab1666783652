"""Owns the JSON of the API: what is taken and what is answered. Refuses to look anything up."""

import datetime as dt
import uuid
from typing import Annotated, Any

from ninja import Schema
from pydantic import Field

from contract.manifest import MOST_BYTES
from contract.rollout import LONGEST_JITTER_S

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[int, Field(ge=1, le=2**53)]


class Refusal(Schema):
    """Why not: ``error`` is a stable word, ``detail`` one line for a person; ``offset`` where a file goes on."""

    error: str
    detail: str
    offset: int | None = None


# Of every address: not understood, no token, not this token, not there, not so, not now.
REFUSALS = dict.fromkeys((400, 401, 403, 404, 422, 503), Refusal)


class File(Schema):
    """A file that is to be sent."""

    sha256: Digest
    size: Annotated[int, Field(ge=1, le=2**53)]


class Received(Schema):
    """How much of a file is here; ``complete`` means that it is whole and has its digest."""

    id: uuid.UUID
    sha256: str
    size: int
    offset: int
    complete: bool


class PublishOrder(Schema):
    """A bundle, by the text of its release.json; its files were sent before. As the options of the command."""

    manifest: Annotated[str, Field(max_length=MOST_BYTES)]
    channel: Name = "stable"
    rollout_percent: Annotated[int, Field(ge=0, le=100)] = 100
    jitter_s: Annotated[int, Field(ge=0, le=LONGEST_JITTER_S)] = 0
    patches_from: Annotated[int, Field(ge=0, le=8)] = 5
    margin_points: Annotated[float, Field(ge=0, le=100)] = 2.0
    accept_regression: bool = False


class Step(Schema):
    """What a job said, and when: seconds since its start."""

    s: float
    text: str


class JobState(Schema):
    """A job as it is now; ``error`` is the one reason why it failed."""

    id: int
    kind: str
    state: str
    attempts: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    seconds: float | None
    steps: list[Step]
    result: dict[str, Any]
    error: str


class ReleaseState(Schema):
    """A release; ``release`` is what is signed of it."""

    model: str
    version: int
    digest: str
    channels: list[str]
    withdrawn: bool
    published_at: dt.datetime
    release: Annotated[dict[str, Any], Field(alias="signed")]


class Health(Schema):
    """Whether the server does its work."""

    ok: bool
