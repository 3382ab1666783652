"""Owns telling what decoders complain about, in counted events: news soon, the same seldom. Refuses to act on it.

A stream with bad reception makes ffmpeg say the same a thousand times, with other numbers in it each time.
"""

import logging
import math
import re
import time

from contract.events import log_event
from contract.video.child import Complaints

logger = logging.getLogger("agent.camera")
NEWS_S, AGAIN_S = 60.0, 3600.0  # between two events: other words, the same words
GATHER_S = 30.0  # from the first untold complaint of a connection that goes on: the count should say something
_NUMBER = re.compile(r"(0x[0-9a-f]+|\d+)")


class DecoderWords:
    """Hears complaints of one connection after another; ``name`` as a person may see it. From one thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines, self._first = 0, ""
        self._since_s = 0.0
        self._told, self._told_s = "", -math.inf

    def hear(self, said: Complaints, *, ended: bool = False) -> None:
        """Take what was said since the last time, and tell of it if it is time to; ``ended``: the connection has."""
        count, first = said.take()
        now_s = time.monotonic()
        if count and (not self._lines or (self._is_old(self._first) and not self._is_old(first))):
            self._first, self._since_s = first, now_s
        self._lines += count
        if self._lines and self._is_due(now_s, ended):
            self._tell(now_s)

    def _is_old(self, words: str) -> bool:
        return _NUMBER.sub("#", words) == self._told

    def _is_due(self, now_s: float, ended: bool) -> bool:
        pause_s = AGAIN_S if self._is_old(self._first) else NEWS_S
        return now_s - self._told_s >= pause_s and (ended or now_s - self._since_s >= GATHER_S)

    def _tell(self, now_s: float) -> None:
        fields = {"source": self._name, "lines": self._lines, "first": self._first}
        log_event(logger, "camera.decoder", logging.WARNING, **fields)
        self._told, self._told_s = _NUMBER.sub("#", self._first), now_s
        self._lines = 0
