"""Whatever is asked of pages and API is answered by a page or a refusal, never by a fault."""

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.publish_servers import ServerFolder

NUMBERS = ("0", "-1", "9" * 20, "9" * 5000, "1e3", "%00", "\u0661")
NAMES = ("..", "%2e%2e", "a%00b", "x" * 300, "\u00fc", "household")


@pytest.mark.parametrize("number", NUMBERS)
def test_any_number_in_an_address_is_answered(server: "ServerFolder", number: str) -> None:
    browser, api = server.browser(), server.api()
    pages = [f"/jobs/{number}/", f"/releases/household/{number}/", f"/releases/?page={number}"]
    codes = {browser.get(path).status_code for path in pages}
    codes |= {
        api.client.get(f"/api{path}", headers=api.headers).status_code
        for path in (f"/jobs/{number}", f"/releases/household/{number}", f"/uploads/{number}")
    }
    assert codes <= {200, 404, 422}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_in_an_address_is_answered(server: "ServerFolder", name: str) -> None:
    browser, api = server.browser(), server.api()
    codes = {browser.get(f"/releases/{name}/1/").status_code}
    paths = (f"/releases/{name}/1", f"/releases?model={name}")
    codes |= {api.client.get(f"/api{path}", headers=api.headers).status_code for path in paths}
    assert codes <= {200, 404, 422}


@given(
    address=st.sampled_from(["/uploads", "/releases", "/releases/household/1/withdraw"]),
    body=st.binary(max_size=60),
    kind=st.sampled_from(["application/json", "text/plain", "multipart/form-data; boundary=x", ""]),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_is_answered(server: "ServerFolder", address: str, body: bytes, kind: str) -> None:
    api = server.api()
    response = api.client.post(f"/api{address}", body, content_type=kind, headers=api.headers)
    assert response.status_code in (400, 404, 415, 422)
    assert set(response.json()) >= {"error", "detail"}


def test_a_host_that_is_not_this_one_is_refused(server: "ServerFolder") -> None:
    assert server.browser().get("/releases/", headers={"host": "evil.example"}).status_code == 400
