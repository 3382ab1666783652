"""Sending files to a publish server: resumed at any byte, bounded, and never believed before the digest is right."""

import hashlib
import io
import random
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.publish_servers import ServerFolder

DATA = random.Random(1).randbytes(5000)


def path_of(upload: dict[str, object]) -> str:
    return f"/uploads/{upload['id']}"


def test_a_file_is_received_and_gets_its_digest_as_its_name(server: "ServerFolder") -> None:
    api = server.api()
    status, upload = api.begin(DATA)
    assert (status, upload["offset"], upload["complete"]) == (201, 0, False)
    status, answer = api.patch(path_of(upload), DATA)
    assert (status, answer["offset"], answer["complete"]) == (200, len(DATA), True)
    assert (server.config.uploads / hashlib.sha256(DATA).hexdigest()).read_bytes() == DATA
    assert api.begin(DATA)[1]["complete"]


@pytest.mark.slow
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=6))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_at_any_bytes_is_resumed_to_the_same_file(server: "ServerFolder", cuts: list[int]) -> None:
    from cloud_tools.publish_server.models import Upload
    from cloud_tools.publish_server.stores import upload_store

    upload_store().forget(list(Upload.objects.all()))
    api = server.api()
    for cut in sorted(cuts):
        upload = api.begin(DATA)[1]
        api.patch(path_of(upload), DATA[upload["offset"] : cut], upload["offset"])
    upload = api.begin(DATA)[1]
    assert upload["offset"] == max(cuts, default=0)
    if not upload["complete"]:
        assert api.patch(path_of(upload), DATA[upload["offset"] :], upload["offset"])[1]["complete"]


