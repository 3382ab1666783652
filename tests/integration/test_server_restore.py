"""A server's folder, copied while it runs as its page says, and put back: devices that saw more go on trusting it."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from cloud_tools.publishing.server_client import ServerOrder, publish_to_server
from contract.errors import InputError
from tests.bundles import write_bundle
from tests.server_process import ServerProcess
from tests.sites import missing_contents

pytestmark = pytest.mark.slow


def publish(server: ServerProcess, version: int, seed: int) -> None:
    place = server.folder / f"bundle-{version}-{seed}"
    write_bundle(place, version, ("ann",), seed=seed)
    publish_to_server(ServerOrder(bundle=place, url=server.url, token=server.token, patches_from=0))


def back_up(data: Path, copy: Path) -> None:
    """Copy a running server's folder, in the order of docs/publish-server.md."""
    copy.mkdir()
    source, target = sqlite3.connect(data / "server.sqlite3"), sqlite3.connect(copy / "server.sqlite3")
    source.backup(target)
    source.close()
    target.close()
    timestamp = (data / "site" / "metadata" / "timestamp.json").read_bytes()
    for name in ("site", "site-keys"):
        shutil.copytree(data / name, copy / name)
    for name in ("secret_key", "identity"):
        shutil.copy2(data / name, copy / name)
    (copy / "site" / "metadata" / "timestamp.json").write_bytes(timestamp)


def test_a_restored_server_is_trusted_at_once_and_gives_no_version_of_its_own_twice(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path).start()
    try:
        token = server.token
        publish(server, 1, seed=1)
        back_up(server.data, tmp_path / "copy")
        publish(server, 2, seed=2)
        device = server.client()
        assert device.refresh().newest("household", "stable") == 2
        server.kill()
        shutil.rmtree(server.data)
        (tmp_path / "copy").rename(server.data)
        server.token_file.write_text(token)
        server.start()
        assert any("restored or moved" in line for line in server.lines)
        assert device.refresh().newest("household", "stable") == 1
        with pytest.raises(InputError, match="with other contents"):
            publish(server, 1, seed=99)
        publish(server, 3, seed=3)
        view = device.refresh()
        assert view.newest("household", "stable") == 3
        assert missing_contents(server.data / "site", view.release("household", 3)) == []
    finally:
        server.stop()
