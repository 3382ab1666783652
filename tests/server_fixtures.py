"""Owns the fixtures of a publish server for tests: nothing of Django is imported before one is asked for."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.publish_servers import ServerFolder


@pytest.fixture(scope="session")
def server_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of a server, to be copied."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.server_settings"
    django.setup()
    from tests.publish_servers import make_template

    return make_template(tmp_path_factory.mktemp("server") / "data")


@pytest.fixture
def server(tmp_path: Path, server_template: Path) -> "Iterator[ServerFolder]":
    """A server's folder and database of its own, with Django in this process looking at it."""
    from tests.publish_servers import server_folder

    with server_folder(tmp_path / "data", server_template) as folder:
        yield folder
