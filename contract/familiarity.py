"""Owns the data of the familiarity score, as release.json carries it: its schema, its parser, the packing of means.

Refuses to compute the score: that is ``contract.familiarity_score``, which needs numpy, and the relay has none.

Packed means: whole numbers 0..255, channel by channel and in a channel label by label (equal neighbours pack better
so), deflated, in base64. Six people cost about 320 characters.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from contract.checks import Fields
from contract.errors import InputError

KIND = "energy+cosine"
MOST_MEANS = 1 << 18  # values; 1000 people of 256 channels


@dataclass(frozen=True)
class Familiarity:
    """How a release tells strangers; a track is a stranger's when its mean score is under ``accept``.

    The score of a crop is ``cosine + energy * mean(-log p)``: p are the crop's probabilities; ``cosine`` is the
    largest one of its features (input of the last stage, mean over the picture, every ``stride``-th channel from the
    first) with the labels' means (packed as ``means``; their grid's step is a factor that a cosine does not see).
    """

    means: str
    stride: int
    energy: float
    accept: float
    kind: str = KIND


def parse_familiarity(fields: Fields) -> Familiarity:
    """Read the object; InputError says what is wrong. Whether the means fit the labels, the manifest checks."""
    if fields.text("kind") != KIND:
        raise InputError(f"{fields.where}: kind {fields.value['kind']!r} is not known here (only {KIND!r})")
    return Familiarity(
        fields.text("means", 1 << 19),
        fields.integer("stride", 1, 1 << 16),
        fields.number("energy", 0, 1e6),
        fields.number("accept", -1e9, 1e9),
    )


def pack_means(rows: Sequence[Sequence[int]]) -> str:
    """Return whole numbers 0..255 (labels x channels) as text.

    Raises:
        ValueError: a number out of range, or rows of different lengths.
    """
    values = bytes(value for channel in zip(*rows, strict=True) for value in channel)
    return base64.b64encode(zlib.compress(values, 9)).decode("ascii")


def unpack_means(text: str, labels: int, channels: int, where: str) -> tuple[bytes, ...]:
    """Return the numbers of each label (``channels`` bytes), and never unpack more than that.

    Raises:
        InputError: not packed means of that shape; the text begins with ``where``.
    """
    count = labels * channels
    if count > MOST_MEANS:
        raise InputError(f"{where}: {count} means, at most {MOST_MEANS} are allowed")
    try:
        unpacker = zlib.decompressobj()
        values = unpacker.decompress(base64.b64decode(text, validate=True), count + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InputError(f"{where}: means are not packed as they should be") from error
    if len(values) != count or not unpacker.eof or unpacker.unused_data:
        raise InputError(f"{where}: means must be {count} values ({labels} labels x {channels} channels)")
    return tuple(values[label::labels] for label in range(labels))


def channels_kept(channels: int, stride: int) -> int:
    """Return how many of ``channels`` every ``stride``-th from the first are."""
    return -(-channels // stride)
