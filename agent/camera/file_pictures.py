"""Owns the pictures of a video file: at its pace, over a decoder's death, in a loop. Refuses to end early."""

import time
from collections.abc import Iterator

from agent.camera.connections import Connections
from contract.errors import InputError
from contract.video.child import StalledError
from contract.video.reader import DecoderDiedError, Picture

PICTURE_S = 30.0  # for one picture, over a damaged stretch
RESTARTS = 3  # of a decoder that gives no further picture
LONGEST_WAIT_S = 10.0  # for a picture's time: a longer gap is a damaged time


def file_pictures(connections: Connections, *, pace: float, loop: bool) -> Iterator[tuple[int, Picture]]:
    """Return each picture with how often the file began again; ``pace`` is times real time, 0 without waiting.

    Raises:
        InputError: the file cannot be read on, or vanished between two loops.
        PeerError: the decoder died on the same place, time and again.
    """
    count = 0
    clock = _Pace(connections, pace)
    while not connections.over:
        last = None
        clock.begin()
        for picture in _once(connections):
            clock.wait_for(picture.time_s)
            yield count, picture
            last = picture
        if not loop:
            return
        if last is None and not connections.over:
            raise InputError(f"{connections.name}: not one frame in it any more")
        count += 1


def _once(connections: Connections) -> Iterator[Picture]:
    """Return the pictures from the first to the last; a decoder that dies is replaced by one that skips to there."""
    after, deaths = -1, 0
    while True:
        try:
            with connections.open() as source:
                while (picture := connections.read(source, PICTURE_S)) is not None:
                    if picture.number > after:
                        after, deaths = picture.number, 0
                        yield picture
            return
        except (DecoderDiedError, StalledError):
            deaths += 1
            if deaths > RESTARTS or connections.over:
                raise


class _Pace:
    """Waits for each picture's time. A slow decoder slows the file; it never rushes after."""

    def __init__(self, connections: Connections, pace: float) -> None:
        self._connections = connections
        self._pace = pace
        self._due_s = time.monotonic()
        self._at_s: float | None = None

    def begin(self) -> None:
        """Begin the file: its first picture comes as long after the last one as two pictures are apart."""
        self._at_s = None

    def wait_for(self, at_s: float) -> None:
        """Wait for the picture that is ``at_s`` into the file."""
        if not self._pace:
            return
        gap_s = 0.0 if self._at_s is None else min(max(at_s - self._at_s, 0.0), LONGEST_WAIT_S)
        self._at_s = at_s
        now = time.monotonic()
        self._due_s = max(self._due_s + gap_s / self._pace, now)
        self._connections.wait(self._due_s - now)
