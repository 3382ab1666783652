"""Owns the time of what is seen: seconds that pass in the picture, not in the agent. Pure; reads no clock itself.

A file may be watched at eight times its pace, and a stream hands over late what it saw early; who walks through it
walks at the pace of the picture. So time goes on by the positions of frames where they go on, and by the time of
reading where they do not: between two connections, rounds of a file, and for devices that tell no position.
"""

from agent.camera.frame import Frame

LONGEST_S = 60.0  # a step of positions over this is a fault of a container, not a minute without a picture


class SceneClock:
    """Gives each frame its time, in seconds since the first; it never goes back."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._last: tuple[int, float, float] | None = None  # loop, position and time of reading

    def at(self, frame: Frame) -> float:
        """Return the time of ``frame``; frames must be given in order."""
        if self._last is not None:
            loop, position_s, read_s = self._last
            step_s = frame.position_s - position_s
            if frame.loop_count != loop or not 0 < step_s <= LONGEST_S:
                step_s = max(0.0, frame.time_s - read_s)
            self._now_s += step_s
        self._last = (frame.loop_count, frame.position_s, frame.time_s)
        return self._now_s
