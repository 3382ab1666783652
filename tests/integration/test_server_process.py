"""`cloud_tools serve` as a user has it: one command, a login page, publishing by command, a relay that trusts."""

import hashlib
import json
import random
import re
import socket
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_tools.publishing.server_client import Server
from contract.messages import ReleaseNotice
from tests.bundles import frozen_bytes, write_bundle
from tests.relay_process import RelayProcess
from tests.server_process import ServerProcess, memory_kb, wait_until
from tests.sites import cloud_tools, missing_contents, run

pytestmark = pytest.mark.slow
LARGE_BYTES = 82_000_000  # the paper's VGG-19
MOST_KB, WHOLE_MOST_KB = 150_000, 200_000  # of the web server at its largest; of all processes together


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0, "\n".join(running.lines[-20:])


def bundle(folder: Path, version: int, **options: bytes) -> Path:
    place = folder / f"bundle-{version}"
    write_bundle(place, version, ("ann",), seed=version, backbone=options.get("backbone"))
    return place


def published(server: ServerProcess, place: Path, *words: object) -> dict[str, object]:
    done = cloud_tools("publish", place, "--server", server.url, "--token-file", server.token_file, "--json", *words)
    assert done.returncode == 0, done.stderr
    body: dict[str, object] = json.loads(done.stdout)
    return body


def test_the_first_start_makes_keys_person_and_token_and_tells_of_them_once(server: ServerProcess) -> None:
    said = "\n".join(server.lines)
    assert f"install {server.data / 'site-keys' / 'root.json'} on relays and devices" in said
    assert "first user admin" in said
    assert stat.S_IMODE(server.token_file.stat().st_mode) == 0o600
    with urllib.request.urlopen(f"{server.url}/login/", timeout=20) as page:
        assert b'name="password"' in page.read()


def test_a_bundle_is_published_patched_told_of_and_trusted_by_a_relay(server: ServerProcess, tmp_path: Path) -> None:
    root = server.data / "site-keys" / "root.json"
    broker = f"mqtt://127.0.0.1:{server.broker_port}"
    relay = RelayProcess(tmp_path / "relay", server.url, root, broker).start()
    try:
        assert published(server, bundle(tmp_path, 1))["outcome"] == "new"
        second = published(server, bundle(tmp_path, 2))
        assert [patch["file"] for patch in second["patches"]] == ["head.tflite"]  # type: ignore[index, attr-defined]
        relay.wait_until(lambda: _newest(relay, root, tmp_path) == 2, "the relay has release 2")
    finally:
        relay.stop()
    view = server.client().refresh()
    assert missing_contents(server.data / "site", view.release("household", 2)) == []


def _newest(relay: RelayProcess, root: Path, folder: Path) -> int | None:
    from contract.errors import PeerError
    from contract.trust import TrustedSite

    try:
        return TrustedSite(relay.url, root, folder / "behind-relay").refresh().newest("household", "stable")
    except PeerError:
        return None  # it mirrors the site still


def test_a_refusal_is_one_line_with_the_servers_reason(server: ServerProcess, tmp_path: Path) -> None:
    published(server, bundle(tmp_path, 10))
    other = tmp_path / "other"
    write_bundle(other, 10, ("ann",), seed=99)
    done = cloud_tools("publish", other, "--server", server.url, "--token-file", server.token_file)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cloud_tools: ")]
    assert "release 10 of household is published with other contents: give it a new version" in line


def test_a_wrong_token_a_dead_server_and_no_server_at_all_are_one_line_each(
    server: ServerProcess, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("kinwatch_wrong\n")
    place = bundle(tmp_path, 11)
    done = cloud_tools("publish", place, "--server", server.url, "--token-file", token)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().endswith("no token, or one that is unknown, expired or revoked")
    done = cloud_tools("publish", place, "--server", "models.example.org", "--token-file", token)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_large_file_cut_at_a_random_byte_is_resumed_and_takes_no_memory(
    server: ServerProcess, tmp_path: Path
) -> None:
    place = bundle(tmp_path, 20, backbone=frozen_bytes(LARGE_BYTES, "large"))
    data = (place / "backbone.tflite").read_bytes()
    cut = random.Random(20).randrange(1, LARGE_BYTES)
    api = Server(server.url, server.token)
    file = {"sha256": hashlib.sha256(data).hexdigest(), "size": LARGE_BYTES}
    upload = api.ask("POST", "/api/uploads", file)
    _send_and_vanish(server, upload.text("id"), data[:cut])
    wait_until(lambda: api.ask("POST", "/api/uploads", file).integer("offset") == cut, "what was sent is there")
    assert published(server, place, "--patches-from", 0)["version"] == 20
    assert memory_kb(server.pid_of("process.web")) < MOST_KB
    assert server.resident_kb() < WHOLE_MOST_KB
    assert server.client("large").refresh().newest("household", "stable") == 20


def _send_and_vanish(server: ServerProcess, upload: str, data: bytes) -> None:
    head = (
        f"PATCH /api/uploads/{upload} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n"
        f"Upload-Offset: 0\r\nContent-Length: {LARGE_BYTES}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(head.encode() + data)


def test_the_broker_keeps_the_notice(server: ServerProcess, tmp_path: Path) -> None:
    from contract.broker import connected, parse_broker
    from contract.topics import release_topic

    published(server, bundle(tmp_path, 30), "--patches-from", 0)
    found = []

    def told() -> bool:
        with connected(parse_broker(f"mqtt://127.0.0.1:{server.broker_port}"), 10) as errand:
            found[:] = [errand.retained(release_topic("household", "stable"), 2.0)]
        return bool(found[0]) and ReleaseNotice.parse(found[0]).version == 30

    wait_until(told, "the notice of release 30")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve"], "give either --site or --data"),
        (["publish", "{bundle}"], "give either --site, or --server with --token-file"),
        (["publish", "{bundle}", "--server", "http://127.0.0.1:9"], "--server needs --token-file"),
    ],
)
def test_wrong_usage_says_what_to_give(words: list[str], said: str, tmp_path: Path) -> None:
    place = bundle(tmp_path, 1)
    done = cloud_tools(*[word.format(bundle=place) for word in words])
    assert done.returncode == 2
    assert said in re.sub(r"\s+", " ", done.stderr)


def test_an_unknown_variable_stops_the_start_with_78(tmp_path: Path) -> None:
    done = run(["env", "KINWATCH_SERVER_BROKR=x", *_serve(tmp_path)])
    assert done.returncode == 78
    assert "did you mean KINWATCH_SERVER_BROKER?" in done.stderr


def _serve(folder: Path) -> list[str]:
    from tests.sites import command

    return command("serve", "--data", folder / "data", "--port", 0)
