"""What a client makes of a publish server's answers, and of servers that are none."""

from pathlib import Path

import pytest

from cloud_tools.publishing import server_client
from cloud_tools.publishing.server_client import Server, read_token
from contract.checks import Fields
from contract.errors import InputError, PeerError


@pytest.mark.parametrize(
    ("status", "data", "kind", "words"),
    [
        (422, b'{"error": "input", "detail": "versions\\n only grow"}', InputError, "versions only grow"),
        (401, b'{"detail": "no token"}', InputError, "no token"),
        (409, b'{"detail": "busy"}', PeerError, "busy"),
        (503, b'{"detail": "the database does not answer"}', PeerError, "the database does not answer"),
        (500, b"<html>", PeerError, "HTTP 500, and no answer of a publish server"),
        (200, b"[]", PeerError, "no answer of a publish server"),
        (302, b"", InputError, "leads to https://models.example.org: give that address"),
        (422, b'{"detail": 7}', InputError, "7"),
        (404, b"{}", InputError, "HTTP 404"),
    ],
)
def test_an_answer_becomes_one_line_of_whose_fault_it_is(
    status: int, data: bytes, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as error:
        server_client._understood("http://x", status, "https://models.example.org", data)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"", b"\n", b"two words", "kinw\u00e4tch".encode(), b"x" * 2000])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(text)
    with pytest.raises(InputError):
        read_token(path)


def test_a_token_is_read_without_what_an_editor_adds(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("kinwatch_abc\n")
    assert read_token(tmp_path / "token") == "kinwatch_abc"


def test_a_server_that_comes_back_is_waited_for_and_a_refusal_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(server_client.time, "sleep", pauses.append)
    server = Server("http://127.0.0.1:9", "kinwatch_abc")
    answers: list[Exception | Fields] = [PeerError("away"), PeerError("away"), Fields({"id": 1}, "x")]

    def ask() -> Fields:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert server.patiently(ask).integer("id") == 1
    assert pauses == [0.25, 0.5]
    answers[:] = [InputError("no"), Fields({}, "x")]
    with pytest.raises(InputError):
        server.patiently(ask)


def test_a_server_that_is_gone_is_a_peers_fault_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client.time, "sleep", lambda pause_s: None)
    server = Server("http://127.0.0.1:9", "kinwatch_abc")
    with pytest.raises(PeerError, match="Connection refused"):
        server.patiently(lambda: server.ask("GET", "/api/jobs/1"))


def test_an_address_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(InputError) as error:
        Server("ftp://me:s3cret@host", "kinwatch_abc")
    assert "s3cret" not in str(error.value)
