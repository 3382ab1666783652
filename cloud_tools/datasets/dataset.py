"""Owns a dataset on disk: crops of people with their side of the split, its digest, loading, statistics.

Refuses to decide who is on a crop and to train. Layout: ``dataset.json`` and ``crops/<person>/<name>.png`` (BGR as
cut, no resizing). Strangers' crops have the person ``unknown`` and are for evaluation alone: the trainer never sees
them. The digest is over what is in it (pixels, people, sides, times), not over paths, dates, PNG encoders or what
people are called beside their labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cloud_tools.cache import digest_of
from cloud_tools.datasets.splits import TEST, TRAIN
from contract.checks import Fields, parse_object
from contract.errors import InputError, describe_os_error
from contract.files import json_bytes, read_capped
from contract.manifest import UNKNOWN
from contract.names import parse_names
from contract.preprocess import Image

SCHEMA = 1
NAME = "dataset.json"
MOST_BYTES = 256 << 20
LEAST_CROPS = 5  # a person, on the train side; with fewer a head learns the pictures by heart


@dataclass(frozen=True, kw_only=True)
class Crop:
    """One picture of one person; ``visit`` groups what belongs to one walk through the picture."""

    file: str
    person: str
    frame: int
    time_s: float
    visit: str
    split: str
    pixels: str  # SHA-256 of height, width and the BGR bytes


@dataclass(frozen=True)
class Dataset:
    """The crops of a folder, sorted by person and time. ``people`` are the household's labels, in order.

    ``names``: what people see instead of a label, where that is not all (``contract.names``).
    """

    folder: Path
    source: dict[str, object]
    crops: tuple[Crop, ...]
    names: dict[str, str] = field(default_factory=dict)

    @property
    def people(self) -> tuple[str, ...]:
        """The labels of the household members, sorted."""
        return tuple(sorted({crop.person for crop in self.crops} - {UNKNOWN}))

    @property
    def digest(self) -> str:
        """SHA-256 of what is in the dataset, whatever its folder and file names are."""
        rows = sorted(f"{c.person}|{c.split}|{c.frame}|{c.time_s:.3f}|{c.visit}|{c.pixels}" for c in self.crops)
        return digest_of(*rows)

    def side(self, split: str, *, strangers: bool = False) -> tuple[Crop, ...]:
        """Return the crops of one side: the household's, or the strangers'."""
        return tuple(c for c in self.crops if c.split == split and (c.person == UNKNOWN) == strangers)

    def image(self, crop: Crop) -> Image:
        """Read the picture of ``crop`` (BGR, uint8); InputError when it is missing or was changed."""
        path = self.folder / crop.file
        try:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        except cv2.error as error:  # what says that it has more pixels than OpenCV opens
            raise InputError(f"{path}: no picture that can be read") from error
        if image is None:
            raise InputError(f"{path}: missing, or no picture")
        if pixel_digest(image) != crop.pixels:  # type: ignore[arg-type]
            raise InputError(f"{path}: not the picture that {NAME} lists")
        return image  # type: ignore[return-value]

    def to_bytes(self) -> bytes:
        """Return dataset.json."""
        crops = [asdict(crop) for crop in self.crops]
        names = {"names": self.names} if self.names else {}  # without, the bytes are those of ever
        return json_bytes({"schema": SCHEMA, "digest": self.digest, "source": self.source, "crops": crops, **names})


def pixel_digest(image: Image) -> str:
    """Return the SHA-256 of a picture's size and pixels."""
    return digest_of(f"{image.shape[0]}x{image.shape[1]}", image.tobytes())


def label_numbers(crops: Sequence[Crop], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each crop's person among ``labels`` (n)."""
    return np.array([labels.index(crop.person) for crop in crops], np.int64)


def load_dataset(folder: Path) -> Dataset:
    """Read ``dataset.json`` of ``folder``; pictures are read, and checked, when they are asked for.

    Raises:
        InputError: no dataset, or one that was changed by hand.
    """
    path = folder / NAME
    try:
        top = Fields(parse_object(read_capped(path, MOST_BYTES), str(path)), str(path))
    except OSError as error:
        raise InputError(f"{folder} is no dataset: {describe_os_error(error)}") from error
    top.integer("schema", SCHEMA, SCHEMA)
    items = top.items("crops", 10_000_000)
    crops = tuple(_crop(Fields(item, f"{path}: crops[{i}]")) for i, item in enumerate(items))
    dataset = Dataset(folder, top.free("source"), crops)
    if dataset.digest != top.sha256("digest"):
        raise InputError(f"{path}: its digest is not that of its crops; make the dataset again")
    if "names" not in top.value:
        return dataset
    return replace(dataset, names=parse_names(top.object("names"), dataset.people, UNKNOWN))


def _crop(fields: Fields) -> Crop:
    file, split = fields.text("file"), fields.text("split")
    parts = Path(file).parts
    if Path(file).is_absolute() or ".." in parts or "\0" in file or split not in (TRAIN, TEST):
        raise InputError(f"{fields.where}: file must lie in the dataset, split must be {TRAIN} or {TEST}")
    return Crop(
        file=file,
        person=fields.name("person"),
        frame=fields.integer("frame"),
        time_s=fields.number("time_s", 0),
        visit=fields.text("visit"),
        split=split,
        pixels=fields.sha256("pixels"),
    )


def check_trainable(dataset: Dataset, where: Path | None = None) -> None:
    """Refuse a dataset that no model can be trained on; InputError says who is missing what, and names ``where``
    (the dataset's folder, unless given)."""
    people, where = dataset.people, where or dataset.folder
    if len(people) < 2:
        raise InputError(f"{where}: {len(people)} people; a model needs at least two to tell apart")
    for name in people:
        for side, least in ((TRAIN, LEAST_CROPS), (TEST, 1)):
            count = sum(crop.person == name for crop in dataset.side(side))
            if count < least:
                who = dataset.names.get(name, name)
                raise InputError(
                    f"{where}: {who} has {count} {side} crops, at least {least} are needed; add more of this "
                    f"person, or leave the person out"
                )


def dataset_stats(dataset: Dataset) -> dict[str, object]:
    """Return counts a label: crops on each side and visits; strangers as ``unknown``."""
    people = {}
    for person in (*dataset.people, UNKNOWN):
        mine = [crop for crop in dataset.crops if crop.person == person]
        people[person] = {
            TRAIN: sum(crop.split == TRAIN for crop in mine),
            TEST: sum(crop.split == TEST for crop in mine),
            "visits": len({crop.visit for crop in mine}),
        }
    return {
        "digest": dataset.digest,
        "crops": len(dataset.crops),
        "people": people,
        "names": dataset.names,
        "source": dataset.source,
    }
