"""The inputs: fetched once, verified on each use, and a missing source says what to do."""

import gzip
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from cloud_tools import cache, inputs
from cloud_tools.commands.terminal import options_named
from contract.errors import InputError, PeerError

DATA = b"the file " * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


class FakeSource:
    """Gives ``data``, and counts how often it was asked."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data, self.asked = data, 0

    def __call__(self, target: Path) -> None:
        self.asked += 1
        target.write_bytes(self.data)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KINWATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(inputs.OWN_VIDEO, raising=False)
    return tmp_path / "cache"


def test_a_complete_file_is_never_fetched_again() -> None:
    source = FakeSource()
    first = cache.pinned_file("thing", DIGEST, source)
    assert cache.pinned_file("thing", DIGEST, source) == first
    assert first.read_bytes() == DATA
    assert source.asked == 1


def test_a_damaged_file_is_a_miss() -> None:
    source = FakeSource()
    path = cache.pinned_file("thing", DIGEST, source)
    path.write_bytes(DATA[:-1] + b"?")
    assert cache.pinned_file("thing", DIGEST, source).read_bytes() == DATA
    assert source.asked == 2


def test_a_file_with_another_digest_is_not_kept(own_cache: Path) -> None:
    with pytest.raises(InputError, match="wanted"):
        cache.pinned_file("thing", DIGEST, FakeSource(b"other"))
    assert list((own_cache / "inputs").iterdir()) == []


def test_a_fetch_that_fails_leaves_nothing(own_cache: Path) -> None:
    def cut(target: Path) -> None:
        target.write_bytes(DATA[:10])
        raise PeerError("cut off")

    with pytest.raises(PeerError, match="cut off"):
        cache.pinned_file("thing", DIGEST, cut)
    assert list((own_cache / "inputs").iterdir()) == []


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KINWATCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "kinwatch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "kinwatch"


def client(monkeypatch: pytest.MonkeyPatch, code: int, stderr: str) -> list[list[str]]:
    """Answer every package client with ``code`` and ``stderr``; return the commands that were run."""
    commands: list[list[str]] = []

    def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        commands.append(list(command))
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(inputs, "run_client", run)
    monkeypatch.setattr(inputs, "VIDEO_INSTALLED", Path("/nowhere/vtest.avi"))
    return commands


def test_missing_package_lists_say_apt_get_update(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = client(monkeypatch, 100, "E: Unable to locate package opencv-doc\n")
    with pytest.raises(PeerError, match="apt-get update"):
        inputs.sample_video()
    assert commands == [["apt-get", "download", "opencv-doc"]]


def test_a_machine_without_apt_is_told_of_the_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(2, "No such file", "apt-get")

    client(monkeypatch, 0, "")
    monkeypatch.setattr(inputs, "run_client", none)
    with pytest.raises(PeerError, match="--video FILE"), options_named():
        inputs.sample_video()


def make_package(folder: Path, name: str, data: bytes) -> Path:
    """Build a real Debian package with one file."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: opencv-doc\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n"
    (tree / "DEBIAN" / "control").write_text(control)
    (tree / name).parent.mkdir(parents=True)
    (tree / name).write_bytes(data)
    package = folder / "opencv-doc_1_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)]
    subprocess.run(command, check=True, capture_output=True)
    return package


@pytest.mark.parametrize("packed", [False, True])
def test_the_video_comes_out_of_the_package_and_the_package_goes(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    name = "usr/share/doc/opencv-doc/examples/data/vtest.avi"
    file, data = (f"{name}.gz", gzip.compress(DATA)) if packed else (name, DATA)
    package = make_package(tmp_path, file, data)

    def download(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        shutil.copy(package, folder)
        return subprocess.CompletedProcess(command, 0, "", "")

    client(monkeypatch, 0, "")
    monkeypatch.setattr(inputs, "run_client", download)
    monkeypatch.setattr(inputs, "VIDEO_SHA256", DIGEST)
    assert inputs.sample_video().read_bytes() == DATA
    assert not (own_cache / "apt").exists()


def test_a_damaged_package_is_one_clear_line_and_does_not_stay(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        (folder / "opencv-doc_1_all.deb").write_bytes(b"!<arch>\ncut")
        return subprocess.CompletedProcess(command, 0, "", "")

    client(monkeypatch, 0, "")
    monkeypatch.setattr(inputs, "run_client", download)
    with pytest.raises(InputError, match="damaged"):
        inputs.sample_video()
    assert not (own_cache / "apt").exists()


def test_an_own_video_goes_before_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.avi"
    own.write_bytes(b"video")
    assert inputs.sample_video(own) == own
    monkeypatch.setenv(inputs.OWN_VIDEO, str(own))
    assert inputs.sample_video() == own
    own.unlink()
    with pytest.raises(InputError, match="KINWATCH_VIDEO"):
        inputs.sample_video()
