"""Owns the twelve things that are nobody, made from an empty real scene with a seed: two of each of six kinds."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from contract.preprocess import Image

FPS, SECONDS, QUIET_S = 10, 12, 3
Event = Callable[[Image, float, np.random.Generator], Image]


def cat(scene: Image, share: float, random: np.random.Generator) -> Image:
    """A dark animal, longer than high, that crosses low in the picture."""
    image, (height, width) = scene.copy(), scene.shape[:2]
    x, y = round(share * width), round(0.8 * height)
    size = height // 18
    cv2.ellipse(image, (x, y), (2 * size, size), 0, 0, 360, (40, 45, 50), -1)
    cv2.circle(image, (x + 2 * size, y - size // 2), size * 2 // 3, (40, 45, 50), -1)
    for leg in (-1, 1):
        swing = round(size * np.sin(40 * share + leg))
        cv2.line(image, (x + leg * size, y), (x + leg * size + swing, y + 2 * size), (40, 45, 50), size // 3 + 1)
    return image


def curtain(scene: Image, share: float, random: np.random.Generator) -> Image:
    """A third of the picture that sways."""
    image, width = scene.copy(), scene.shape[1]
    rows = np.arange(scene.shape[0])
    moved = np.round(0.02 * width * np.sin(30 * share + rows / 40)).astype(int)
    for row, offset in zip(rows, moved, strict=True):
        image[row, : width // 3] = np.roll(scene[row, : width // 3], offset, 0)
    return image


def headlights(scene: Image, share: float, random: np.random.Generator) -> Image:
    """A bright spot that sweeps over the picture."""
    height, width = scene.shape[:2]
    down, across = np.mgrid[:height, :width]
    spot = np.exp(-(((across - share * width) / (0.12 * width)) ** 2 + ((down - 0.5 * height) / (0.2 * height)) ** 2))
    return np.clip(scene + 120 * spot[..., np.newaxis], 0, 255).astype(np.uint8)


def rain(scene: Image, share: float, random: np.random.Generator) -> Image:
    """Two hundred streaks, elsewhere in each frame."""
    image, (height, width) = scene.copy(), scene.shape[:2]
    for x, y in zip(random.integers(0, width, 200), random.integers(0, height, 200), strict=True):
        cv2.line(image, (int(x), int(y)), (int(x) + 3, int(y) + height // 20), (210, 210, 210), 1)
    return image


def switch(scene: Image, share: float, random: np.random.Generator) -> Image:
    """The light goes off and on, three times."""
    return np.clip(scene * (0.45 if int(6 * share) % 2 else 1.0), 0, 255).astype(np.uint8)


def lamp(scene: Image, share: float, random: np.random.Generator) -> Image:
    """A lamp that lights a quarter of the picture, on and off."""
    image = scene.astype(np.float32)
    image[: scene.shape[0] // 2, : scene.shape[1] // 2] += 60.0 * (int(4 * share) % 2)
    return np.clip(image, 0, 255).astype(np.uint8)


KINDS: tuple[Event, ...] = (cat, curtain, headlights, rain, switch, lamp)


def events(scene: Image) -> Iterator[tuple[str, Iterator[tuple[Image, float]]]]:
    """Return each event's name and frames, on the scene as it is and on its left half, mirrored and enlarged."""
    near = np.asarray(cv2.resize(scene[:, scene.shape[1] // 2 :: -1], scene.shape[1::-1]), np.uint8)
    for kind in KINDS:
        for name, picture in (("far", scene), ("near", near)):
            yield f"{kind.__name__} ({name})", _frames(kind, picture)


def _frames(kind: Event, scene: Image) -> Iterator[tuple[Image, float]]:
    random = np.random.default_rng(11)
    for number in range(FPS * SECONDS):
        share = (number / FPS - QUIET_S) / (SECONDS - QUIET_S)
        image = scene if share < 0 else kind(scene, share, random)
        noise = random.normal(0, 2, (*scene.shape[:2], 1))
        yield np.clip(image + noise, 0, 255).astype(np.uint8), number / FPS
