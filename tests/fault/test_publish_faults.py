"""Publishing that is killed, or that the disk refuses, at every step: the site always verifies."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_tools.publishing.publish import Order, publish
from contract.errors import StorageError
from tests.bundles import frozen_bytes, write_bundle
from tests.sites import LABELS, REPOSITORY, Site, command, missing_contents, run

# Kills itself before call number N of those that make bytes and names durable.
KILLER = """
import os, signal, sys
left = int(sys.argv.pop(1))
def killing(real):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
for name in ("replace", "fsync", "rename"):
    setattr(os, name, killing(getattr(os, name)))
from cloud_tools.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path).create()
    site.labels = LABELS[:1]  # a small head: these tests make its patch some fifty times
    site.publish(1)
    return site


def seen_by_a_client(site: Site, name: str = "device") -> int | None:
    """Return the newest version that verifies, with every file and patch of it in place."""
    with site.served() as url:
        view = site.client(url, name).refresh()
        newest = view.newest("household", "stable")
        if newest is not None:
            assert missing_contents(site.site, view.release("household", newest)) == []
        return newest


def restored(site: Site, saved: Path) -> None:
    shutil.rmtree(site.site)
    shutil.copytree(saved, site.site)


def test_a_kill_before_any_durable_step_leaves_a_site_that_verifies_and_can_be_finished(site: Site) -> None:
    bundle = site.bundle(2)
    saved = shutil.copytree(site.site, site.folder / "saved")
    words = ["publish", str(bundle), "--site", str(site.site)]
    outcomes: list[int | None] = []
    for point in range(1, 200):
        program = [sys.executable, "-c", KILLER, str(point), *words]
        done = run(program)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        outcomes.append(seen_by_a_client(site, f"device-{point}"))
        assert publish(Order(bundle=bundle, site=site.site, keys=site.keys)).channel_version == 2
        assert seen_by_a_client(site, f"device-{point}") == 2
        assert not list(site.site.rglob("*.tmp"))
        restored(site, saved)
    assert len(outcomes) >= 20, "too few points to mean anything"
    # The commit is one step: before it all clients see release 1, after it all see release 2.
    assert outcomes == sorted(outcomes, key=lambda version: version or 0)
    assert set(outcomes) == {1, 2}


def test_kills_at_random_moments_still_end_at_the_release(site: Site) -> None:
    words = command("publish", site.bundle(2), "--site", site.site)
    saved = shutil.copytree(site.site, site.folder / "saved")
    started = time.monotonic()
    assert run(words).returncode == 0
    whole_s = time.monotonic() - started
    moments, killed = random.Random(2), 0
    for number in range(20):
        restored(site, saved)
        process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(moments.uniform(0.1, 0.9) * whole_s)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait(10) == -signal.SIGKILL
        # A client of its own each time: one that saw a later state would rightly refuse the restored one.
        assert seen_by_a_client(site, f"device-{number}") in (1, 2)
    assert killed > 0
    assert run(words).returncode == 0
    assert seen_by_a_client(site) == 2


def test_a_disk_that_is_full_at_any_write_leaves_the_site_valid(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = site.bundle(2)
    saved = shutil.copytree(site.site, site.folder / "saved")
    seen = []
    for point in range(1, 200):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _full_at(point))
            line = _refusal(lambda: publish(Order(bundle=bundle, site=site.site, keys=site.keys)))
        if line is None:
            break
        assert line.endswith("the disk is full; the site is whole, run this again to finish")
        assert "\n" not in line
        seen.append(seen_by_a_client(site, f"device-{point}"))
        assert not list(site.site.rglob(".*"))
        assert publish(Order(bundle=bundle, site=site.site, keys=site.keys)).channel_version == 2
        assert seen_by_a_client(site, f"device-{point}") == 2
        restored(site, saved)
    assert len(seen) >= 10
    assert seen[0] == 1


def _refusal(work: Callable[[], object]) -> str | None:
    try:
        work()
    except StorageError as error:
        return str(error)
    return None


def _full_at(point: int) -> object:
    real, calls = os.fsync, iter(range(1, 10_000))

    def fsync(descriptor: int) -> None:
        if next(calls) == point:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    return fsync


def test_a_real_full_disk_is_one_clear_line_and_room_lets_it_finish(site: Site) -> None:
    """A site on a tmpfs with 64 KB left, in a mount namespace of its own."""
    if run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("this kernel lets nobody make a mount namespace")
    script = """
        mount -t tmpfs -o size=$1 none "$2" && shift 2 && cp -r "$1/." "$2" || exit 99
        site=$2; shift 2
        head -c 10000000 /dev/zero > "$site/ballast" 2> /dev/null; truncate -s -65536 "$site/ballast"
        "$@"; echo "first $?"
        rm "$site/ballast"
        "$@"; echo "second $?"
        find "$site" -name '.*.tmp'
    """
    mount = site.folder / "mount"
    mount.mkdir()
    words = command("publish", _big_bundle(site), "--site", mount, "--keys", site.keys)
    done = run(["unshare", "-rm", "sh", "-c", script, "sh", "2m", *map(str, (mount, site.site, mount)), *words])
    assert done.stdout.splitlines()[0] == "first 1", done.stderr
    assert done.stdout.splitlines()[-1] == "second 0", done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cloud_tools: ")]
    assert "the disk is full; the site is whole, run this again to finish" in line


def _big_bundle(site: Site) -> Path:
    place = site.folder / "big"
    write_bundle(place, 2, LABELS, seed=2, backbone=frozen_bytes(300_000, "big"))
    return place
