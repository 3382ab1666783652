"""Owns the pictures that a device tests a new model with; refuses pictures of any household.

Patterns from a formula and a seed, and one public picture (Grace Hopper, US Navy 1984, public domain, shipped here
as PNG so that decoders cannot differ). The same bytes in every release: after the first, they cost nothing to send.
"""

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError

SIZE = 160
SEED = 20221
PICTURE = Path(__file__).parents[1] / "data" / "public_picture.png"


def selftest_inputs(size: tuple[int, int] = (SIZE, SIZE)) -> NDArray[np.uint8]:
    """Return the pictures, 5 x 160 x 160 x 3, uint8, RGB: ramps, blocks, noise, the public picture and its mirror.

    A network of another ``size`` (height, width) gets them stretched to it.
    """
    picture = cv2.imread(str(PICTURE), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (SIZE, SIZE, 3):
        raise InputError(f"{PICTURE}: missing or damaged; install the program again")
    rgb = np.ascontiguousarray(picture[..., ::-1])
    pictures = np.stack([_ramps(), _blocks(8), _blocks(80), rgb, rgb[:, ::-1]]).astype(np.uint8)
    if size == (SIZE, SIZE):
        return pictures
    return np.stack([cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR) for picture in pictures])


def selftest_bytes(size: tuple[int, int] = (SIZE, SIZE)) -> bytes:
    """Return selftest.npz: one array, ``inputs``. Not compressed: the bytes would depend on the version of zlib."""
    file = io.BytesIO()
    np.savez(file, inputs=selftest_inputs(size))
    return file.getvalue()


def _ramps() -> NDArray[np.uint8]:
    down, across = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    values = np.stack([across * 255 // (SIZE - 1), down * 255 // (SIZE - 1), (across + down) % 256], axis=-1)
    return values.astype(np.uint8)


def _blocks(across: int) -> NDArray[np.uint8]:
    """Return ``across`` x ``across`` blocks of random colour; ``random.Random`` is the same on every version."""
    import random

    seeded = random.Random(SEED + across)
    colours = np.frombuffer(seeded.randbytes(across * across * 3), np.uint8).reshape(across, across, 3)
    return np.kron(colours, np.ones((SIZE // across, SIZE // across, 1), np.uint8))
