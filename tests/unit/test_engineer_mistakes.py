"""What an engineer gets wrong, or the network leaves half done, before anything is trained."""

import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cloud_tools import inputs
from cloud_tools.backbones import weight_sources
from cloud_tools.backbones.weights import open_weights
from cloud_tools.datasets.dataset import Dataset
from cloud_tools.datasets.from_video import dataset_from_video
from cloud_tools.datasets.labels import Labels
from cloud_tools.tflite import engine
from cloud_tools.training.bundle_writer import created_now
from cloud_tools.training.settings import Settings
from cloud_tools.training.train import train
from contract.errors import InputError, PeerError

FRAMES = 30
BOX = (2, 3, 10, 20)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "small.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(FRAMES):
        writer.write(np.full((48, 64, 3), 4 * i, np.uint8))
    writer.release()
    return path


@pytest.fixture
def labels() -> Labels:
    anna, bert = (dict.fromkeys(range(first, FRAMES), BOX) for first in (0, 1))
    return Labels("", 64, 48, FRAMES, {"anna": anna, "bert": bert}, {})


@pytest.mark.parametrize("gap_s", [float("nan"), float("inf"), -1.0])
def test_a_gap_that_is_no_time_leaves_nothing(video: Path, labels: Labels, tmp_path: Path, gap_s: float) -> None:
    with pytest.raises(InputError, match="is no time"):
        dataset_from_video(video, labels, tmp_path / "out", gap_s=gap_s)
    assert [path.name for path in tmp_path.iterdir()] == ["small.avi"]


def test_a_person_named_twice_is_taken_once(video: Path, labels: Labels, tmp_path: Path) -> None:
    once = dataset_from_video(video, labels, tmp_path / "once", people=["anna"])
    twice = dataset_from_video(video, labels, tmp_path / "twice", people=["anna", "anna"])
    assert once.crops
    assert twice.crops == once.crops


def test_what_cannot_be_read_is_one_line_without_a_decoders_own(tmp_path: Path) -> None:
    (tmp_path / "empty.avi").touch()
    labels = Path(inputs.LABELS).read_text(encoding="utf-8").replace('"sha256"', '"sha256_of_another"')
    (tmp_path / "labels.json").write_text(labels, encoding="utf-8")
    words = ["dataset", "from-video", "empty.avi", "labels.json", "out"]
    command = [sys.executable, "-m", "cloud_tools", *words]
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cloud_tools: empty.avi: the file is empty\n"


def test_a_damaged_wheel_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "own.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("own.h5", b"\x89HDF" + bytes(1000))
    data = bytearray(path.read_bytes())
    data[100] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged wheel"):
        open_weights("file", path)


@pytest.mark.parametrize("name", ["root", "../x", "a b", ""])
def test_a_model_that_could_not_be_published_is_refused_before_training(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="model"):
        train(Dataset(tmp_path, {}, ()), tmp_path / "out", Settings(model=name))


@pytest.mark.parametrize("epoch", ["", "abc", "-1", "253402300800"])
def test_a_time_of_creation_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, epoch: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH"):
        created_now()


def test_the_last_time_of_creation_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "253402300799")
    assert created_now() == "9999-12-31T23:59:59Z"


class FakeDownloader:
    """Stands for ``keras.utils.get_file``: takes a file that is there, tells of a download on stdout, may fail."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    def __call__(self, name: str, url: str, *, cache_dir: str) -> str:
        path = Path(cache_dir) / "datasets" / name
        if not path.exists():
            print("Downloading data from", url)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"half")
            if self.fails:
                raise Exception("URL fetch failure")
            path.write_bytes(b"whole")
        return str(path)


def set_downloader(monkeypatch: pytest.MonkeyPatch, *, fails: bool) -> None:
    fake = SimpleNamespace(utils=SimpleNamespace(get_file=FakeDownloader(fails=fails)))
    monkeypatch.setattr(engine, "keras", lambda: fake)


def test_half_a_download_of_imagenet_weights_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KINWATCH_CACHE", str(tmp_path))
    set_downloader(monkeypatch, fails=True)
    with pytest.raises(PeerError, match="ImageNet"):
        weight_sources.imagenet_weights()
    assert list(tmp_path.rglob("*.h5")) == []
    set_downloader(monkeypatch, fails=False)
    assert weight_sources.imagenet_weights().read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]
    assert capsys.readouterr().out == ""  # where `train --json` prints
