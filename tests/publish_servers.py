"""Owns publish servers for tests: a folder with a database in this process, or the real program in processes.

Import it after Django was set up: the fixtures of ``tests.server_fixtures`` do that.
"""

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import setup_test_environment

from cloud_tools.publish_server.config import PREFIX, ServerConfig
from cloud_tools.publish_server.jobs.duties import Duties
from cloud_tools.publish_server.jobs.handlers import Handlers
from cloud_tools.publish_server.jobs.worker import Worker
from cloud_tools.publish_server.pages.tokens import make_token
from cloud_tools.publish_server.process.preparation import TOKEN_FILE, prepare
from cloud_tools.publish_server.stores import upload_store
from contract.manifest import NAME
from tests.bundles import write_bundle

setup_test_environment()
PASSWORD = "four-words-for-the-tests"
LEASE = dt.timedelta(seconds=30)
NOBODY = "mqtt://127.0.0.1:9"  # a broker that is not there: telling relays fails, and nothing else does


@dataclass(frozen=True)
class ServerFolder:
    """A server's folder; ``token`` may do everything."""

    config: ServerConfig
    token: str

    @property
    def data(self) -> Path:
        """The folder."""
        return self.config.data

    def user(self) -> User:
        """Return the first person."""
        return User.objects.get()

    def api(self, *scopes: str) -> "Api":
        """Return what asks the API, with a token that may do everything, or only ``scopes``."""
        return Api(make_token(self.user(), "test", list(scopes)) if scopes else self.token)

    def browser(self) -> Client:
        """Return a client that is logged in."""
        client = Client()
        client.force_login(self.user(), "django.contrib.auth.backends.ModelBackend")
        return client

    def bundle(self, version: int, *, seed: int | None = None, labels: tuple[str, ...] = ("ann",)) -> Path:
        """Return the folder of a tiny bundle."""
        place = self.data.parent / f"bundle-{version}-{seed}-{len(labels)}"
        write_bundle(place, version, labels, seed=version if seed is None else seed)
        return place

    def worker(self) -> Worker:
        """Return a worker that does one job at a time when told to."""
        return Worker(Handlers(self.config).by_kind(), LEASE)

    def duties(self) -> Duties:
        """Return what the server does by itself."""
        return Duties(self.config)


class Api:
    """Asks the API through Django's test client; an answer is its status and its JSON."""

    def __init__(self, token: str) -> None:
        self.headers = {"authorization": f"Bearer {token}"} if token else {}
        self.client = Client(raise_request_exception=True)

    def get(self, path: str) -> tuple[int, Any]:
        """GET below /api."""
        response = self.client.get(f"/api{path}", headers=self.headers)
        return response.status_code, response.json()

    def post(self, path: str, body: object = None) -> tuple[int, Any]:
        """POST JSON below /api."""
        response = self.client.post(f"/api{path}", body, content_type="application/json", headers=self.headers)
        return response.status_code, response.json()

    def patch(self, path: str, data: bytes, offset: int | str = 0) -> tuple[int, Any]:
        """PATCH bytes below /api."""
        headers = {**self.headers, "upload-offset": str(offset)}
        response = self.client.patch(f"/api{path}", data, "application/octet-stream", headers=headers)
        return response.status_code, response.json()

    def begin(self, data: bytes, *, size: int | None = None) -> tuple[int, Any]:
        """Begin to send ``data``."""
        digest = hashlib.sha256(data).hexdigest()
        return self.post("/uploads", {"sha256": digest, "size": len(data) if size is None else size})

    def send(self, data: bytes) -> None:
        """Send a whole file."""
        _, upload = self.begin(data)
        if not upload["complete"]:
            status, answer = self.patch(f"/uploads/{upload['id']}", data)
            assert (status, answer["complete"]) == (200, True), answer

    def send_bundle(self, bundle: Path) -> str:
        """Send the files of a bundle; return the text of its manifest."""
        manifest = (bundle / NAME).read_text()
        for path in sorted(bundle.iterdir()):
            if path.name != NAME:
                self.send(path.read_bytes())
        return manifest

    def publish(self, bundle: Path, **choices: object) -> tuple[int, Any]:
        """Send a bundle and ask for it to be published."""
        return self.post("/releases", {"manifest": self.send_bundle(bundle), **choices})


def make_template(data: Path) -> Path:
    """Prepare a server's folder; return it."""
    config = ServerConfig(data=data, password=PASSWORD, secret_key=settings.SECRET_KEY, broker=NOBODY)
    with database_in(data):
        prepare(config)
    return data


@contextlib.contextmanager
def server_folder(data: Path, template: Path) -> Iterator[ServerFolder]:
    """Let Django look at a copy of ``template`` within the block."""
    shutil.copytree(template, data)
    config = replace(settings.CONFIG, data=data, broker=NOBODY)
    with database_in(data), override_settings(CONFIG=config):
        upload_store.cache_clear()
        yield ServerFolder(config, (data / TOKEN_FILE).read_text().strip())
        upload_store.cache_clear()


@contextlib.contextmanager
def database_in(data: Path) -> Iterator[None]:
    """Let Django use the database in ``data`` within the block."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = data / "server.sqlite3"
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def manifest_of(bundle: Path) -> dict[str, Any]:
    """Return the manifest of a bundle as JSON."""
    value: dict[str, Any] = json.loads((bundle / NAME).read_text())
    return value


def process_environment(config: ServerConfig) -> dict[str, str]:
    """Return the environment of a program of ours that works on the folder of ``config``."""
    ours = {"DATA": str(config.data), "SECRET_KEY": settings.SECRET_KEY, "BROKER": config.broker}
    settings_module = {"DJANGO_SETTINGS_MODULE": "cloud_tools.publish_server.settings"}
    return {**os.environ, **settings_module, **{PREFIX + name: value for name, value in ours.items() if value}}
