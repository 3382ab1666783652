"""Worker and server killed at random moments of a publish: it is out once, or failed, and all verifies."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_tools.publishing.server_client import Answered, ServerOrder, publish_to_server
from tests.bundles import write_bundle
from tests.postgresql import installed, postgresql
from tests.server_process import ServerProcess
from tests.sites import missing_contents

pytestmark = pytest.mark.slow
WORKER_KILLS, SERVER_KILLS = 4, 2  # a server stands five ends of a worker in a minute
SEED = int(os.environ.get("KINWATCH_SEED", "11"))  # of the moments


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path).start()
    yield running
    running.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of each kind, nothing for the file that is the default."""
    if request.param == "sqlite":
        yield ""
        return
    if not installed():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgresql() as url:
        yield url


def publish(server: ServerProcess, version: int) -> Answered:
    """Publish a tiny bundle; the client waits while the server is away."""
    place = server.folder / f"bundle-{version}"
    write_bundle(place, version, ("ann",), seed=version)
    order = ServerOrder(bundle=place, url=server.url, token=server.token, patches_from=1)
    return publish_to_server(order, limit_s=90)


def rows(server: ServerProcess, url: str, query: str) -> list[tuple[Any, ...]]:
    """Ask the server's database from beside it."""
    if url:
        import psycopg

        with psycopg.connect(url) as postgres:
            return postgres.execute(query).fetchall()
    connection = sqlite3.connect(server.data / "server.sqlite3", timeout=20)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_kills_at_random_moments_end_in_each_release_published_once(tmp_path: Path, database: str) -> None:
    server = ServerProcess(tmp_path, DATABASE_URL=database).start()
    try:
        _kill_at_random_moments(server)
        _check_published_once(server, database, 2 + WORKER_KILLS + SERVER_KILLS)
    finally:
        server.stop()


def _kill_at_random_moments(server: ServerProcess) -> None:
    started = time.monotonic()
    publish(server, 1)
    publish(server, 2)
    whole_s = (time.monotonic() - started) / 2
    moments = random.Random(SEED)
    kills = ["worker"] * WORKER_KILLS + ["server"] * SERVER_KILLS
    moments.shuffle(kills)
    device = server.client()
    with ThreadPoolExecutor(1) as pool:
        for version, kind in enumerate(kills, 3):
            waiting = pool.submit(publish, server, version)
            threading.Event().wait(moments.uniform(0.05, 1.0) * whole_s)
            if kind == "worker":
                server.kill_worker()
            else:
                server.kill()
                server.start()
            answered = waiting.result(120)
            assert answered.result["channel_version"] == version
            view = device.refresh()
            assert view.newest("household", "stable") == version
            assert missing_contents(server.data / "site", view.release("household", version)) == []


def _check_published_once(server: ServerProcess, database: str, last: int) -> None:
    assert rows(server, database, "SELECT version FROM publish_server_release ORDER BY version") == [
        (version,) for version in range(1, last + 1)
    ]
    told = "SELECT count(*) FROM publish_server_auditentry WHERE event = 'release.published'"
    assert rows(server, database, told) == [(last,)]
    states = rows(server, database, "SELECT DISTINCT state FROM publish_server_job WHERE kind = 'publish'")
    assert states == [("done",)]
    assert not list((server.data / "site").rglob("*.tmp"))


def test_a_worker_that_ends_again_and_again_ends_the_server_with_a_line(server: ServerProcess) -> None:
    from tests.server_process import wait_until

    for _ in range(6):
        before = server.pid_of("process.worker")
        server.kill_worker()
        wait_until(lambda before=before: _pid(server) not in (0, before) or _ended(server), "another worker")  # type: ignore[misc]
    assert server.process
    assert server.process.wait(40) == 1
    assert "the worker ended 6 times within 60 s" in server.lines[-1]


def _pid(server: ServerProcess) -> int:
    try:
        return server.pid_of("process.worker")
    except ValueError:
        return 0


def _ended(server: ServerProcess) -> bool:
    return server.process is None or server.process.poll() is not None
