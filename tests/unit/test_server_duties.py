"""What a server does by itself: it signs again in time, tells relays, and tries again what failed."""

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.repository import Repository, utc_now
from cloud_tools.publishing.site_folder import SiteFolder

if TYPE_CHECKING:
    from tests.publish_servers import ServerFolder


def timestamp_version(server: "ServerFolder") -> int:
    return Repository(SiteFolder(server.config.site), KeyFolder(server.config.keys)).timestamp_version


@pytest.fixture
def a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    later = utc_now() + dt.timedelta(days=1, minutes=1)
    monkeypatch.setattr(Repository.__init__, "__defaults__", (lambda: later,))


def test_nothing_is_signed_while_signatures_are_fresh(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.models import Job

    server.duties()()
    assert not Job.objects.filter(kind="refresh").exists()


@pytest.mark.usefixtures("a_day_later")
def test_a_day_old_signature_is_made_anew_once_whoever_looks(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.models import Job

    before = timestamp_version(server)
    server.duties()()
    server.duties()()
    while server.worker().run_once():
        pass
    job = Job.objects.get(kind="refresh")
    assert (job.state, job.result) == ("done", {"signed": ["timestamp"]})
    assert timestamp_version(server) > before
    server.duties()()
    assert Job.objects.filter(kind="refresh").count() == 1


def test_the_same_refresh_run_twice_signs_once(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs import claims
    from cloud_tools.publish_server.models import Job

    payload = {"timestamp_version": timestamp_version(server)}
    claims.ask("refresh", "refresh:1", payload)  # type: ignore[arg-type]
    claims.ask("refresh", "refresh:2", payload)  # type: ignore[arg-type]
    while server.worker().run_once():
        pass
    assert [job.result["signed"] for job in Job.objects.order_by("id")] == [["timestamp"], []]


def test_relays_are_told_again_until_the_broker_answers_and_the_release_stands_meanwhile(
    server: "ServerFolder",
) -> None:
    from cloud_tools.publish_server.models import Job

    server.api().publish(server.bundle(1))
    while server.worker().run_once():
        pass
    publish, notice = Job.objects.get(kind="publish"), Job.objects.get(kind="notice")
    assert (publish.state, notice.state) == ("done", "failed")
    assert "127.0.0.1:9" in notice.error
    Job.objects.filter(pk=notice.pk).update(ended_at=notice.ended_at - dt.timedelta(minutes=2))  # type: ignore[operator]
    server.duties()()
    notice.refresh_from_db()
    assert notice.state == "queued"


def test_a_site_that_was_made_by_the_command_line_is_told_of_on_the_pages(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.models import Release
    from cloud_tools.publishing.publish import Order, publish

    publish(Order(bundle=server.bundle(1), site=server.config.site, keys=server.config.keys))
    server.duties()()
    assert str(Release.objects.get()) == "household 1"
