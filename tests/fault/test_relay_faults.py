"""The relay under kill -9, a disk that refuses, and damaged files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.release import content_path
from contract.trust import TrustedSite
from tests.relay_process import RelayProcess
from tests.site_builder import SiteBuilder, frozen, sha256
from tests.site_server import SiteServer, serving

BACKBONE = frozen("backbone", 600_000)
HEAD = frozen("head", 20_000)


@pytest.fixture
def site(tmp_path: Path) -> SiteBuilder:
    built = SiteBuilder(tmp_path / "site")
    built.publish(1, {"backbone.tflite": BACKBONE, "head.tflite": HEAD})
    return built


@pytest.fixture
def server(site: SiteBuilder) -> Iterator[SiteServer]:
    with serving(site.folder) as running:
        yield running


@pytest.fixture
def relay(tmp_path: Path, site: SiteBuilder, server: SiteServer) -> Iterator[RelayProcess]:
    process = RelayProcess(tmp_path / "relay", server.url, site.root)
    yield process
    process.kill()


@pytest.mark.parametrize("sent", [1, 400_001])
def test_a_relay_killed_in_the_middle_of_a_fetch_goes_on_where_it_was(
    relay: RelayProcess, server: SiteServer, sent: int
) -> None:
    path = content_path(sha256(BACKBONE))
    server.stall_after[path] = sent
    relay.start()
    part = relay.data / "parts" / f"{sha256(BACKBONE)}.part"
    relay.wait_until(lambda: part.exists() and part.stat().st_size == sent, "what the site sent is on disk")
    relay.kill()
    mark = len(relay.lines)
    relay.start().wait_for("release.announced", after=mark)
    assert server.ranges == [f"bytes={sent}-"]
    assert relay.get(path)[:2] == (200, BACKBONE)


def test_a_part_with_a_damaged_tail_is_fetched_anew(relay: RelayProcess, server: SiteServer) -> None:
    part = relay.data / "parts" / f"{sha256(BACKBONE)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BACKBONE[:200_000] + bytes(100_000))
    relay.start().wait_for("release.announced")
    assert relay.get(content_path(sha256(BACKBONE)))[:2] == (200, BACKBONE)
    assert server.requests[content_path(sha256(BACKBONE))] == 2


def test_a_damaged_cache_entry_is_a_miss_and_is_mended(relay: RelayProcess) -> None:
    path = content_path(sha256(BACKBONE))
    relay.start().wait_for("release.announced")
    entry = relay.data / path
    for count, damaged in enumerate([bytes(len(BACKBONE)), BACKBONE[:-1], None], 1):
        if damaged is None:
            entry.unlink()
        else:
            entry.write_bytes(damaged)
        assert relay.get(path)[:2] == (200, BACKBONE)
        assert relay.stats()["cache"]["corrupt"] == count
        assert entry.read_bytes() == BACKBONE


def test_an_entry_damaged_while_the_relay_was_off_is_found_at_the_next_request(relay: RelayProcess) -> None:
    path = content_path(sha256(HEAD))
    relay.start().wait_for("release.announced")
    relay.stop()
    (relay.data / path).write_bytes(bytes(len(HEAD)))
    relay.start()
    assert relay.get(path)[:2] == (200, HEAD)


def test_without_the_site_a_damaged_entry_is_refused_and_never_served(
    relay: RelayProcess, server: SiteServer
) -> None:
    path = content_path(sha256(HEAD))
    relay.start().wait_for("release.announced")
    server.stop()
    (relay.data / path).write_bytes(bytes(len(HEAD)))
    assert relay.get(path)[0] == 503


def test_on_a_disk_that_refuses_contents_pass_through_checked(
    tmp_path: Path, site: SiteBuilder, server: SiteServer
) -> None:
    # A limit on file length is how a real kernel refuses a write without filling a real disk: 200 blocks of 512.
    relay = RelayProcess(
        tmp_path / "small", server.url, site.root, prefix=["sh", "-c", 'ulimit -f 200; exec "$0" "$@"']
    )
    path = content_path(sha256(BACKBONE))
    try:
        relay.start().wait_for("supply.disk_refused")
        relay.wait_for("release.announced")
        assert relay.get(path)[:2] == (200, BACKBONE)
        assert relay.get(content_path(sha256(HEAD)))[:2] == (200, HEAD)
        assert not (relay.data / path).exists()
        assert list((relay.data / "parts").iterdir()) == []
        assert relay.get("metadata/timestamp.json")[0] == 200
    finally:
        relay.kill()


def test_a_cache_too_small_for_a_file_still_serves_it(tmp_path: Path, server: SiteServer, site: SiteBuilder) -> None:
    large = frozen("large", 1_200_000)
    site.publish(2, {"backbone.tflite": large, "head.tflite": HEAD})
    relay = RelayProcess(tmp_path / "small", server.url, site.root, cache_bytes=1_000_000)
    try:
        relay.start().wait_for("release.announced")
        assert relay.get(content_path(sha256(large)))[:2] == (200, large)
        assert relay.stats()["cache_used_bytes"] <= 1_000_000
    finally:
        relay.kill()


def test_damaged_mirror_files_are_mended_at_the_next_start(
    relay: RelayProcess, site: SiteBuilder, tmp_path: Path
) -> None:
    relay.start().wait_for("release.announced")
    relay.stop()
    # The older version is one that the site will never send again: it must not stand in the way.
    for name in ("timestamp.json", "2.household.json", "1.household.json"):
        (relay.data / "mirror" / name).write_bytes(b"{}")
    mark = len(relay.lines)
    relay.start().wait_for("site.verified", after=mark)
    relay.wait_for("release.announced", after=mark)
    assert TrustedSite(relay.url, site.root, tmp_path / "device").refresh().newest("household", "stable") == 1


def test_a_root_that_did_not_verify_is_never_handed_on(
    relay: RelayProcess, site: SiteBuilder, tmp_path: Path
) -> None:
    history = relay.data / "trusted" / "metadata" / "root_history"
    history.mkdir(parents=True)
    (history / "2.root.json").write_bytes(b"half a root, left by a power cut")
    relay.start().wait_for("release.announced")
    assert relay.get("metadata/2.root.json")[0] == 404
    assert TrustedSite(relay.url, site.root, tmp_path / "device").refresh().newest("household", "stable") == 1


def test_leftovers_of_a_killed_relay_are_swept(relay: RelayProcess) -> None:
    for folder, name in (("mirror", ".timestamp.json.abc.tmp"), ("trusted/metadata", "tmpabc")):
        (relay.data / folder).mkdir(parents=True)
        (relay.data / folder / name).write_bytes(b"half")
    orphan = relay.data / "parts" / f"{sha256(b'nobody names this')}.part"
    orphan.parent.mkdir()
    orphan.write_bytes(b"half")
    relay.start().wait_for("release.announced")
    assert not list(relay.data.rglob("*.tmp"))
    assert not (relay.data / "trusted" / "metadata" / "tmpabc").exists()
    assert not orphan.exists()
