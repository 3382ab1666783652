"""Owns who a request to the API comes from, and what it may do. Refuses cookies: any page could send those."""

import datetime as dt

from django.http import HttpRequest
from django.utils import timezone
from ninja.errors import HttpError
from ninja.security import HttpBearer

from cloud_tools.publish_server.models import Token
from cloud_tools.publish_server.models.token import Scope, digest_of

USED_EVERY = dt.timedelta(minutes=1)  # no write to the table for each request


class TokenAccess(HttpBearer):
    """``Authorization: Bearer kinwatch_...`` of a token with ``scope``."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self._scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> Token | None:
        """Return the token, or None when it does not count; HTTP 403 when it may not do this."""
        found = Token.objects.select_related("user").filter(digest=digest_of(token), user__is_active=True).first()
        now = timezone.now()
        if found is None or not found.is_valid(now):
            return None
        if not found.allows(self._scope):
            raise HttpError(403, f"this token may not {self._scope.value}")
        if found.used_at is None or now - found.used_at > USED_EVERY:
            Token.objects.filter(pk=found.pk).update(used_at=now)
        request.user = found.user
        return found


READ, PUBLISH, WITHDRAW = TokenAccess(Scope.READ), TokenAccess(Scope.PUBLISH), TokenAccess(Scope.WITHDRAW)
