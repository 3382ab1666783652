"""Owns reading one picture file that a person or an agent gave: its pixels upright, and when it was taken.

Refuses what is damaged, too small to show a person or too large to open safely, each with a short reason, and refuses
to guess who is on it. Pillow decodes: OpenCV fills a JPEG that was cut short with grey and says nothing.
"""

import datetime as dt
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from contract.errors import InputError, describe_os_error
from contract.preprocess import Image

KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
LEAST_SIDE = 16  # pixels; less shows nobody
MOST_PIXELS = 100_000_000  # of one picture: 300 MB decoded
# Pixels of the longer side that are kept; backbones take 160 to 224, and a dataset of 12-megapixel PNGs fills disks.
KEPT_SIDE = 1024
EXIF, NAME, FILE, LINE = "exif", "name", "file", "line"  # where a time came from

_ORIGINAL, _DIGITIZED, _CHANGED = (36867, 36881), (36868, 36882), (306, 36880)  # EXIF: date and its UTC offset
_SUBFOLDER = 0x8769
# 20260501_081203, 2026-05-01 08.12.03, PXL_20260501_081203123, 2026-05-01T08:12:03Z
_IN_NAME = re.compile(
    r"(?<!\d)(20\d\d)[-_.:]?(\d\d)[-_.:]?(\d\d)[ T_-]{1,3}(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)(?:[._,]?(\d{3}))?(?!\d)"
)


@dataclass(frozen=True)
class Picture:
    """BGR uint8 pixels, upright; ``time_s`` in seconds since 1970 and ``origin`` of it (None and "": not known).

    A time without an offset from UTC counts as UTC: only differences between pictures matter.
    """

    pixels: Image
    time_s: float | None
    origin: str


def read_picture(path: Path) -> Picture:
    """Read a JPEG, PNG or WebP file (of an animation, the first frame); the time is EXIF's, else the name's.

    Raises:
        InputError: not such a picture, damaged, too small or too large; the text does not name the file.
    """
    if path.suffix.lower() not in KINDS:
        raise InputError("no JPEG, PNG or WebP file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd EXIF; what matters is raised
            upright, taken = _decode(path)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError("no picture, whatever its name says") from error
    except PillowImage.DecompressionBombError as error:
        raise InputError("too many pixels to open safely") from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds on damage: cut short, bad chunks, odd EXIF
        reason = describe_os_error(error) if isinstance(error, OSError) and error.errno else "damaged picture"
        raise InputError(reason) from error
    pixels = cv2.cvtColor(np.asarray(upright), cv2.COLOR_RGB2BGR)
    time_s, origin = (taken, EXIF) if taken is not None else (name_time(path.name), NAME)
    return Picture(_shrunk(np.asarray(pixels, np.uint8)), time_s, origin if time_s is not None else "")


def _decode(path: Path) -> tuple[PillowImage.Image, float | None]:
    with PillowImage.open(path, formats=sorted(set(KINDS.values()))) as picture:
        _check_size(*picture.size)
        picture.load()
        return ImageOps.exif_transpose(picture).convert("RGB"), exif_time(picture.getexif())


def exif_time(exif: PillowImage.Exif) -> float | None:
    """Return when the picture was taken (original, digitised, else changed) in seconds since 1970; None: not said."""
    tags = {**exif, **exif.get_ifd(_SUBFOLDER)}
    for date, offset in (_ORIGINAL, _DIGITIZED, _CHANGED):
        text = str(tags.get(date, "")).strip("\0 ")
        try:
            moment = dt.datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=_zone(str(tags.get(offset, ""))))
        except (ValueError, OverflowError):
            continue
        if moment.year >= 1990:  # a camera whose clock was never set says 1970 or 1980
            return moment.timestamp()
    return None


def name_time(name: str) -> float | None:
    """Return the date and time in a file's name in seconds since 1970, as UTC; None when there is none."""
    found = _IN_NAME.search(name)
    if found is None:
        return None
    *parts, thousandths = found.groups(default="0")
    try:
        moment = dt.datetime(*map(int, parts), tzinfo=dt.UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return moment.timestamp() + int(thousandths) / 1000


def _zone(text: str) -> dt.tzinfo:
    try:
        return dt.datetime.strptime(text.strip("\0 "), "%z").tzinfo or dt.UTC
    except ValueError:
        return dt.UTC


def _check_size(width: int, height: int) -> None:
    if min(width, height) < LEAST_SIDE:
        raise InputError(f"{width}x{height} pixels: too small to show a person")
    if width * height > MOST_PIXELS:
        raise InputError(f"{width}x{height} pixels: too many to open safely")


def _shrunk(pixels: Image) -> Image:
    longest = max(pixels.shape[:2])
    if longest <= KEPT_SIDE:
        return pixels
    height, width = (max(1, round(side * KEPT_SIDE / longest)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
