"""Owns what lies in a folder that a person or an agent filled with pictures: which files, of whom, from when.

Refuses to open a picture. Two layouts:
- ``FOLDER/<person>/[<visit>/...]<picture>``: a folder a person; strangers in ``unknown``; a folder in it is a visit.
- ``FOLDER/crops.jsonl``: one JSON object a line, as an agent exports crops; only what it lists is taken:
    {"v": 1, "file": "2026-05-01/0007.jpg", "person": "anna", "time": "2026-05-01T08:12:03Z", "event": "front/7"}
A person's folder has their name: any text; one that is no label gets one, see ``person_ids``. So has ``person``.
  ``file`` is relative to FOLDER. ``person`` may be missing or null: a crop that nobody has named yet. ``time`` (ISO
  8601) and ``event`` (device and track: one visit) may be missing. A later line about the same file takes the
  earlier's place.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cloud_tools.datasets.person_ids import person_of
from cloud_tools.datasets.visits import natural
from contract.checks import Fields, parse_object
from contract.errors import InputError, describe_os_error
from contract.files import read_capped

CROPS = "crops.jsonl"
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class PictureFile:
    """A picture file: whose, its path and its name relative to the folder, and the visit and time that were given.

    ``person`` is a label; ``called`` what they are called, where that is no label itself.
    """

    person: str
    path: Path
    name: str
    visit: str = ""
    time_s: float | None = None
    called: str = ""


@dataclass(frozen=True)
class Skipped:
    """A file, or a line of crops.jsonl, that was not taken, and why."""

    file: str
    reason: str


def list_folder(folder: Path) -> tuple[list[PictureFile], list[Skipped]]:
    """Return the picture files of ``folder``, in an order that depends on names alone, and what is none.

    Raises:
        InputError: no such folder, or a person's folder whose name is none, or two of one label.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found, skipped = _from_lines(folder) if (folder / CROPS).is_file() else _from_folders(folder)
    names = {one.person: one.called or one.person for one in found}
    for one in found:
        if names[one.person] != (one.called or one.person):
            both = f"{names[one.person]!r} and {one.called or one.person!r}"
            raise InputError(f"{folder}: {both} have the same label {one.person}; call one of them otherwise")
    return found, skipped


def _from_folders(folder: Path) -> tuple[list[PictureFile], list[Skipped]]:
    found, skipped = [], []
    for path in _visible(folder):
        name = path.relative_to(folder).as_posix()
        person, *between = name.split("/")[:-1] or [""]
        if not _is_utf8(name):
            skipped.append(Skipped(ascii(name), "its name is of another encoding than UTF-8"))
        elif person:
            label, called = person_of(person, f"{folder}: the folder of a person")
            found.append(PictureFile(label, path, name, "/".join(between), called=called))
        else:
            skipped.append(Skipped(name, "not in a person's folder"))
    return found, skipped


def _is_utf8(name: str) -> bool:
    """Return whether a file's name is text, which dataset.json can hold; the bytes of another encoding are not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _visible(folder: Path) -> Iterator[Path]:
    """Return the files below ``folder`` whose path has no hidden part, sorted naturally."""
    try:
        files = [path for path in folder.rglob("*") if path.is_file()]
    except OSError as error:
        raise InputError(describe_os_error(error)) from error
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    yield from sorted(files, key=lambda path: natural(path.relative_to(folder).as_posix()))


def _from_lines(folder: Path) -> tuple[list[PictureFile], list[Skipped]]:
    found: dict[str, PictureFile | Skipped] = {}
    try:
        lines = read_capped(folder / CROPS, MOST_BYTES).splitlines()
    except OSError as error:
        raise InputError(describe_os_error(error)) from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{CROPS}:{number}"
            try:
                listed = _line(folder, line, where)
            except InputError as error:
                found[where] = Skipped(where, str(error).removeprefix(f"{where}: "))
            else:
                found[listed.name if isinstance(listed, PictureFile) else listed.file] = listed
    rows = sorted(found.items(), key=lambda item: natural(item[0]))
    pictures = [row for _, row in rows if isinstance(row, PictureFile)]
    return pictures, [row for _, row in rows if isinstance(row, Skipped)]


def _line(folder: Path, line: bytes, where: str) -> PictureFile | Skipped:
    fields = Fields(parse_object(line, where), where)
    fields.integer("v", 1, 1)
    name = fields.text("file", 1000)
    path = folder / name
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{where}: file must lie in the folder")
    if fields.value.get("person") is None:
        return Skipped(name, "nobody has named who is on it")
    visit = fields.text("event") if fields.value.get("event") is not None else ""
    time_s = _time(fields) if fields.value.get("time") is not None else None
    label, called = person_of(fields.text("person"), f"{where}: person")
    return PictureFile(label, path, name, visit, time_s, called)


def _time(fields: Fields) -> float:
    try:
        moment = dt.datetime.fromisoformat(fields.text("time"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise InputError(f"{fields.where}: time must be ISO 8601, as 2026-05-01T08:12:03Z") from error
