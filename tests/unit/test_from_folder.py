"""A dataset from a folder of pictures: what is read, when it was taken, duplicates, sides, and what is refused."""

import datetime as dt
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cloud_tools.datasets.dataset import NAME, Dataset, load_dataset
from cloud_tools.datasets.duplicates import BITS, NEAR, nearest, part_sides, perceptual_hash, stack
from cloud_tools.datasets.from_folder import Imported, import_folder
from cloud_tools.datasets.pictures import KEPT_SIDE, name_time, read_picture
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.datasets.unset_clocks import believed
from cloud_tools.datasets.visits import BY_NAME, BY_TIME, BY_VISIT, Taken, order_visits, split_pictures
from contract.errors import InputError
from contract.manifest import UNKNOWN

DAY_S = 86_400
EPOCH = dt.datetime(2026, 5, 1, 8, 0, 0, tzinfo=dt.UTC)


def scene(seed: int, width: int = 48, height: int = 96) -> NDArray[np.uint8]:
    """A picture (RGB) that looks like no other one."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 12, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def save(
    path: Path, pixels: NDArray[np.uint8], taken: dt.datetime | None = None, *, turned: int = 1, quality: int = 95
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if turned != 1:
        exif[0x0112] = turned
    if taken is not None:
        exif[0x010F] = "camera"  # Pillow writes no EXIF into a PNG whose main part is empty
        exif.get_ifd(0x8769)[36867] = taken.strftime("%Y:%m:%d %H:%M:%S")
    Image.fromarray(pixels).save(path, exif=exif, quality=quality)
    return path


def person(folder: Path, name: str, seed: int, days: int = 5, a_day: int = 4) -> None:
    """Return ``name`` pictures of several days, ``a_day`` each, a minute apart."""
    for day in range(days):
        for i in range(a_day):
            taken = EPOCH + dt.timedelta(days=day, minutes=i)
            save(folder / name / f"{day}-{i}.jpg", scene(seed + 100 * day + i), taken)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    person(folder, "anna", 1000)
    person(folder, "bert", 5000)
    return folder


def sides(dataset: Dataset, name: str) -> dict[str, str]:
    """Return the side of each of a person's pictures, by the name of its file."""
    names = dataset.source["names"]
    return {names[crop.file].split("/", 1)[1]: crop.split for crop in dataset.crops if crop.person == name}


def reasons(made: Imported) -> dict[str, str]:
    return {one.file: one.reason for one in made.skipped}


def nothing_at(out: Path) -> bool:
    return not out.exists() and not list(out.parent.glob(f".{out.name}*"))


def test_jpeg_png_and_webp_are_read_and_the_dataset_loads_as_it_was_made(pictures: Path, tmp_path: Path) -> None:
    for i, kind in enumerate(("png", "webp", "JPG", "jpeg")):
        save(pictures / "anna" / f"more-{i}.{kind}", scene(9000 + i), EPOCH + dt.timedelta(days=i))
    made = import_folder(pictures, tmp_path / "out")
    loaded = load_dataset(tmp_path / "out")
    assert loaded == made.dataset
    assert made.skipped == ()
    assert loaded.people == ("anna", "bert")
    assert len(loaded.crops) == 44
    for crop in loaded.crops:
        assert loaded.image(crop).shape == (96, 48, 3)


def test_a_png_arrives_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = scene(1)
    read = read_picture(save(tmp_path / "a.png", pixels))
    assert np.array_equal(read.pixels, pixels[:, :, ::-1])


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_picture_that_lies_on_its_side_is_turned_upright(tmp_path: Path, suffix: str) -> None:
    upright = scene(1, 64, 96)
    lying = np.ascontiguousarray(np.rot90(upright))  # what a camera writes with orientation 6
    read = read_picture(save(tmp_path / f"a.{suffix}", lying, turned=6, quality=100))
    assert read.pixels.shape == upright.shape
    assert np.abs(read.pixels[:, :, ::-1].astype(int) - upright).mean() < 8


