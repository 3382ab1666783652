"""Owns what is made before a server serves: keys, site, tables, first person. Refuses to make any twice.

Run again after a kill, it makes the rest.
"""

import secrets

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction

from cloud_tools.publish_server.config import ServerConfig
from cloud_tools.publish_server.models.token import Scope
from cloud_tools.publish_server.pages.tokens import make_token
from cloud_tools.publish_server.process.restored import sign_if_restored
from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.repository import create_site
from contract.files import atomic_write

TOKEN_FILE = "publish.token"
WORDS = "-".join  # of a password that a person types once


def prepare(config: ServerConfig) -> list[str]:
    """Make what is missing; return what a person must be told now, for it is not told again."""
    told = _make_site(config)
    if sign_if_restored(config):
        told.append("this folder was restored or moved: everything was signed again, above what devices have seen")
    call_command("migrate", verbosity=0, interactive=False)
    return [*told, *_make_first_user(config)]


def _make_site(config: ServerConfig) -> list[str]:
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys, told = KeyFolder(config.keys), []
    if not keys.path.exists():
        keys.create(config.models)
        told.append(f"move {keys.path / 'offline'} to a medium that is not connected, and keep a copy of it")
    if not (config.site / "metadata" / "timestamp.json").exists():
        create_site(config.site, keys, config.models)
        told.append(f"install {keys.root_metadata} on relays and devices: it is public")
    return told


def _make_first_user(config: ServerConfig) -> list[str]:
    if User.objects.exists():
        return []
    password = config.password or WORDS(secrets.token_hex(3) for _ in range(4))
    place = config.data / TOKEN_FILE
    # A kill before the end leaves no person, so that the next start makes one and tells of it.
    with transaction.atomic():
        user = User.objects.create_superuser(config.user, password=password)
        atomic_write(place, make_token(user, "command line", list(Scope.values)).encode() + b"\n", 0o600)
    said = "" if config.password else f", password {password} (told this once)"
    return [f"first user {config.user}{said}", f"the token to publish with is in {place}"]
