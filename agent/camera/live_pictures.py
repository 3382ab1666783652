"""Owns the pictures of a stream or device, which begins anew for ever. Refuses to end, but when it is told to."""

import time
from collections.abc import Iterator

from agent.camera.connections import Connections
from agent.camera.frame import FrameSource
from agent.camera.picture_check import PictureCheck, PictureState
from agent.camera.state import CameraState, StateTeller
from contract.errors import KinwatchError, one_line
from contract.video.reader import Picture, RefusedError, SizeChangedError

FIRST_PICTURE_S = 10.0  # a stream shows nothing before its next whole picture
PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # before beginning anew; the last one again and again: back within 15 s
REFUSED_S = (5.0, 30.0, 120.0, 300.0)  # likewise, for a password: cameras lock out who tries five times in a row
WORTHLESS_S = (5.0, 30.0, 90.0, 300.0)  # likewise, for a connection whose pictures are worth nothing


class LivePictures:
    """Iterate over it; ``give_up_s``: a connection without a picture for so long is let go of."""

    def __init__(
        self, connections: Connections, teller: StateTeller, check: PictureCheck, *, give_up_s: float
    ) -> None:
        self._connections = connections
        self._teller = teller
        self._check = check
        self._give_up_s = give_up_s
        self._failures = 0
        self._worthless = 0
        self._renew_s = 0.0

    def __iter__(self) -> Iterator[Picture]:
        """Return pictures until the connections are ended."""
        while not self._connections.over:
            pauses_s = PAUSES_S
            try:
                with self._connections.open() as source:
                    yield from self._read(source)
            except SizeChangedError:
                continue  # at once: nothing is wrong with the camera
            except RefusedError as error:
                self._lost(CameraState.REFUSED, one_line(error))
                pauses_s = REFUSED_S
            except KinwatchError as error:
                self._lost(CameraState.LOST, one_line(error))
            self._connections.wait(pauses_s[min(self._failures, len(pauses_s)) - 1] if self._failures else 0.0)

    def _read(self, source: FrameSource) -> Iterator[Picture]:
        """Return the pictures of one connection, until it ends, fails or is worth nothing."""
        limit_s = max(self._give_up_s, FIRST_PICTURE_S)
        while (picture := self._connections.read(source, limit_s)) is not None:
            self._failures, limit_s = 0, self._give_up_s
            yield picture
            if self._is_worthless():
                return

    def _lost(self, state: CameraState, reason: str) -> None:
        self._failures += 1
        if not self._connections.over:
            self._teller.change(state, reason, self._connections.count)

    def _is_worthless(self) -> bool:
        """Tell what the pictures are; return whether this connection should be begun anew for it."""
        now = time.monotonic()
        state = self._check.state
        if state is PictureState.LIVE:
            self._worthless = 0
            self._teller.change(CameraState.LIVE, "", self._connections.count - 1)
            return False
        self._teller.change(CameraState(state), _WORTHLESS[state], self._connections.count - 1)
        if not self._worthless:
            self._renew_s = now
        if now < self._renew_s:
            return False
        self._renew_s = now + WORTHLESS_S[min(self._worthless, len(WORTHLESS_S) - 1)]
        self._worthless += 1
        return True


_WORTHLESS = {
    PictureState.FROZEN: "the picture does not change",
    PictureState.BLACK: "the picture shows nothing",
}