def test_what_a_sender_who_vanishes_has_sent_is_kept(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.stores import upload_store
    from contract.manifest import FileEntry

    class Cut(io.RawIOBase):
        def __init__(self) -> None:
            self.pieces = [DATA[:1000]]

        def read(self, size: int = -1) -> bytes:
            if not self.pieces:
                raise ConnectionResetError
            return self.pieces.pop()

    store = upload_store()
    upload = store.begin(server.user(), FileEntry(hashlib.sha256(DATA).hexdigest(), len(DATA)))
    assert store.receive(upload, 0, len(DATA), Cut()) == 1000
    assert server.api().begin(DATA)[1]["offset"] == 1000


def test_a_part_that_a_kill_left_whole_is_finished_by_an_empty_request(server: "ServerFolder") -> None:
    api = server.api()
    upload = api.begin(DATA)[1]
    server.config.uploads.mkdir(exist_ok=True)
    (server.config.uploads / f"{upload['id'].replace('-', '')}.part").write_bytes(DATA)
    assert api.begin(DATA)[1]["offset"] == len(DATA)
    assert api.patch(path_of(upload), b"", len(DATA))[1]["complete"]


def test_the_wrong_offset_is_refused_with_the_right_one(server: "ServerFolder") -> None:
    api = server.api()
    upload = api.begin(DATA)[1]
    api.patch(path_of(upload), DATA[:10])
    status, answer = api.patch(path_of(upload), DATA[20:], 20)
    assert (status, answer["error"], answer["offset"]) == (409, "offset", 10)


def test_bytes_that_are_not_the_file_are_thrown_away(server: "ServerFolder") -> None:
    api = server.api()
    upload = api.begin(DATA)[1]
    status, answer = api.patch(path_of(upload), b"x" * len(DATA))
    assert (status, answer["error"]) == (422, "input")
    assert "SHA-256" in answer["detail"]
    assert api.begin(DATA)[1]["offset"] == 0


def test_more_bytes_than_were_said_are_refused_before_they_are_written(server: "ServerFolder") -> None:
    api = server.api()
    upload = api.begin(DATA)[1]
    assert api.patch(path_of(upload), DATA + b"x")[0] == 422
    assert api.begin(DATA)[1]["offset"] == 0


def test_two_who_send_the_same_file_at_once_do_not_mix_it(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.stores import upload_store
    from contract.manifest import FileEntry

    inside, go_on = threading.Event(), threading.Event()

    class Slow(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            inside.set()
            go_on.wait(10)
            return b""

    store = upload_store()
    upload = store.begin(server.user(), FileEntry(hashlib.sha256(DATA).hexdigest(), len(DATA)))
    first = threading.Thread(target=lambda: _receive(store, upload, Slow()))
    first.start()
    assert inside.wait(10)
    status, answer = server.api().patch(f"/uploads/{upload.pk}", DATA)
    go_on.set()
    first.join(10)
    assert (status, answer["error"]) == (409, "busy")


def _receive(store, upload, body) -> None:  # type: ignore[no-untyped-def]
    from django.db import connection

    store.receive(upload, 0, len(DATA), body)
    connection.close()


@pytest.mark.parametrize("size", [0, -1, 1 << 40, 10**30, 1.5, "many", None])
def test_a_size_that_cannot_be_is_refused(server: "ServerFolder", size: object) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    status, answer = server.api().post("/uploads", {"sha256": digest, "size": size})
    assert (status, answer["error"]) == (422, "input")


def test_a_person_cannot_fill_the_disk(server: "ServerFolder") -> None:
    api = server.api()
    half = server.config.upload_bytes // 2
    answers = [api.post("/uploads", {"sha256": f"{n:064x}", "size": half}) for n in range(9)]
    assert [status for status, _ in answers] == [201] * 8 + [422]
    assert "under way" in answers[-1][1]["detail"]


def test_what_nobody_finished_is_gone_after_a_day(server: "ServerFolder") -> None:
    import datetime as dt

    from django.utils import timezone

    from cloud_tools.publish_server.models import Upload
    from cloud_tools.publish_server.stores import upload_store

    api = server.api()
    api.patch(path_of(api.begin(DATA)[1]), DATA[:10])
    assert upload_store().remove_old(timezone.now()) == 0
    assert upload_store().remove_old(timezone.now() + dt.timedelta(days=2)) == 1
    assert list(server.config.uploads.iterdir()) == []
    assert not Upload.objects.exists()


def test_somebody_elses_upload_is_not_there(server: "ServerFolder") -> None:
    from django.contrib.auth.models import User

    from cloud_tools.publish_server.pages.tokens import make_token
    from tests.publish_servers import Api

    upload = server.api().begin(DATA)[1]
    other = Api(make_token(User.objects.create_user("eve"), "t", ["publish"]))
    assert other.get(path_of(upload))[0] == 404
    assert other.patch(path_of(upload), DATA)[0] == 404


@given(
    offset=st.text(st.characters(codec="latin-1", exclude_categories=("Cc",)), max_size=30) | st.integers().map(str),
    data=st.binary(max_size=60),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_answered_with_a_refusal_or_kept_in_bounds(
    server: "ServerFolder", offset: str, data: bytes
) -> None:
    api = server.api()
    upload = api.begin(DATA)[1]
    status, _ = api.patch(path_of(upload), data, offset)
    assert status in (200, 409, 422)
    assert 0 <= api.begin(DATA)[1]["offset"] <= len(DATA)


@given(body=st.binary(max_size=80) | st.text(max_size=40).map(lambda text: f'{{"sha256": "{text}"}}'.encode()))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_json_begins_an_upload_is_refused_in_one_line(server: "ServerFolder", body: bytes) -> None:
    api = server.api()
    response = api.client.post("/api/uploads", body, content_type="application/json", headers=api.headers)
    assert response.status_code in (400, 422)
    assert "\n" not in response.json()["detail"]


@pytest.mark.parametrize(("token", "status"), [("", 401), ("kinwatch_wrong", 401), ("\u00fcml\u00e4ut", 401)])
def test_without_a_token_that_counts_nothing_is_received(server: "ServerFolder", token: str, status: int) -> None:
    from tests.publish_servers import Api

    assert Api(token).begin(DATA)[0] == status


def test_a_token_for_reading_sends_nothing(server: "ServerFolder") -> None:
    status, answer = server.api("read").begin(DATA)
    assert (status, answer["detail"]) == (403, "this token may not publish")