def test_exif_time_comes_before_the_time_in_the_name(tmp_path: Path) -> None:
    path = save(tmp_path / "IMG_20200101_000000.jpg", scene(1), EPOCH)
    assert (read_picture(path).time_s, read_picture(path).origin) == (EPOCH.timestamp(), "exif")
    plain = save(tmp_path / "IMG_20260501_080000.png", scene(1))
    assert (read_picture(plain).time_s, read_picture(plain).origin) == (EPOCH.timestamp(), "name")


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("20260501_080000.jpg", 0),
        ("2026-05-01 08.00.05.jpg", 5),
        ("PXL_20260501_080000123.MP.jpg", 0.123),
        ("Screenshot_2026-05-01-08-01-00.png", 60),
        ("2026-05-01T08:00:00Z.webp", 0),
    ],
)
def test_times_in_names_are_read(name: str, seconds: float) -> None:
    assert name_time(name) == pytest.approx(EPOCH.timestamp() + seconds)


@pytest.mark.parametrize(
    "name", ["IMG_0001.jpg", "20261301_080000.jpg", "IMG-20260501-WA0001.jpg", "120260501_080000.jpg"]
)
def test_numbers_that_are_no_time_are_not_taken_for_one(name: str) -> None:
    assert name_time(name) is None


def test_a_camera_whose_clock_was_never_set_gives_no_time(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene(1), dt.datetime(1980, 1, 1, tzinfo=dt.UTC))
    assert read_picture(path).time_s is None


def test_bad_pictures_are_skipped_and_listed_and_the_rest_is_taken(pictures: Path, tmp_path: Path) -> None:
    whole = (pictures / "anna" / "0-0.jpg").read_bytes()
    (pictures / "anna" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "anna" / "text.jpg").write_text("no picture")
    (pictures / "anna" / "empty.png").write_bytes(b"")
    (pictures / "bert" / "notes.txt").write_text("x")
    save(pictures / "bert" / "tiny.png", scene(7, 8, 8))
    save(pictures / "loose.png", scene(8))
    made = import_folder(pictures, tmp_path / "out")
    found = reasons(made)
    assert set(found) == {
        *("anna/cut.jpg", "anna/text.jpg", "anna/empty.png", "bert/notes.txt", "bert/tiny.png", "loose.png")
    }
    assert found["anna/cut.jpg"] == "damaged picture"
    assert found["anna/text.jpg"] == "no picture, whatever its name says"
    assert found["bert/tiny.png"] == "8x8 pixels: too small to show a person"
    assert found["loose.png"] == "not in a person's folder"
    assert [row["file"] for row in made.dataset.source["skipped"]] == [one.file for one in made.skipped]
    assert len(made.dataset.crops) == 40


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_a_picture_damaged_anywhere_is_read_or_skipped_and_never_stops_the_import(tmp_path: Path, kind: str) -> None:
    whole = save(tmp_path / f"a.{kind}", scene(3), EPOCH).read_bytes()
    noise = np.random.default_rng(4)
    skipped = 0
    for _ in range(150):
        data = bytearray(whole)
        for place in noise.integers(0, len(data), 3):
            data[place] = noise.integers(0, 256)
        damaged = tmp_path / f"damaged.{kind}"
        damaged.write_bytes(bytes(data[: noise.integers(1, len(data) + 1)]))
        try:
            assert read_picture(damaged).pixels.ndim == 3
        except InputError:
            skipped += 1
    assert skipped > 30


