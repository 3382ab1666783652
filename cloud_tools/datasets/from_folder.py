"""Owns making a dataset from a folder of pictures: reading, duplicates, sides, and the list of what was left out.

Refuses to guess: a picture shows the one person whose folder it is in (or whom the agent's line names), filling it as
a crop does; nobody is looked for. Bad pictures are left out and listed, never fatal by themselves. The dataset is
built in a temporary folder and takes its name last.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from cloud_tools.cache import digest_of
from cloud_tools.datasets.dataset import NAME, Crop, Dataset, check_trainable, pixel_digest
from cloud_tools.datasets.duplicates import BITS, NEAR, Signs, part_sides, perceptual_hash, stack
from cloud_tools.datasets.picture_folder import CROPS, PictureFile, Skipped, list_folder
from cloud_tools.datasets.pictures import FILE, LINE, read_picture
from cloud_tools.datasets.splits import TEST, TRAIN
from cloud_tools.datasets.unset_clocks import believed
from cloud_tools.datasets.visits import RULE, Taken, drop_gap, order_visits, split_pictures
from cloud_tools.progress import Ticks, no_ticks
from contract.errors import InputError
from contract.files import atomic_folder, atomic_write
from contract.manifest import UNKNOWN
from contract.preprocess import Image

# File times closer together than this are when the folder was copied, not when the pictures were taken.
COPY_S = 3600.0


@dataclass(frozen=True)
class _Item:
    """A picture that was read and written to the dataset in the making."""

    listed: PictureFile
    file: str
    pixels: str
    signs: Signs
    time_s: float | None
    origin: str


@dataclass(frozen=True)
class Imported:
    """The dataset, the files that were not taken and why, and the near-duplicates moved to the train side."""

    dataset: Dataset
    skipped: tuple[Skipped, ...]
    moved: tuple[Skipped, ...]


def import_folder(
    folder: Path,
    out: Path,
    *,
    gap_s: float = 1.0,
    held_out: bool = False,
    ticks: Ticks = no_ticks,
) -> Imported:
    """Make the new dataset ``out`` from the pictures in ``folder`` (layouts: ``picture_folder``).

    Args:
        gap_s: least time between a test and a train picture of one person, in seconds.
        held_out: put every picture on the test side: a dataset to evaluate on, which need not be enough to train on.

    Raises:
        InputError: ``out`` exists, no folder, no usable picture, or too few to train on. Nothing is left then.
        OSError: the disk refused. Nothing is left then.
    """
    if out.exists():
        raise InputError(f"{out} exists; name a folder that does not")
    listed, skipped = list_folder(folder)
    if not listed:
        _refuse(folder, skipped)
    with atomic_folder(out) as building:
        items = _read_all(listed, building, skipped, ticks)
        items = _without_conflicts(items, skipped)
        items = _without_unset_clocks(_without_copy_times(items))
        if not items:
            _refuse(folder, skipped)
        crops, moved, how = _crops(items, gap_s, held_out, skipped)
        source = _source(items, skipped, moved, how, gap_s)
        there = {crop.person for crop in crops}
        names = {one.person: one.called for one in listed if one.called and one.person in there}
        dataset = Dataset(out, source, tuple(sorted(crops, key=lambda c: (c.person, c.frame, c.file))), names)
        if not held_out:
            check_trainable(dataset, folder)
        _remove_others(building, dataset)
        atomic_write(building / NAME, dataset.to_bytes())
    return Imported(dataset, tuple(skipped), tuple(moved))


def _refuse(folder: Path, skipped: Sequence[Skipped]) -> None:
    if skipped:
        first = skipped[0]
        raise InputError(
            f"{folder}: none of its {len(skipped)} files is a usable picture ({first.file}: {first.reason})"
        )
    raise InputError(
        f"{folder}: no pictures; put them as {folder}/NAME/*.jpg, .png or .webp, or list them in {CROPS}"
    )


def _read_all(listed: Sequence[PictureFile], building: Path, skipped: list[Skipped], ticks: Ticks) -> list[_Item]:
    items: list[_Item] = []
    seen: dict[tuple[str, str], str] = {}
    for number, one in enumerate(listed, 1):
        ticks(number, len(listed))
        try:
            picture = read_picture(one.path)
        except InputError as error:
            skipped.append(Skipped(one.name, str(error)))
            continue
        pixels = pixel_digest(picture.pixels)
        if (one.person, pixels) in seen:
            skipped.append(Skipped(one.name, f"the same picture as {seen[one.person, pixels]}"))
            continue
        seen[one.person, pixels] = one.name
        time_s, origin = (one.time_s, LINE) if one.time_s is not None else (picture.time_s, picture.origin)
        if time_s is None:
            time_s, origin = one.path.stat().st_mtime, FILE
        file = f"crops/{one.person}/{number:06d}.png"
        _write(building / file, picture.pixels)
        items.append(_Item(one, file, pixels, perceptual_hash(picture.pixels), time_s, origin))
    return items


def _write(path: Path, pixels: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".png", pixels)
    if not ok:
        raise InputError(f"{path.name}: cannot be written as PNG")
    path.write_bytes(data.tobytes())


def _without_conflicts(items: Sequence[_Item], skipped: list[Skipped]) -> list[_Item]:
    """Leave out pictures that two people have: one of the names is wrong, and nobody can say which."""
    owners: dict[str, list[_Item]] = {}
    for item in items:
        owners.setdefault(item.pixels, []).append(item)
    for same in owners.values():
        for item in same if len(same) > 1 else ():
            others = ", ".join(other.listed.name for other in same if other is not item)
            skipped.append(Skipped(item.listed.name, f"the same picture under another name ({others})"))
    return [item for item in items if len(owners[item.pixels]) == 1]


def _without_copy_times(items: Sequence[_Item]) -> list[_Item]:
    """Forget the files' times when they only say when the folder was copied."""
    times = [item.time_s for item in items if item.origin == FILE and item.time_s is not None]
    if not times or max(times) - min(times) >= COPY_S:
        return list(items)
    return [replace(item, time_s=None, origin="") if item.origin == FILE else item for item in items]


