"""The first start: what is missing is made, once; after a kill in the middle the next start makes the rest."""

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cloud_tools.publish_server.config import ServerConfig
    from tests.publish_servers import ServerFolder


class Killed(BaseException):
    """A kill, as this process can stand it."""


def kill(*arguments: object, **options: object) -> None:
    raise Killed


def test_a_second_start_makes_nothing_and_tells_nothing(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.process.preparation import prepare

    prepare(server.config)  # this folder is a copy of the one that was prepared
    before = {path: path.read_bytes() for path in (server.data / "site-keys").rglob("*.pem")}
    assert prepare(server.config) == []
    assert {path: path.read_bytes() for path in (server.data / "site-keys").rglob("*.pem")} == before


@pytest.mark.parametrize("step", ["create_site", "call_command", "make_token", "atomic_write"])
def test_a_first_start_killed_at_any_step_is_finished_by_the_next(
    step: str, tmp_path: Path, server: "ServerFolder", monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_tools.publish_server.process import preparation
    from tests.publish_servers import database_in

    config = _config(server, tmp_path / "new")
    with database_in(config.data):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(preparation, step, kill)
            preparation.prepare(config)
        told = preparation.prepare(config)
        assert any(line.startswith("first user admin") for line in told)
        assert preparation.prepare(config) == []
    assert stat.S_IMODE((config.data / "publish.token").stat().st_mode) == 0o600


def test_a_password_is_made_and_told_where_none_is_given(tmp_path: Path, server: "ServerFolder") -> None:
    from cloud_tools.publish_server.process.preparation import prepare
    from tests.publish_servers import database_in

    config = _config(server, tmp_path / "new")
    with database_in(config.data):
        (line,) = [line for line in prepare(config) if line.startswith("first user")]
        from django.contrib.auth.models import User

        password = line.split("password ")[1].split(" ")[0]
        assert len(password) == 27
        assert User.objects.get().check_password(password)


def _config(server: "ServerFolder", data: Path) -> "ServerConfig":
    from dataclasses import replace

    return replace(server.config, data=data)
