"""The publishing commands as real processes: exit codes, one clear line, and the whole way to a client."""

import json
import re
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import modelpatch
from contract.errors import TrustError
from contract.trust import TrustedSite
from tests.sites import REPOSITORY, Site, cloud_tools, command, missing_contents, run


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    done = cloud_tools("keys", "init", site.site)
    assert done.returncode == 0, done.stderr
    assert str(site.keys / "root.json") in done.stdout
    return site


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("cloud_tools: ")
    return lines[0]


def test_help_imports_no_heavy_library() -> None:
    program = (
        "import sys; from cloud_tools.__main__ import main; code = main(['--help']);"
        "heavy = {'tensorflow', 'keras', 'numpy', 'cv2', 'tuf', 'h5py'} & set(sys.modules);"
        "sys.exit(code or len(heavy))"
    )
    done = run([sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    assert all(re.search(rf"^  {name}\b", done.stdout, re.MULTILINE) for name in ("keys", "publish", "serve", "diff"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["publish"],
        ["publish", "{bundle}"],
        ["publish", "{bundle}", "--site", "{site}", "--rollout", "101"],
    ],
)
def test_wrong_usage_exits_2(site: Site, arguments: list[str]) -> None:
    words = [text.format(bundle=site.bundle(1), site=site.site) for text in arguments]
    done = cloud_tools(*words)
    assert done.returncode == 2
    assert "Usage: cloud_tools" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_keys_init_is_one_clear_line_and_keeps_the_keys(site: Site) -> None:
    before = {path: path.read_bytes() for path in site.keys.rglob("*.pem")}
    done = cloud_tools("keys", "init", site.site)
    assert (done.returncode, one_line(done.stderr)) == (1, f"cloud_tools: {site.site} is a publish site already")
    assert {path: path.read_bytes() for path in site.keys.rglob("*.pem")} == before


def test_keys_init_refuses_keys_in_the_served_folder(tmp_path: Path) -> None:
    done = cloud_tools("keys", "init", tmp_path / "site", "--keys", tmp_path / "site" / "keys")
    assert done.returncode == 1
    assert "must not be in the served folder" in one_line(done.stderr)
    assert not (tmp_path / "site").exists()


def test_keys_init_says_the_refresh_that_works(tmp_path: Path) -> None:
    done = cloud_tools("keys", "init", tmp_path / "my site", "--keys", tmp_path / "my keys")
    line = done.stdout.splitlines()[-1]
    words = shlex.split(line.split("days: ", 1)[1])
    assert words[:3] == ["cloud_tools", "keys", "refresh"]
    again = cloud_tools(*words[1:])
    assert (again.returncode, again.stdout) == (0, "signed again: timestamp\n"), again.stderr


def test_a_bundle_with_a_missing_file_is_one_clear_line(site: Site) -> None:
    bundle = site.bundle(1)
    (bundle / "head.tflite").unlink()
    done = cloud_tools("publish", bundle, "--site", site.site)
    assert done.returncode == 1
    assert "head.tflite" in one_line(done.stderr)
    assert list((site.site / "content").iterdir()) == []


def test_a_site_with_a_wrong_signature_is_one_clear_line_for_publisher_and_client(site: Site) -> None:
    other = Site(site.folder / "other").create()
    with other.served() as url, pytest.raises(TrustError) as caught:
        TrustedSite(url, site.keys / "root.json", site.folder / "device").refresh()
    assert "\n" not in str(caught.value)
    done = cloud_tools("publish", site.bundle(1), "--site", other.site, "--keys", site.keys)
    assert done.returncode == 1
    assert "not signed by this site's keys" in one_line(done.stderr)


def test_publish_and_serve_reach_a_client(site: Site) -> None:
    for version in (1, 2):
        done = cloud_tools("publish", site.bundle(version), "--site", site.site, "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
    assert (report["outcome"], report["version"], report["notified"]) == ("new", 2, False)
    assert [patch["file"] for patch in report["patches"]] == ["head.tflite"]
    serving = [*command("serve", "--site", site.site, "--port", 0, "--access-log")]
    with subprocess.Popen(
        serving, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        ready, _, _ = select.select([server.stdout], [], [], 30)
        assert ready, "the server did not say that it serves"
        url = server.stdout.readline().split()[-1]
        release = site.client(url).refresh().release("household", 2)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        log = server.stderr.read()
    assert release.digest == report["digest"]
    assert missing_contents(site.site, release) == []
    assert re.search(r"site\.request path=/metadata/timestamp\.json status=200 bytes=[1-9]", log)
    assert "Traceback" not in log


def test_diff_writes_a_patch_that_gives_the_new_file(site: Site) -> None:
    old, new, patch = site.bundle(1) / "head.tflite", site.bundle(2) / "head.tflite", site.folder / "patch"
    done = cloud_tools("diff", old, new, patch, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["patch_bytes"] == patch.stat().st_size < new.stat().st_size
    modelpatch.apply_file(old, patch, site.folder / "made")
    assert (site.folder / "made").read_bytes() == new.read_bytes()
    assert cloud_tools("diff", old, site.bundle(2), patch).returncode == 2


def test_two_publishers_of_one_release_both_succeed(site: Site) -> None:
    words = command("publish", site.bundle(1), "--site", site.site)
    both = [subprocess.Popen(words, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    with site.served() as url:
        release = site.client(url).refresh().release("household", 1)
        assert missing_contents(site.site, release) == []


def test_two_publishers_of_two_releases_do_not_interleave(site: Site) -> None:
    orders = {version: command("publish", site.bundle(version), "--site", site.site) for version in (1, 2)}
    running = {
        version: subprocess.Popen(words, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        for version, words in orders.items()
    }
    errors = {version: process.communicate(timeout=60)[1] for version, process in running.items()}
    assert running[2].returncode == 0, errors[2]
    # Whoever came first: release 1 before 2 is published, after it a version that does not grow.
    late = running[1].returncode == 1
    assert late == ("is not newer than 2" in errors[1])
    with site.served() as url:
        view = site.client(url).refresh()
        assert view.newest("household", "stable") == 2
        for version in (2,) if late else (1, 2):
            assert missing_contents(site.site, view.release("household", version)) == []


def test_an_unwritable_site_is_one_clear_line(site: Site) -> None:
    bundle = site.bundle(1)
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "limited", *command("publish", bundle, "--site", site.site)]
    done = run(limited)
    assert done.returncode == 1
    assert "File too large; the site is whole, run this again to finish" in one_line(done.stderr)
    with site.served() as url:
        assert site.client(url).refresh().newest("household", "stable") is None
    assert cloud_tools("publish", bundle, "--site", site.site).returncode == 0
