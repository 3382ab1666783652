"""What the web server calls: the site's files without a database, and no long body but an upload's."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_tools.publish_server.wsgi import BODY_MOST_BYTES, Front
from tests.sites import Site

UPLOAD = "/api/uploads/01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def ask(tmp_path: Path) -> "Callable[..., tuple[str, dict[str, str], bytes]]":
    site = Site(tmp_path).create()
    site.publish(1)

    def inner(environment: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [("X-Inner", "yes")])
        return [b"django"]

    front = Front(inner, site.site)

    def asked(path: str, method: str = "GET", **environment: str) -> tuple[str, dict[str, str], bytes]:
        said: list[Any] = []
        given = {"PATH_INFO": path, "REQUEST_METHOD": method, "wsgi.input": io.BytesIO(), **environment}
        body = b"".join(front(given, lambda status, headers: said.append((status, dict(headers)))))  # type: ignore[arg-type]
        return said[0][0], said[0][1], body

    return asked


Ask = Callable[..., tuple[str, dict[str, str], bytes]]


def test_a_file_of_the_site_is_answered_as_the_plain_site_server_does(ask: Ask, tmp_path: Path) -> None:
    content = max((tmp_path / "site" / "content").iterdir(), key=lambda path: path.stat().st_size)
    status, headers, body = ask(f"/content/{content.name}")
    assert (status, body) == ("200 OK", content.read_bytes())
    assert headers["ETag"] == f'"{content.name}"'
    status, headers, body = ask(f"/content/{content.name}", HTTP_RANGE="bytes=100-199")
    assert (status, body) == ("206 Partial Content", content.read_bytes()[100:200])
    assert headers["Content-Range"] == f"bytes 100-199/{content.stat().st_size}"
    assert ask(f"/content/{content.name}", "HEAD")[2] == b""
    assert ask(f"/content/{content.name}", HTTP_IF_NONE_MATCH=f'"{content.name}"')[0] == "304 Not Modified"


@pytest.mark.parametrize("path", ["/content/../../site-keys/root.json", "/metadata/", "/content/none", "/targets/.x"])
def test_what_is_not_served_is_404_and_never_reaches_a_page(ask: Ask, path: str) -> None:
    status, headers, _ = ask(path)
    assert status == "404 Not Found"
    assert "X-Inner" not in headers


@pytest.mark.parametrize("path", ["/", "/login/", "/metadatax", "/api/jobs"])
def test_everything_else_goes_to_django(ask: Ask, path: str) -> None:
    assert ask(path)[2] == b"django"


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/login/", str(BODY_MOST_BYTES), "200 OK"),
        ("/login/", str(BODY_MOST_BYTES + 1), "413 Content Too Large"),
        ("/api/releases", "9" * 30, "413 Content Too Large"),
        ("/login/", "-1", "413 Content Too Large"),
        (UPLOAD, str(1 << 33), "200 OK"),
        (UPLOAD + "/", str(1 << 33), "413 Content Too Large"),
    ],
)
def test_only_an_upload_may_have_a_long_body(ask: Ask, path: str, length: str, status: str) -> None:
    assert ask(path, "POST", CONTENT_LENGTH=length)[0] == status
