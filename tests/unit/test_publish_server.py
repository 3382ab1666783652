"""The plain HTTP server of a publish site: ranges, and nothing but what is served."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tools.publishing.site_answer import find_file
from cloud_tools.publishing.site_server import SiteServer
from contract.errors import InputError, PeerError
from contract.http.headers import asked_range
from tests.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path).create()
    site.publish(1)
    return site


@pytest.fixture
def connection(site: Site) -> Iterator[http.client.HTTPConnection]:
    with site.served() as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        yield connection
        connection.close()


def ask(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response, response.read()


def content(site: Site) -> tuple[str, bytes]:
    path = max((site.site / "content").iterdir(), key=lambda path: path.stat().st_size)
    return f"/content/{path.name}", path.read_bytes()


def test_a_content_is_served_whole_with_its_digest_as_etag(
    site: Site, connection: http.client.HTTPConnection
) -> None:
    path, data = content(site)
    response, body = ask(connection, path)
    assert (response.status, body) == (200, data)
    assert response.headers["ETag"] == f'"{path.rpartition("/")[2]}"'
    assert response.headers["Content-Length"] == str(len(data))
    response, body = ask(connection, path, If_None_Match=response.headers["ETag"])
    assert (response.status, body) == (304, b"")


@pytest.mark.parametrize(
    ("header", "start", "end"), [("bytes=0-", 0, None), ("bytes=100-199", 100, 200), ("bytes=-5", -5, None)]
)
def test_a_range_is_served_with_206(
    site: Site, connection: http.client.HTTPConnection, header: str, start: int, end: int | None
) -> None:
    path, data = content(site)
    response, body = ask(connection, path, Range=header)
    wanted = data[start:end]
    first = start % len(data)
    assert (response.status, body) == (206, wanted)
    assert response.headers["Content-Range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(data)}"


def test_a_range_behind_the_end_is_416_and_the_connection_lives_on(
    site: Site, connection: http.client.HTTPConnection
) -> None:
    path, data = content(site)
    response, _ = ask(connection, path, Range=f"bytes={len(data)}-")
    assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    assert ask(connection, path)[1] == data


def test_a_range_for_another_version_of_the_file_gives_the_whole_file(
    site: Site, connection: http.client.HTTPConnection
) -> None:
    path, data = content(site)
    response, body = ask(connection, path, Range="bytes=5-", If_Range='"other"')
    assert (response.status, body) == (200, data)


def test_head_gives_the_length_without_the_body(site: Site, connection: http.client.HTTPConnection) -> None:
    path, data = content(site)
    response, body = ask(connection, path, "HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (200, str(len(data)), b"")
    assert ask(connection, "/content/none", "HEAD")[1] == b""
    assert ask(connection, path)[1] == data


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/metadata", "/metadata/", "/content/", "/metadata/99.root.json", "/content/" + "0" * 64),
        *("/content/../../site-keys/root.json", "/content/%2e%2e/%2e%2e/site-keys/root.json", "//etc/passwd"),
        *("/.work/patch", "/content/.hidden", "/metadata//timestamp.json", "/site-keys/root.json", "/content/a\\b"),
        *("/targets/household", "/content/" + "a" * 4000, "/content/circle"),
    ],
)
def test_what_is_not_served_is_404(site: Site, connection: http.client.HTTPConnection, path: str) -> None:
    (site.site / ".work").mkdir()
    for hidden in (site.site / ".work" / "patch", site.site / "content" / ".hidden"):
        hidden.write_bytes(b"secret")
    (site.site / "content" / "circle").symlink_to("circle")
    response, body = ask(connection, path)
    assert (response.status, body) == (404, b"404 Not Found\n")


def test_a_link_out_of_the_site_is_not_followed(site: Site, connection: http.client.HTTPConnection) -> None:
    (site.site / "content" / "escape").symlink_to(site.keys / "online" / "timestamp.pem")
    assert ask(connection, "/content/escape")[0].status == 404


def test_only_the_timestamp_may_change_under_its_name(connection: http.client.HTTPConnection) -> None:
    names = ("timestamp.json", "1.root.json")
    fresh = {name: ask(connection, f"/metadata/{name}")[0].headers["Cache-Control"] for name in names}
    assert fresh == {"timestamp.json": "no-cache", "1.root.json": "max-age=31536000, immutable"}


def test_a_method_that_writes_is_refused(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, "/metadata/timestamp.json", "PUT")[0].status == 501


def test_rubbish_on_a_connection_does_not_hurt_the_others(site: Site) -> None:
    with site.served() as url:
        host, port = urlsplit(url).netloc.split(":")
        with socket.create_connection((host, int(port)), 10) as bad:
            bad.sendall(b"\x00\xff" * 100 + b"\r\n\r\n")
            assert site.client(url).refresh().newest("household", "stable") == 1


def test_a_fault_in_an_answer_is_logged_and_the_site_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: Path, path: str) -> None:
        raise ZeroDivisionError

    with site.served() as url:
        with monkeypatch.context() as patch:
            patch.setattr("cloud_tools.publishing.site_answer.find_file", fail)
            with pytest.raises(PeerError):
                site.client(url).refresh()
        assert site.client(url).refresh().newest("household", "stable") == 1
    assert "site.fault" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_folder_that_is_no_site_and_a_taken_port_are_clear_errors(tmp_path: Path, site: Site) -> None:
    with pytest.raises(InputError, match="is no publish site"):
        SiteServer(tmp_path / "nothing", "127.0.0.1", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PeerError, match="cannot listen on 127.0.0.1"):
            SiteServer(site.site, "127.0.0.1", taken.getsockname()[1])


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=16) | st.none(), st.integers(0, 200))
def test_any_range_header_gives_bytes_inside_of_the_file(header: str | None, size: int) -> None:
    span = asked_range(header, size)
    assert span is None or (span[0] >= 0 and span[1] >= 0 and span[0] + span[1] <= size)


@given(st.integers(1, 200), st.data())
def test_a_range_gives_exactly_the_bytes_it_names(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, 300))
    assert asked_range(f"bytes={first}-{last}", size) == (first, min(last, size - 1) - first + 1)
    assert asked_range(f"bytes={size}-", size) is None


@given(
    path=st.text(max_size=40) | st.text(alphabet="./metadatcontrgs%2e\\", max_size=40).map(lambda tail: "/" + tail)
)
def test_no_path_leaves_the_served_folders(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    site = tmp_path_factory.getbasetemp() / "paths"
    for name in ("metadata", "targets", "content", "private"):
        (site / name).mkdir(parents=True, exist_ok=True)
        (site / name / "a").write_bytes(b"a")
    found = find_file(site.resolve(), path)
    assert found is None or found.parent.name in ("metadata", "targets", "content")
