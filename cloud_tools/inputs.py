"""Owns getting the public sample video, and running package clients. Refuses to read what is in it.

The video is pinned by SHA-256, fetched once through the ordinary client (apt-get resumes and verifies its own
transfers), and kept in the cache folder; after that nothing here needs a network. A user's own file always goes
first. Source: Debian package ``opencv-doc``. Backbone weights come by ``cloud_tools.backbones.weight_sources``.
"""

import gzip
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from cloud_tools.cache import cache_folder, pinned_file
from cloud_tools.setting_errors import FetchError, Setting, SettingError
from contract.errors import InputError, PeerError
from contract.files import sha256_file

VIDEO_SHA256 = "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf"
VIDEO_PACKAGE = "opencv-doc"
VIDEO_INSTALLED = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
LABELS = Path(__file__).parent / "data" / "vtest_people.json"
FETCH_LIMIT_S = 900.0
OWN_VIDEO = "KINWATCH_VIDEO"
OWN_FILE = (Setting.VIDEO, f" FILE or ${OWN_VIDEO}")


def sample_video(own: Path | None = None) -> Path:
    """Return the sample video vtest.avi: ``own`` or $KINWATCH_VIDEO if given, the cache, or the Debian package.

    Raises:
        InputError: the own file is missing, or what was fetched is not the pinned file.
        PeerError: it cannot be fetched; the text says what to do.
    """
    return _own(own, OWN_VIDEO) or pinned_file("vtest.avi", VIDEO_SHA256, _fetch_video)


def _own(path: Path | None, variable: str) -> Path | None:
    named = path or (Path(os.environ[variable]) if os.environ.get(variable) else None)
    if named is not None and not named.is_file():
        raise InputError(f"{named}: no such file{'' if path else f' (from ${variable})'}")
    return named


def _fetch_video(target: Path) -> None:
    if VIDEO_INSTALLED.is_file() and sha256_file(VIDEO_INSTALLED) == VIDEO_SHA256:
        shutil.copyfile(VIDEO_INSTALLED, target)
        return
    folder = (
        cache_folder() / "apt"
    )  # kept until the video is out of it: apt goes on with what is there, and checks it
    folder.mkdir(exist_ok=True)
    _run_apt(folder)
    packages = sorted(folder.glob("*.deb"))
    if not packages:
        raise FetchError(f"apt-get download {VIDEO_PACKAGE} gave no package; use ", *OWN_FILE)
    try:
        _extract_video(packages[-1], target)
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{packages[-1].name} is damaged ({error}); try again") from error
    finally:
        shutil.rmtree(folder)


def _run_apt(folder: Path) -> None:
    own_copy = ("; or give an own copy of vtest.avi: ", *OWN_FILE)
    try:
        done = run_client(["apt-get", "download", VIDEO_PACKAGE], folder)
    except FileNotFoundError as error:
        raise FetchError("the sample video is in a Debian package and apt-get is not here", *own_copy) from error
    if done.returncode:
        text = done.stderr
        if "Unable to locate" in text or "No candidate" in text or "Can't select" in text:
            raise FetchError(f"apt knows no package {VIDEO_PACKAGE}: run `apt-get update` (as root) first", *own_copy)
        raise FetchError(f"apt-get download {VIDEO_PACKAGE} failed: {last_line(text)}", *own_copy)


def _extract_video(package: Path, target: Path) -> None:
    """Take vtest.avi out of a .deb without unpacking the other 95 MB; the stream ends where the file was found."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            packed = member.name.endswith(".gz")
            wanted = member.isfile() and member.name.removesuffix(".gz").endswith("/data/vtest.avi")
            source = archive.extractfile(member) if wanted else None
            if source is not None:
                with target.open("wb") as file, gzip.open(source) if packed else source as opened:
                    shutil.copyfileobj(opened, file)
                process.kill()
                return
    raise SettingError(f"{package.name} has no vtest.avi; give an own copy: ", *OWN_FILE)


def run_client(command: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a package client in ``folder``; PeerError when it does not end in time."""
    environment = {**os.environ, "LC_ALL": "C"}  # its messages are read
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=FETCH_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"{command[0]} did not end within {FETCH_LIMIT_S:.0f} s") from error


def last_line(text: str) -> str:
    """Return the line of a client's messages that says what went wrong, at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "ERROR"))]
    return ((errors or lines or ["no message"])[-1])[:200]
