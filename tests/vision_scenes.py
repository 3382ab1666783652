"""Owns synthetic scenes, a scripted source and a model for the vision tests; each has the real interface."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from agent.camera.frame import Frame
from contract.detection.runner import Detection
from contract.errors import ReleaseError
from contract.manifest import Detector, Manifest, TensorSpec, load_bundle
from contract.preprocess import Box, Image
from contract.video.child import Complaints
from contract.video.reader import Picture

BUNDLE = Path(__file__).parent / "vectors" / "bundle_tiny"
WIDTH, HEIGHT = 384, 288
COATS = {"red": (20, 20, 230), "green": (20, 230, 20), "blue": (230, 20, 20)}  # BGR
PERSON = (36, 90)  # width, height in pixels


def street(seed: int = 0) -> Image:
    """Return an empty street: grey with texture, height x width x 3, BGR."""
    texture = np.random.default_rng(seed).integers(110, 146, (HEIGHT, WIDTH, 1), np.uint8)
    return np.asarray(np.repeat(cv2.blur(texture, (5, 5))[:, :, np.newaxis], 3, 2), np.uint8)


def with_person(scene: Image, x: int, y: int, coat: str) -> Image:
    """Return a copy of ``scene`` with a person whose box begins at (x, y)."""
    image = scene.copy()
    cv2.rectangle(image, (x, y), (x + PERSON[0] - 1, y + PERSON[1] - 1), COATS[coat], -1)
    return image


def walk(coat: str, frames: int = 60, *, still: int = 20, y: int = 120, step: int = 5) -> Iterator[Image]:
    """Return an empty street for ``still`` frames, then a person who walks in from the left."""
    scene = street()
    for _ in range(still):
        yield scene
    for number in range(frames):
        yield with_person(scene, number * step - PERSON[0], y, coat) if number * step > PERSON[0] else scene


def passage(fps: float, coat: str = "red", *, scale: float = 1.0, stands_s: float = 2.0) -> Iterator[Frame]:
    """Return frames of somebody who walks in, stands in the middle for ``stands_s``, and walks out; then nobody.

    The picture is ``scale`` times as large as the street. Times are those of a camera of ``fps``.
    """
    scene, speed, number = street(), 100.0, 0
    middle_s = WIDTH / 2 / speed
    while (time_s := number / fps) < 2 * middle_s + stands_s + 5.0:
        walked_s = time_s if time_s < middle_s else max(middle_s, time_s - stands_s)
        x = round(speed * walked_s) - PERSON[0]
        image = with_person(scene, x, 120, coat) if -PERSON[0] < x < WIDTH else scene
        if scale != 1:
            image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST), np.uint8)
        yield Frame(image, number, number, time_s)
        number += 1


def write_video(path: Path, images: Sequence[Image], fps: float = 10.0) -> Path:
    """Write a Motion JPEG AVI."""
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    for image in images:
        writer.write(image)
    writer.release()
    return path


def numbered(count: int) -> list[Image]:
    """Return pictures whose brightness tells their number."""
    return [np.full((48, 64, 3), 8 * number, np.uint8) for number in range(count)]


def number_of(image: Image) -> int:
    """Return the number of a picture made by ``numbered``, after compression."""
    return round(float(image.mean()) / 8)


def shifted(box: Box, x: int, y: int = 0) -> Box:
    """Return ``box`` moved by (x, y)."""
    return box[0] + x, box[1] + y, box[2], box[3]


class ScriptedSource:
    """A source that gives ``images`` and then ends, raises ``failure``, or hangs until it is killed."""

    def __init__(self, images: Sequence[Image], failure: Exception | None = None, *, hang: bool = False) -> None:
        self._images = list(images)
        self._count = 0
        self._failure = failure
        self._hang = hang
        self._killed = threading.Event()
        self.said = Complaints()
        self.closed = threading.Event()

    def read(self, limit_s: float) -> Picture | None:
        """Return the next image, end, fail, or hang."""
        if self._count < len(self._images) and not self._killed.is_set():
            self._count += 1
            return Picture(self._images[self._count - 1], self._count / 10, self._count - 1)
        if self._failure and not self._killed.is_set():
            raise self._failure
        if self._hang:
            self._killed.wait(limit_s)
        return None

    def kill(self) -> None:
        """End a read that hangs."""
        self._killed.set()

    def close(self) -> None:
        """Remember that it was let go of."""
        self.closed.set()


class CoatDetector:
    """Finds the coats of ``COATS`` as a detector finds people, at any resolution; counts how often it was asked."""

    def __init__(self, score: float = 0.9, fails_after: int = 100_000) -> None:
        ends = TensorSpec((1, 32, 32, 3), "float32", 0.0, 0)
        self.detector = Detector(
            file="detector.tflite",
            sha256="0" * 64,
            size=1,
            input=ends,
            outputs=(),
            strides=(8,),
            reg_max=1,
            expected=(),
            tolerance=0.0,
        )
        self._score = score
        self._left = fails_after
        self.asked = 0

    def find(self, frame: Image) -> list[Detection]:
        """Return a box around each coat."""
        self.asked += 1
        if not self._left:
            raise ReleaseError("the detector broke")
        self._left -= 1
        found = []
        for colour in COATS.values():
            mask = cv2.inRange(frame, np.array(colour) - 25.0, np.array(colour) + 25.0)
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            boxes = [cv2.boundingRect(outline) for outline in outlines]
            found += [Detection((int(x), int(y), int(w), int(h)), self._score) for x, y, w, h in boxes if w > 3]
        return found


class FixedModel:
    """A model that always answers ``row``; after ``fails_after`` crops it fails as a broken release does."""

    def __init__(
        self,
        row: Sequence[float],
        manifest: Manifest | None = None,
        fails_after: int = 1000,
        detector: CoatDetector | None = None,
    ) -> None:
        manifest = manifest or load_bundle(BUNDLE)
        self.detector = detector
        self.manifest = replace(manifest, detector=detector.detector) if detector else manifest
        self._row = np.asarray(row, np.float32)
        self._left = fails_after
        self.crops: list[Image] = []

    def judge(self, image: Image) -> tuple[np.ndarray, float | None]:
        """Return the fixed answer; its manifest asks for no familiarity."""
        if not self._left:
            raise ReleaseError("the model broke")
        self._left -= 1
        self.crops.append(image)
        return self._row, None