def _without_unset_clocks(items: Sequence[_Item]) -> list[_Item]:
    """Forget times that only say how long a camera had been on."""
    times = believed([item.time_s for item in items])
    return [
        item if time_s is not None else replace(item, time_s=None, origin="")
        for item, time_s in zip(items, times, strict=True)
    ]


def _crops(
    items: Sequence[_Item], gap_s: float, held_out: bool, skipped: list[Skipped]
) -> tuple[list[Crop], list[Skipped], dict[str, str]]:
    """Return the crops with their sides, the near-duplicates that were moved, and what decided for each person."""
    start = min((item.time_s for item in items if item.time_s is not None), default=0.0)
    crops: list[Crop] = []
    moved: list[Skipped] = []
    how: dict[str, str] = {}
    for person in sorted({item.listed.person for item in items}):
        mine = [item for item in items if item.listed.person == person]
        taken = [Taken(item.listed.name, item.time_s, item.listed.visit) for item in mine]
        visits = order_visits(taken)
        sides = dict.fromkeys(range(len(mine)), TEST)
        if person != UNKNOWN and not held_out:
            found, how[person] = split_pictures(taken, visits)
            sides = _apart(dict(enumerate(found)), mine, gap_s, skipped, moved)
        crops += _numbered(person, mine, visits, sides, start)
    return crops, moved, how


def _apart(
    sides: dict[int, str], mine: Sequence[_Item], gap_s: float, skipped: list[Skipped], moved: list[Skipped]
) -> dict[int, str]:
    """Return the sides without what is too close in time or a near-duplicate across them."""
    times = {i: item.time_s for i, item in enumerate(mine)}
    sides = _without_gap(sides, times, gap_s, mine, skipped)
    train, test = ([i for i, side in sides.items() if side == wanted] for wanted in (TRAIN, TEST))
    to_train, dropped = part_sides(train, test, stack(item.signs for item in mine))
    for i, twin in dropped.items():
        skipped.append(Skipped(mine[i].listed.name, f"near-duplicate across the split of {mine[twin].listed.name}"))
    for i, twin in to_train.items():
        moved.append(Skipped(mine[i].listed.name, f"to the side of {mine[twin].listed.name}"))
    sides = {i: TRAIN if i in to_train else side for i, side in sides.items() if i not in dropped}
    return _without_gap(sides, times, gap_s, mine, skipped)  # what moved has neighbours in time, too


def _without_gap(
    sides: dict[int, str],
    times: dict[int, float | None],
    gap_s: float,
    mine: Sequence[_Item],
    skipped: list[Skipped],
) -> dict[int, str]:
    close = drop_gap(sides, times, gap_s)
    skipped += [Skipped(mine[i].listed.name, f"less than {gap_s:g} s from a train picture") for i in sorted(close)]
    return {i: side for i, side in sides.items() if i not in close}


def _numbered(
    person: str, mine: Sequence[_Item], visits: Sequence[Sequence[int]], sides: dict[int, str], start: float
) -> Iterator[Crop]:
    number = 0
    for visit, rows in enumerate(visits):
        for i in rows:
            if i in sides:
                item = mine[i]
                time_s = 0.0 if item.time_s is None else round(item.time_s - start, 3)
                yield Crop(
                    file=item.file,
                    person=person,
                    frame=number,
                    time_s=time_s,
                    visit=f"{person}/{visit}",
                    split=sides[i],
                    pixels=item.pixels,
                )
                number += 1


def _source(
    items: Sequence[_Item], skipped: Sequence[Skipped], moved: Sequence[Skipped], how: dict[str, str], gap_s: float
) -> dict[str, Any]:
    return {
        "kind": "folder",
        "pictures": digest_of(*sorted(item.pixels for item in items)),
        "split": RULE,
        "split_by": how,
        "gap_s": gap_s,
        "times_from": dict(sorted(Counter(item.origin or "unknown" for item in items).items())),
        "near_duplicate": f"at most {NEAR} of {BITS} bits of the perceptual hash",
        "skipped": [asdict(one) for one in skipped],
        "moved_to_train": [asdict(one) for one in moved],
        "names": {item.file: item.listed.name for item in items},
    }


def _remove_others(building: Path, dataset: Dataset) -> None:
    kept = {crop.file for crop in dataset.crops}
    for path in sorted((building / "crops").rglob("*.png")):
        if path.relative_to(building).as_posix() not in kept:
            path.unlink()
    for folder in (building / "crops").iterdir():
        if not any(folder.iterdir()):
            folder.rmdir()
