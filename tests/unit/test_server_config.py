"""What the environment tells a server: strict, secrets from files; and settings that pass Django's own checks."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_tools.publish_server.config import PREFIX, read_config
from cloud_tools.publish_server.database import database
from cloud_tools.publish_server.secret_key import secret_key
from contract.errors import ConfigError
from tests.sites import REPOSITORY


def config_of(**values: str) -> object:
    return read_config({PREFIX + name: value for name, value in {"DATA": "/srv/kinwatch", **values}.items()})


def test_a_folder_is_all_that_must_be_said() -> None:
    config = read_config({f"{PREFIX}DATA": "/srv/kinwatch", "HOME": "/root"})
    assert (config.site, config.keys) == (Path("/srv/kinwatch/site"), Path("/srv/kinwatch/site-keys"))
    assert (config.listen, config.port, config.broker_url) == ("127.0.0.1", 8470, "mqtt://127.0.0.1:1883")
    assert not config.https


def test_a_secret_may_be_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("postgresql://kin:s3cret@db/kinwatch\n")
    config = read_config({f"{PREFIX}DATA": "/x", f"{PREFIX}DATABASE_URL_FILE": str(tmp_path / "db")})
    assert config.database_url == "postgresql://kin:s3cret@db/kinwatch"
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"BROKR": "mqtt://x"}, "unknown variable KINWATCH_SERVER_BROKR (did you mean KINWATCH_SERVER_BROKER?)"),
        ({"PORT": "http"}, "KINWATCH_SERVER_PORT must be a whole number, not 'http'"),
        ({"LEASE_S": "0"}, "must be a whole number"),
        ({"URL": "models.example.org"}, "KINWATCH_SERVER_URL"),
        ({"PASSWORD_FILE": "/nonexistent"}, "/nonexistent: No such file"),
        ({"DATA": ""}, "names no folder"),
        ({"PORT_FILE": "/x"}, "unknown variable KINWATCH_SERVER_PORT_FILE"),
    ],
)
def test_what_cannot_be_stops_the_start_and_is_named(values: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_of(**values)
    assert words in str(error.value)


def test_a_database_is_a_file_or_a_postgresql_server(tmp_path: Path) -> None:
    assert database("", tmp_path)["NAME"] == tmp_path / "server.sqlite3"
    found = database("postgresql://kin:p%40ss@db.example:5433/kinwatch?sslmode=require", tmp_path)
    assert (found["HOST"], found["PORT"], found["NAME"]) == ("db.example", 5433, "kinwatch")
    assert (found["USER"], found["PASSWORD"], found["OPTIONS"]) == ("kin", "p@ss", {"sslmode": "require"})


@pytest.mark.parametrize("url", ["mysql://u:s3cret@h/d", "postgresql://h", "postgresql://u:s3cret@h:port/d"])
def test_another_database_is_refused_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        database(url, tmp_path)
    assert "s3cret" not in str(error.value)


def test_the_key_of_sessions_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = secret_key(tmp_path / "data")
    assert len(key) >= 64
    assert secret_key(tmp_path / "data") == key
    assert stat.S_IMODE((tmp_path / "data" / "secret_key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


@pytest.mark.slow
def test_djangos_checks_for_deployment_have_nothing_to_say_behind_tls(tmp_path: Path) -> None:
    ours = {"DATA": str(tmp_path / "data"), "URL": "https://models.example.org"}
    words = [sys.executable, "-m", "django", "check", "--deploy", "--fail-level", "WARNING"]
    settings = {"DJANGO_SETTINGS_MODULE": "cloud_tools.publish_server.settings"}
    environment = {**os.environ, **settings, **{PREFIX + name: value for name, value in ours.items()}}
    done = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no issues" in done.stdout


def test_the_committed_migrations_are_those_of_the_models(server: object) -> None:
    from django.core.management import call_command

    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
