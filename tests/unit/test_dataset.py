"""A dataset from a tiny synthetic video: what is cut, what its digest covers, and what is refused."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from cloud_tools.datasets.dataset import NAME, Dataset, dataset_stats, load_dataset
from cloud_tools.datasets.found_people import match
from cloud_tools.datasets.from_video import dataset_from_video
from cloud_tools.datasets.labels import Labels, parse_labels
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.evaluation.threshold import choose_threshold
from contract.errors import InputError
from contract.files import sha256_file
from contract.manifest import UNKNOWN
from contract.preprocess import crop
from contract.video.reader import pictures
from tests.detectors import FAR, REG_MAX, told_runner

FRAMES, WIDTH, HEIGHT, FPS = 40, 64, 48, 10


def write_video(path: Path, frames: int = FRAMES, seed: int = 1) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    assert writer.isOpened()
    noise = np.random.default_rng(seed)
    for _ in range(frames):
        small = noise.integers(0, 256, (6, 8, 3), np.uint8)
        writer.write(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    writer.release()
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "small.avi")


@pytest.fixture
def labels(video: Path) -> Labels:
    body = {
        "schema": 1,
        "video": {"sha256": sha256_file(video), "width": WIDTH, "height": HEIGHT, "frames": FRAMES},
        "household": {
            "anna": [[i, 2, 3, 10, 20] for i in range(FRAMES)],
            "bert": [[i, 40, 3, 10, 20] for i in range(FRAMES)],
        },
        "strangers": {"postman": [[i, 20, 3, 10, 20] for i in range(5)]},
    }
    return parse_labels(json.dumps(body).encode(), "labels.json")


@pytest.fixture
def dataset(video: Path, labels: Labels, tmp_path: Path) -> Dataset:
    return dataset_from_video(video, labels, tmp_path / "dataset", gap_s=0.5)


def test_crops_are_cut_as_the_device_cuts_them(dataset: Dataset, video: Path, labels: Labels) -> None:
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    frame = capture.read()[1]
    capture.release()
    first = next(item for item in dataset.crops if item.person == "anna" and item.frame == 0)
    assert np.array_equal(dataset.image(first), crop(frame, labels.household["anna"][0], 0.1))


def test_with_a_detector_what_it_finds_of_a_labelled_person_is_cut(
    video: Path, labels: Labels, tmp_path: Path
) -> None:
    half, none = np.array([FAR, FAR] + [0.0] * (REG_MAX - 1)), np.array([FAR] + [0.0] * REG_MAX)
    # The middle of its cell is (8, 8) and a stride 16, on a picture of two thirds of the frame: 12 x 24 pixels of it.
    runner, _ = told_runner({0: (0.9, np.stack([half, half, none, half]).astype(np.float32))})
    made = dataset_from_video(video, labels, tmp_path / "found", gap_s=0.5, detector=lambda: runner)
    frame = next(pictures(video)).pixels
    assert np.array_equal(made.image(made.crops[0]), crop(frame, (0, 0, 12, 24), 0.1))
    assert {item.person for item in made.crops} == {"anna"}, "where the others stand it finds nobody"
    assert made.source["detector_sha256"] == runner.detector.sha256
    whole = dataset_from_video(video, labels, tmp_path / "drawn", gap_s=0.5)
    assert made.source["not_found"] == len(whole.crops) - len(made.crops)


def test_each_labelled_person_has_the_box_that_fits_best_and_nobody_anothers() -> None:
    anna, bert, far = (0, 0, 10, 20), (4, 0, 10, 20), (200, 0, 10, 20)
    assert match([anna, bert, far], [(5, 0, 10, 20), (1, 0, 10, 20)]) == {0: 1, 1: 0}
    assert match([anna, bert], [(2, 0, 10, 20)]) == {0: 0}, "one box is one person"
    assert match([anna], []) == match([], [anna]) == {}


def test_a_dataset_on_disk_loads_as_it_was_made(dataset: Dataset) -> None:
    loaded = load_dataset(dataset.folder)
    assert loaded == dataset
    assert loaded.people == ("anna", "bert")
    for item in loaded.crops:
        assert loaded.image(item).size > 0


def test_sides_are_split_by_time_with_the_gap(dataset: Dataset) -> None:
    anna = [item for item in dataset.crops if item.person == "anna"]
    train = [item.time_s for item in anna if item.split == TRAIN]
    test = [item.time_s for item in anna if item.split == TEST]
    assert len(train) == 24
    assert min(test) - max(train) >= 0.5
    assert len(test) == 12


def test_strangers_are_for_evaluation_alone(dataset: Dataset) -> None:
    strangers = [item for item in dataset.crops if item.person == UNKNOWN]
    assert len(strangers) == 5
    assert {item.split for item in strangers} == {TEST}
    assert UNKNOWN not in dataset.people
    assert all(item.person != UNKNOWN for item in dataset.side(TRAIN) + dataset.side(TEST))


@pytest.mark.slow
def test_the_digest_does_not_depend_on_folder_or_time(
    dataset: Dataset, video: Path, labels: Labels, tmp_path: Path
) -> None:
    again = dataset_from_video(video, labels, tmp_path / "elsewhere" / "again", gap_s=0.5)
    moved = tmp_path / "moved"
    shutil.copytree(again.folder, moved)
    assert dataset.digest == again.digest == load_dataset(moved).digest
    assert (dataset.folder / NAME).read_bytes() == (again.folder / NAME).read_bytes()


@pytest.mark.slow
def test_the_digest_changes_with_a_pixel_a_person_and_a_gap(
    dataset: Dataset, labels: Labels, video: Path, tmp_path: Path
) -> None:
    fewer = dataset_from_video(video, labels, tmp_path / "fewer", people=["anna"], gap_s=0.5)
    wider = dataset_from_video(video, labels, tmp_path / "wider", gap_s=1.0)
    other_video = write_video(tmp_path / "other.avi", seed=2)
    free = Labels("", *(getattr(labels, key) for key in ("width", "height", "frames", "household", "strangers")))
    other = dataset_from_video(other_video, free, tmp_path / "other", gap_s=0.5)
    assert len({dataset.digest, fewer.digest, wider.digest, other.digest}) == 4


def test_every_takes_each_nth_frame(video: Path, labels: Labels, tmp_path: Path) -> None:
    thin = dataset_from_video(video, labels, tmp_path / "thin", every=4, gap_s=0)
    assert [item.frame for item in thin.crops if item.person == "anna"] == list(range(0, FRAMES, 4))


def test_stats_count_each_side(dataset: Dataset) -> None:
    people = dataset_stats(dataset)["people"]
    assert people == {
        "anna": {"train": 24, "test": 12, "visits": 1},
        "bert": {"train": 24, "test": 12, "visits": 1},
        "unknown": {"train": 0, "test": 5, "visits": 1},
    }


def test_labels_of_another_video_are_refused(labels: Labels, tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.avi", seed=3)
    with pytest.raises(InputError, match="not the video of these labels"):
        dataset_from_video(other, labels, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_video_is_refused(labels: Labels, tmp_path: Path) -> None:
    text = tmp_path / "text.avi"
    text.write_text("no video")
    free = Labels("", *(getattr(labels, key) for key in ("width", "height", "frames", "household", "strangers")))
    with pytest.raises(InputError, match="not a video"):
        dataset_from_video(text, free, tmp_path / "out")


def test_a_video_that_ends_early_leaves_nothing_behind(labels: Labels, tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.avi", frames=20)
    free = Labels("", *(getattr(labels, key) for key in ("width", "height", "frames", "household", "strangers")))
    with pytest.raises(InputError, match="ends at frame 20"):
        dataset_from_video(short, free, tmp_path / "made" / "out")
    assert list((tmp_path / "made").iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(
    video: Path, labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        nonlocal written
        written += 1
        if written > 10:
            raise OSError(28, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        dataset_from_video(video, labels, tmp_path / "made" / "out")
    assert list((tmp_path / "made").iterdir()) == []


def test_a_person_the_labels_do_not_know_is_named(video: Path, labels: Labels, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'carl'"):
        dataset_from_video(video, labels, tmp_path / "out", people=["anna", "carl"])


def test_an_existing_folder_is_never_written_into(dataset: Dataset, video: Path, labels: Labels) -> None:
    with pytest.raises(InputError, match="exists"):
        dataset_from_video(video, labels, dataset.folder)


def test_a_changed_picture_is_found(dataset: Dataset) -> None:
    item = dataset.crops[0]
    image = dataset.image(item)
    image[0, 0, 0] ^= 1
    cv2.imwrite(str(dataset.folder / item.file), image)
    with pytest.raises(InputError, match="not the picture"):
        load_dataset(dataset.folder).image(item)


def test_a_changed_side_is_found(dataset: Dataset) -> None:
    path = dataset.folder / NAME
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"', 1))
    with pytest.raises(InputError, match="digest"):
        load_dataset(dataset.folder)


def test_a_file_outside_of_the_dataset_is_refused(dataset: Dataset) -> None:
    path = dataset.folder / NAME
    path.write_text(path.read_text().replace(dataset.crops[0].file, "../../etc/passwd", 1))
    with pytest.raises(InputError, match="must lie in the dataset"):
        load_dataset(dataset.folder)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no dataset"):
        load_dataset(tmp_path)


def test_the_threshold_keeps_the_members_and_turns_strangers_away() -> None:
    known = np.array([[0.95, 0.05]] * 9 + [[0.45, 0.55]], np.float32)
    truth = np.array([0] * 9 + [0])
    strangers = np.array([[0.6, 0.4], [0.7, 0.3]], np.float32)
    chosen = choose_threshold(known, truth, strangers)
    assert chosen.thresholds.accept == 0.75
    assert (chosen.right, chosen.wrong, chosen.false_accept) == (0.9, 0.0, 0.0)
    assert choose_threshold(known, truth, strangers[:0]).false_accept is None


def test_frames_lost_to_damage_have_no_crops_and_are_counted(video: Path, labels: Labels, tmp_path: Path) -> None:
    data = bytearray(video.read_bytes())
    pictures = [at for at in range(data.index(b"movi"), len(data)) if data[at : at + 4] == b"00dc"][:FRAMES]
    size = int.from_bytes(data[pictures[3] + 4 : pictures[3] + 8], "little")
    data[pictures[3] + 8 : pictures[3] + 8 + size] = bytes(size)
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(data)
    free = Labels("", *(getattr(labels, key) for key in ("width", "height", "frames", "household", "strangers")))
    whole = dataset_from_video(video, free, tmp_path / "whole", gap_s=0.5)
    made = dataset_from_video(damaged, free, tmp_path / "made", gap_s=0.5)
    assert made.source["lost_frames"] == 1
    assert "lost_frames" not in whole.source
    assert made.crops == tuple(item for item in whole.crops if item.frame != 3)
