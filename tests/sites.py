"""Owns publish sites for tests: made in a folder, served over loopback in this process, seen by the real client."""

import contextlib
import datetime as dt
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.publish import Order, Published, publish
from cloud_tools.publishing.repository import Repository, create_site, utc_now
from cloud_tools.publishing.site_folder import SiteFolder
from cloud_tools.publishing.site_server import SiteServer
from contract.trust import TrustedSite, VerifiedRelease
from tests.bundles import write_bundle

REPOSITORY = Path(__file__).resolve().parent.parent
LABELS = ("ann", "ben", "cas")


class Site:
    """A publish site in ``folder``, signed at ``now`` (default: the real time, read once)."""

    def __init__(self, folder: Path, *models: str, now: dt.datetime | None = None) -> None:
        self.folder, self.site, self.keys = folder, folder / "site", folder / "site-keys"
        self.now = now or utc_now()
        self.models = models or ("household",)
        self.labels: tuple[str, ...] = LABELS

    def create(self) -> "Site":
        """Make keys and the empty, signed site."""
        KeyFolder(self.keys).create(self.models)
        create_site(self.site, KeyFolder(self.keys), self.models, self.clock)
        return self

    def clock(self) -> dt.datetime:
        """Return the time that this site is signed with."""
        return self.now

    def bundle(self, version: int, *, seed: int | None = None, model: str = "household") -> Path:
        """Return the folder of a tiny bundle."""
        place = self.folder / f"{model}-{version}-{seed}"
        write_bundle(place, version, self.labels, seed=version if seed is None else seed, model=model)
        return place

    def publish(self, version: int, *, seed: int | None = None, channel: str = "stable", **options: int) -> Published:
        """Publish a tiny bundle."""
        bundle = self.bundle(version, seed=seed)
        order = Order(bundle=bundle, site=self.site, keys=self.keys, channel=channel, **options)
        return publish(order, clock=self.clock)

    def refresh(self) -> list[str]:
        """Sign again what is short-lived."""
        folder = SiteFolder(self.site)
        with folder.locked():
            return Repository(folder, KeyFolder(self.keys), self.clock).refresh()

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """Serve the site on a free port of loopback; return its URL."""
        with SiteServer(self.site, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield server.url
            finally:
                server.shutdown()
                thread.join(10)

    def client(self, url: str, name: str = "device") -> TrustedSite:
        """Return a client with a memory of its own; the same name is the same device."""
        return TrustedSite(url, self.keys / "root.json", self.folder / name)


def missing_contents(site: Path, release: VerifiedRelease) -> list[str]:
    """Return the digests of signed files and patches that the site does not hold byte for byte."""
    missing = []
    for digest, size in release.target.contents().items():
        place = site / "content" / digest
        data = place.read_bytes() if place.is_file() else b""
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            missing.append(digest)
    return missing


def cloud_tools(*arguments: object, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a process of its own and wait for its end."""
    return run(command(*arguments), limit_s)


def run(words: list[str], limit_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout and wait for its end; its exit code is for the caller to judge."""
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=limit_s, check=False)


def command(*arguments: object) -> list[str]:
    """Return the command line ``cloud_tools arguments`` of this checkout; run it in REPOSITORY."""
    return [sys.executable, "-m", "cloud_tools", *map(str, arguments)]
