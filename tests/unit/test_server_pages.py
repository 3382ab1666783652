"""The pages: for those who logged in, readable without scripts, and saying what happened."""

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.http import HttpResponse

    from tests.publish_servers import ServerFolder

PAGES = ("/releases/", "/jobs/", "/audit/", "/tokens/")


class Page(HTMLParser):
    """What is on a page that a policy or a reader stumbles on."""

    def __init__(self, response: "HttpResponse") -> None:
        super().__init__()
        self.problems: list[str] = []
        self.labels: set[str | None] = set()
        self.inputs: set[str | None] = set()
        self.headings: list[int] = []
        self.text = response.content.decode()
        self.feed(self.text)
        self.problems += [f"no label: {name}" for name in self.inputs - self.labels]
        if self.headings.count(1) != 1:
            self.problems.append(f"headings {self.headings}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what may not be, and what belongs together."""
        values = dict(attrs)
        self.problems += [name for name in values if name.startswith("on") or name == "style"]
        if tag in ("script", "style"):
            self.problems.append(tag)
        if tag == "html" and not values.get("lang"):
            self.problems.append("no language")
        if tag == "label":
            self.labels.add(values.get("for"))
        if tag == "input" and values.get("type") != "hidden":
            self.inputs.add(values.get("id"))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def published(server: "ServerFolder") -> None:
    for version in (1, 2):
        server.api().publish(server.bundle(version))
        while server.worker().run_once():
            pass


@pytest.mark.parametrize("path", [*PAGES, "/", "/releases/household/1/", "/jobs/1/"])
def test_a_page_is_for_those_who_logged_in(server: "ServerFolder", path: str) -> None:
    from django.test import Client

    response = Client().get(path)
    assert (response.status_code, response["location"]) == (302, f"/login/?next={path}")


def test_logging_in_leads_to_the_releases_and_out_again(server: "ServerFolder") -> None:
    from django.test import Client

    from tests.publish_servers import PASSWORD

    client = Client()
    assert Page(client.get("/login/")).problems == []
    response = client.post("/login/", {"username": "admin", "password": PASSWORD})
    assert (response.status_code, response["location"]) == (302, "/releases/")
    assert Page(client.get("/releases/")).problems == []
    client.post("/logout/")
    assert client.get("/releases/").status_code == 302


@pytest.mark.slow
def test_the_sixth_wrong_password_waits(server: "ServerFolder") -> None:
    from django.test import Client

    from tests.publish_servers import PASSWORD

    client = Client()
    codes = [client.post("/login/", {"username": "admin", "password": "wrong"}).status_code for _ in range(6)]
    assert codes == [200] * 4 + [429] * 2
    response = client.post("/login/", {"username": "admin", "password": PASSWORD})
    assert (response.status_code, Page(response).problems) == (429, [])


@pytest.mark.parametrize("path", PAGES)
def test_a_page_with_nothing_to_tell_is_a_page(server: "ServerFolder", path: str) -> None:
    response = server.browser().get(path)
    assert response.status_code == 200
    assert Page(response).problems == []


def test_pages_tell_of_releases_patches_jobs_and_deeds(server: "ServerFolder") -> None:
    published(server)
    browser = server.browser()
    texts = {path: Page(browser.get(path)) for path in (*PAGES, "/releases/household/2/", "/jobs/1/")}
    assert {path: page.problems for path, page in texts.items() if page.problems} == {}
    assert "household 2" in texts["/releases/"].text
    assert re.search(r"smallest patch \d+", texts["/releases/"].text)
    assert "head.tflite" in texts["/releases/household/2/"].text
    assert "publish #1" in texts["/jobs/1/"].text
    assert "release.published" in texts["/audit/"].text


def test_a_reason_of_a_refusal_is_on_the_page_and_cannot_be_markup(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.models import Job

    job = Job.objects.create(kind="publish", key="k", state="failed", error="<b>worse</b> & so on")
    assert "&lt;b&gt;worse&lt;/b&gt; &amp; so on" in server.browser().get(f"/jobs/{job.pk}/").content.decode()


def test_a_release_is_withdrawn_by_its_page_with_a_csrf_token_only(server: "ServerFolder") -> None:
    from django.test import Client

    published(server)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(server.user(), "django.contrib.auth.backends.ModelBackend")
    assert strict.post("/releases/household/2/withdraw/").status_code == 403
    browser = server.browser()
    assert browser.get("/releases/household/2/withdraw/").status_code == 405
    response = browser.post("/releases/household/2/withdraw/", follow=True)
    assert "is being withdrawn" in response.content.decode()
    server.worker().run_once()
    assert "withdrawn" in browser.get("/releases/household/2/").content.decode()


def test_a_token_is_shown_once_counts_and_is_revoked(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.models import Token
    from tests.publish_servers import Api

    browser = server.browser()
    page = browser.post("/tokens/", {"name": "desk", "scopes": ["read"]}).content.decode()
    (token,) = re.findall(r"kinwatch_[\w-]{43}", page)
    assert token not in browser.get("/tokens/").content.decode()
    assert Api(token).get("/jobs")[0] == 200
    browser.post(f"/tokens/{Token.objects.get(name='desk').pk}/revoke/")
    assert Api(token).get("/jobs")[0] == 401
    assert not Token.objects.filter(digest__contains=token).exists()


def test_an_answer_allows_no_foreign_script_and_no_frame(server: "ServerFolder") -> None:
    response = server.browser().get("/releases/")
    policy = response["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response["x-frame-options"] == "DENY"
    assert response["x-content-type-options"] == "nosniff"
    assert response["referrer-policy"] == "same-origin"


def test_static_files_are_served_by_the_program_itself(server: "ServerFolder") -> None:
    from django.test import Client

    response = Client().get("/static/kinwatch.css")
    assert response.status_code == 200
    assert b"prefers-color-scheme: dark" in b"".join(response.streaming_content)  # type: ignore[attr-defined]
    response.close()


@pytest.mark.parametrize(("path", "code"), [("/nothing/", 404), ("/releases/x/1/", 404), ("/jobs/99/", 404)])
def test_what_is_not_there_is_a_page_of_its_own(server: "ServerFolder", path: str, code: int) -> None:
    response = server.browser().get(path)
    assert response.status_code == code
    assert Page(response).problems == []
