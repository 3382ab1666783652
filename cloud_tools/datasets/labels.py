"""Owns the labels file of a video: who stands where in which frame. Refuses to open the video.

    {"schema": 1, "made": "...", "limits": "...",
     "video": {"sha256": "... (optional)", "width": 768, "height": 576, "frames": 795},
     "household": {"anna": [[frame, x, y, width, height], ...]}, "strangers": {...},
     "names": {"anna": "Änna Müller"}}

What stands before boxes is a label; ``names`` may say what people see instead of it (``contract.names``). A box is in
pixels, frames are counted from 0. The file is a person's own work, so it is read strictly: a mistake is named with
the person and the place in the list.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.checks import Fields, parse_object, safe_name
from contract.errors import InputError, describe_os_error
from contract.files import read_capped
from contract.manifest import UNKNOWN
from contract.names import parse_names
from contract.preprocess import Box

SCHEMA = 1
MOST_BYTES = 64 << 20
MOST_OUTSIDE = 65_536  # pixels; a box may reach out of the picture, with a person who walks in
KNOWN_KEYS = {"schema", "made", "limits", "source", "box", "video", "household", "strangers", "names"}


@dataclass(frozen=True)
class Labels:
    """Boxes by person and frame, in the order of frames; ``sha256`` of the video, or "" where the file names none.

    ``names``: what people see instead of a label of the household, where the file says so.
    """

    sha256: str
    width: int
    height: int
    frames: int
    household: dict[str, dict[int, Box]]
    strangers: dict[str, dict[int, Box]]
    names: dict[str, str] = field(default_factory=dict)


def load_labels(path: Path) -> Labels:
    """Read a labels file.

    Raises:
        InputError: it cannot be read, or is not as above; the text says where.
    """
    try:
        return parse_labels(read_capped(path, MOST_BYTES), str(path))
    except OSError as error:
        raise InputError(describe_os_error(error)) from error


def parse_labels(data: bytes, where: str) -> Labels:
    """Read the bytes of a labels file; InputError says what is wrong and where."""
    top = Fields(parse_object(data, where), where)
    unknown = sorted(set(top.value) - KNOWN_KEYS)
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r} (known: {', '.join(sorted(KNOWN_KEYS))})")
    top.integer("schema", SCHEMA, SCHEMA)
    video = top.object("video")
    size = (video.integer("width", 1, 16_384), video.integer("height", 1, 16_384), video.integer("frames", 1))
    groups = [_people(top.object(key), size) for key in ("household", "strangers") if key in top.value]
    household, strangers = (*groups, {})[:2]
    if not household:
        raise InputError(f"{where}: household names nobody")
    both = set(household) & set(strangers)
    if both:
        raise InputError(f"{where}: {min(both)!r} is both of the household and a stranger")
    names = parse_names(top.object("names"), household, UNKNOWN) if "names" in top.value else {}
    return Labels(video.sha256("sha256") if "sha256" in video.value else "", *size, household, strangers, names)


def _people(group: Fields, size: tuple[int, int, int]) -> dict[str, dict[int, Box]]:
    people: dict[str, dict[int, Box]] = {}
    for name in group.value:
        if safe_name(name, group.where) == UNKNOWN:
            raise InputError(f"{group.where}: nobody may be called {UNKNOWN!r}: it is what strangers are called")
        rows = group.items(name, 10_000_000)
        boxes: dict[int, Box] = {}
        for i, row in enumerate(rows):
            frame, box = _row(row, f"{group.where}: {name}[{i}]", size)
            if frame in boxes:
                raise InputError(f"{group.where}: {name}[{i}]: frame {frame} has a box already")
            boxes[frame] = box
        people[name] = dict(sorted(boxes.items()))
    return people


def _row(row: Any, where: str, size: tuple[int, int, int]) -> tuple[int, Box]:
    width, height, frames = size
    if not isinstance(row, list) or len(row) != 5 or not all(type(value) is int for value in row):
        raise InputError(f"{where}: must be [frame, x, y, width, height], whole numbers")
    frame, x, y, w, h = row
    if not 0 <= frame < frames:
        raise InputError(f"{where}: frame {frame} is not in a video of {frames} frames")
    if not all(-MOST_OUTSIDE <= value <= MOST_OUTSIDE for value in row[1:]):
        raise InputError(f"{where}: box {[x, y, w, h]} is further outside than any person")
    if w < 1 or h < 1 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise InputError(f"{where}: box {[x, y, w, h]} has no pixel inside {width}x{height}")
    return frame, (x, y, w, h)
