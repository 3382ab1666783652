"""Owns what the web server calls: the site's files, limits of bodies, then Django. Refuses long bodies but uploads.

Relays ask for the site's files, far more often than people for pages, and need neither session nor database.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from cloud_tools.publishing.site_answer import Answer, answer, is_of_site
from contract.checks import whole_number

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

BODY_MOST_BYTES = 4 << 20  # a manifest has at most 1 MiB, and a form far less
SILENT_S = 30.0  # a client that sends or takes nothing for so long is dropped, or it would keep a thread for ever
PIECE_BYTES = 1 << 18
_UPLOAD = re.compile(r"/api/uploads/[0-9a-f-]{36}")
Environment = dict[str, Any]


class Front:
    """Answers for the site by itself and hands the rest to ``inner``."""

    def __init__(self, inner: "WSGIApplication", site: Path) -> None:
        self._inner, self._site = inner, site.resolve()

    def __call__(self, environment: Environment, start: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        if (peer := environment.get("gunicorn.socket")) is not None:
            peer.settimeout(SILENT_S)
        path, method = environment.get("PATH_INFO", ""), environment["REQUEST_METHOD"]
        if is_of_site(path) and method in ("GET", "HEAD"):
            return self._site_file(environment, start, path, body=method == "GET")
        if _too_long(environment, path):
            start("413 Content Too Large", [("Content-Type", "text/plain"), ("Connection", "close")])
            return [b"413 Content Too Large\n"]
        return self._inner(environment, start)

    def _site_file(
        self, environment: Environment, start: "StartResponse", path: str, *, body: bool
    ) -> Iterator[bytes]:
        # The file is open until the server has taken the last piece, or closes this.
        with answer(self._site, path, _Headers(environment)) as found:
            start(f"{found.status.value} {found.status.phrase}", list(found.headers.items()))
            yield b""
            if body:
                yield from _body(found)


class _Headers:
    """The headers of a request as a site's answer asks for them."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def get(self, name: str, /) -> str | None:
        """Return a header, or None."""
        value: str | None = self._environment.get(f"HTTP_{name.upper().replace('-', '_')}")
        return value


def _body(found: Answer) -> Iterator[bytes]:
    if found.file is None:
        yield found.text
        return
    found.file.seek(found.start)
    left = found.length
    while left and (piece := found.file.read(min(PIECE_BYTES, left))):
        left -= len(piece)
        yield piece


def _too_long(environment: Environment, path: str) -> bool:
    text = environment.get("CONTENT_LENGTH") or "0"
    length = whole_number(text)
    return length is None or (length > BODY_MOST_BYTES and not _UPLOAD.fullmatch(path))


def make_application() -> "WSGIApplication":
    """Return the whole application."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "cloud_tools.publish_server.settings"
    django = get_wsgi_application()
    return Front(django, settings.CONFIG.site)