def test_a_large_photo_is_kept_at_a_bounded_size(tmp_path: Path) -> None:
    assert read_picture(save(tmp_path / "a.jpg", scene(1, 1500, 3000))).pixels.shape == (KEPT_SIDE, KEPT_SIDE // 2, 3)


def test_whole_days_go_to_one_side_in_the_order_of_time(pictures: Path, tmp_path: Path) -> None:
    made = import_folder(pictures, tmp_path / "out")
    for name in ("anna", "bert"):
        by_day: dict[str, set[str]] = {}
        for file, side in sides(made.dataset, name).items():
            by_day.setdefault(file[0], set()).add(side)
        assert by_day == {"0": {TRAIN}, "1": {TRAIN}, "2": {TRAIN}, "3": {TEST}, "4": {TEST}}
    assert made.dataset.source["split_by"] == {"anna": BY_VISIT, "bert": BY_VISIT}
    assert made.dataset.source["times_from"] == {"exif": 40}
    assert len({crop.visit for crop in made.dataset.crops}) == 10


def test_folders_in_a_persons_folder_are_visits(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name, seed in (("anna", 0), ("bert", 500)):
        for visit, count in (("easter", 6), ("garden", 4)):
            for i in range(count):
                save(folder / name / visit / f"{i}.png", scene(seed + 50 * count + i))
    made = import_folder(folder, tmp_path / "out")
    assert made.dataset.source["split_by"] == {"anna": BY_VISIT, "bert": BY_VISIT}
    for name in ("anna", "bert"):
        assert {(file.split("/")[0], side) for file, side in sides(made.dataset, name).items()} == {
            ("easter", TRAIN),
            ("garden", TEST),
        }


def test_one_visit_is_split_by_time_with_the_gap_between(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name, seed in (("anna", 0), ("bert", 500)):
        for i in range(20):
            save(folder / name / f"{i}.png", scene(seed + i), EPOCH + dt.timedelta(seconds=i))
    made = import_folder(folder, tmp_path / "out", gap_s=2.5)
    found = sides(made.dataset, "anna")
    assert [found.get(f"{i}.png") for i in range(20)] == [TRAIN] * 12 + [None] * 2 + [TEST] * 6
    assert made.dataset.source["split_by"]["anna"] == BY_TIME
    assert reasons(made)["anna/12.png"] == "less than 2.5 s from a train picture"


def test_files_times_are_used_when_they_are_not_those_of_a_copy(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name, seed in (("anna", 0), ("bert", 500)):
        for i in range(10):  # names against the order of time
            path = save(folder / name / f"{9 - i}.png", scene(seed + i))
            os.utime(path, (EPOCH.timestamp() + 60 * i + 30 * DAY_S * (i > 5),) * 2)
    made = import_folder(folder, tmp_path / "out")
    assert made.dataset.source["times_from"] == {"file": 20}
    assert [sides(made.dataset, "anna")[f"{i}.png"] for i in range(10)] == [TEST] * 4 + [TRAIN] * 6
    for path in folder.rglob("*.png"):
        os.utime(path, (EPOCH.timestamp(),) * 2)
    copied = import_folder(folder, tmp_path / "copied")
    assert copied.dataset.source["times_from"] == {"unknown": 20}
    assert copied.dataset.source["split_by"]["anna"] == BY_NAME
    assert [sides(copied.dataset, "anna")[f"{i}.png"] for i in range(10)] == [TRAIN] * 6 + [TEST] * 4


def test_an_exact_copy_is_listed_and_taken_once(pictures: Path, tmp_path: Path) -> None:
    copy = pictures / "anna" / "copy of 4-3.jpg"
    copy.write_bytes((pictures / "anna" / "4-3.jpg").read_bytes())
    made = import_folder(pictures, tmp_path / "out")
    assert reasons(made) == {"anna/copy of 4-3.jpg": "the same picture as anna/4-3.jpg"}
    assert len(made.dataset.crops) == 40


def test_a_picture_that_two_people_have_is_taken_for_neither(pictures: Path, tmp_path: Path) -> None:
    (pictures / "bert" / "0-0 too.jpg").write_bytes((pictures / "anna" / "0-0.jpg").read_bytes())
    made = import_folder(pictures, tmp_path / "out")
    assert set(reasons(made)) == {"anna/0-0.jpg", "bert/0-0 too.jpg"}
    assert len(made.dataset.crops) == 39


def test_a_near_duplicate_across_the_split_is_kept_on_the_train_side(pictures: Path, tmp_path: Path) -> None:
    later = EPOCH + dt.timedelta(days=4, hours=2)
    again = cv2.resize(scene(1000), (40, 80), interpolation=cv2.INTER_AREA)  # 0-0.jpg, smaller and saved again
    save(pictures / "anna" / "again.jpg", again, later, quality=80)
    made = import_folder(pictures, tmp_path / "out")
    assert [(one.file, one.reason) for one in made.moved] == [("anna/again.jpg", "to the side of anna/0-0.jpg")]
    assert sides(made.dataset, "anna")["again.jpg"] == TRAIN
    assert made.skipped == ()


def test_no_test_picture_is_near_a_train_picture_even_in_a_burst() -> None:
    first, last = scene(1).astype(float), scene(2).astype(float)
    burst = [np.uint8(first + (last - first) * i / 40) for i in range(41)]
    hashes = stack(map(perceptual_hash, burst))
    train, test = list(range(25)), list(range(25, 41))
    moved, dropped = part_sides(train, test, hashes)
    assert dropped
    left = [row for row in test if row not in moved and row not in dropped]
    assert left
    assert nearest(hashes[left], hashes[[*train, *moved]])[0].min() > NEAR


def test_hashes_know_a_copy_from_another_picture() -> None:
    picture = scene(1, 120, 240)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    bright = np.uint8(np.clip(picture * 1.1 + 5.0, 0, 255))
    hashes = stack(map(perceptual_hash, (picture, jpeg, bright, scene(2, 120, 240))))
    distance, which = nearest(hashes[1:], hashes[:1])
    assert distance[0] <= NEAR
    assert distance[1] <= NEAR
    assert distance[2] > 2 * NEAR
    assert which.tolist() == [0, 0, 0]
    assert nearest(hashes[:1], hashes[:0])[0].tolist() == [BITS + 1]


def test_pictures_without_a_time_are_never_held_out_beside_ones_with() -> None:
    taken = [Taken(f"{i}", None if i < 3 else float(i)) for i in range(13)]
    found, how = split_pictures(taken, order_visits(taken))
    assert found[:3] == [TRAIN] * 3
    assert found[3:] == [TRAIN] * 6 + [TEST] * 4
    assert how == BY_TIME


def test_crops_that_an_agent_exports_are_read_line_by_line(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    lines = []
    for name, seed in (("anna", 0), ("bert", 500)):
        for i in range(10):
            save(folder / f"{name[0]}{i}.png", scene(seed + i))
            time = (EPOCH + dt.timedelta(seconds=10 * i)).isoformat()
            lines.append(
                {"v": 1, "file": f"{name[0]}{i}.png", "person": name, "time": time, "event": f"door/{i // 6}"}
            )
    save(folder / "who.png", scene(7777))
    save(folder / "stranger.png", scene(8888))
    lines.append({"v": 1, "file": "who.png", "person": None})
    lines.append({"v": 1, "file": "stranger.png", "person": "unknown", "future": True})
    lines.append({"v": 1, "file": "../outside.png", "person": "anna"})
    lines.append({"v": 1, "file": "gone.png", "person": "anna"})
    lines.append({"v": 1, "file": "a0.png", "person": "bert", "time": EPOCH.isoformat(), "event": "door/0"})
    text = "\n".join(map(json.dumps, lines)) + '\n{"v": 1, "fi'
    (folder / "crops.jsonl").write_text(text)
    made = import_folder(folder, tmp_path / "out")
    found = reasons(made)
    assert found["who.png"] == "nobody has named who is on it"
    assert found["crops.jsonl:23"] == "file must lie in the folder"
    assert found["gone.png"].endswith("No such file or directory")
    assert found["crops.jsonl:26"].startswith("not JSON")
    assert len(found) == 4
    counts = {name: sum(crop.person == name for crop in made.dataset.crops) for name in ("anna", "bert", UNKNOWN)}
    assert counts == {"anna": 9, "bert": 11, UNKNOWN: 1}  # the later line about a0.png holds
    assert made.dataset.source["split_by"] == {"anna": BY_VISIT, "bert": BY_VISIT}
    assert made.dataset.source["times_from"] == {"file": 1, "line": 20} or made.dataset.source["times_from"] == {
        "line": 20,
        "unknown": 1,
    }


@pytest.mark.parametrize("year", [1970, 1980, 2000, 2010, 2024])
def test_pictures_of_a_clock_that_was_never_set_are_split_by_name(tmp_path: Path, year: int) -> None:
    for who, seed in (("anna", 0), ("bert", 1000)):
        for visit in range(6):  # each after a power-up, so that all of them are in the year's first minute
            for i in range(5):
                taken = dt.datetime(year, 1, 1, 0, 0, 10 + 2 * i, tzinfo=dt.UTC)
                save(tmp_path / "pictures" / who / f"visit{visit}_{i}.jpg", scene(seed + 10 * visit + i), taken)
    made = import_folder(tmp_path / "pictures", tmp_path / "out")
    assert made.dataset.source["split_by"] == {"anna": BY_NAME, "bert": BY_NAME}
    assert made.dataset.source["times_from"] == {"unknown": 60}
    sides = [crop.split for crop in made.dataset.crops if crop.person == "anna"]
    assert (sides.count(TRAIN), sides.count(TEST)) == (18, 12)


def test_a_new_year_that_goes_on_is_believed() -> None:
    new_year = dt.datetime(2026, 1, 1, 0, 5, tzinfo=dt.UTC).timestamp()
    later, unset = new_year + 3 * DAY_S, dt.datetime(2010, 1, 1, tzinfo=dt.UTC).timestamp()
    assert believed([new_year, None, later, unset, 12.0]) == [new_year, None, later, None, None]
    assert believed([]) == []


def test_strangers_are_on_the_test_side_alone(pictures: Path, tmp_path: Path) -> None:
    person(pictures, "unknown", 20_000, days=1)
    made = import_folder(pictures, tmp_path / "out")
    assert {crop.split for crop in made.dataset.crops if crop.person == UNKNOWN} == {TEST}


def test_a_held_out_set_has_test_pictures_alone_and_may_be_small(tmp_path: Path) -> None:
    person(tmp_path / "pictures", "anna", 0, days=1, a_day=2)
    made = import_folder(tmp_path / "pictures", tmp_path / "out", held_out=True)
    assert {crop.split for crop in made.dataset.crops} == {TEST}


def test_the_digest_is_the_same_in_another_folder_and_with_other_names(pictures: Path, tmp_path: Path) -> None:
    first = import_folder(pictures, tmp_path / "first").dataset
    again = import_folder(pictures, tmp_path / "again").dataset
    (pictures / "anna" / "0-0.jpg").rename(pictures / "anna" / "zero.jpg")
    pictures.rename(tmp_path / "moved")
    renamed = import_folder(tmp_path / "moved", tmp_path / "third").dataset
    assert first.digest == again.digest == renamed.digest
    assert (first.folder / NAME).read_bytes() == (again.folder / NAME).read_bytes()


def test_an_empty_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"pictures: no pictures; put them as .*NAME/\*\.jpg"):
        import_folder(tmp_path / "pictures", tmp_path / "out")
    with pytest.raises(InputError, match="missing: no such folder"):
        import_folder(tmp_path / "missing", tmp_path / "out")
    assert nothing_at(tmp_path / "out")


def test_a_folder_of_one_person_is_one_clear_line(tmp_path: Path) -> None:
    person(tmp_path / "pictures", "anna", 0)
    with pytest.raises(InputError, match="1 people; a model needs at least two"):
        import_folder(tmp_path / "pictures", tmp_path / "out")
    assert nothing_at(tmp_path / "out")


def test_a_person_with_two_pictures_is_one_clear_line(pictures: Path, tmp_path: Path) -> None:
    person(pictures, "carl", 9000, days=1, a_day=2)
    with pytest.raises(InputError, match="carl has 1 train crops, at least 5 are needed"):
        import_folder(pictures, tmp_path / "out")
    assert nothing_at(tmp_path / "out")


def test_only_corrupt_pictures_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "pictures" / "anna").mkdir(parents=True)
    (tmp_path / "pictures" / "anna" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"none of its 1 files is a usable picture \(anna/a.jpg: "):
        import_folder(tmp_path / "pictures", tmp_path / "out")
    assert nothing_at(tmp_path / "out")


def test_a_folder_whose_name_can_be_nobodys_is_named(pictures: Path, tmp_path: Path) -> None:
    save(pictures / "an\u202ena" / "a.png", scene(1))
    with pytest.raises(InputError, match=r"'an.u202ena' is no name"):
        import_folder(pictures, tmp_path / "out")
    assert nothing_at(tmp_path / "out")


def test_a_full_disk_leaves_nothing_behind(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 10:
            raise OSError(28, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        import_folder(pictures, tmp_path / "out")
    assert nothing_at(tmp_path / "out")


def test_an_existing_folder_is_never_written_into(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists"):
        import_folder(pictures, pictures)
