"""Owns what a running agent says of itself to `agent status`: on a socket, from memory. Refuses to write anything.

A file of these facts would wear the card, be old, or outlive its agent. The socket has a name in the kernel alone
(Linux's abstract namespace), made of the data folder's device and inode: it is there while the agent is, and goes
with it however that ends. It tells root and the agent's own user, asks nothing and reads nothing.
"""

import contextlib
import json
import logging
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contract.checks import Fields, parse_object
from contract.errors import InputError
from contract.events import log_event
from contract.messages import Sighting
from contract.names import display_name

logger = logging.getLogger("agent.live")
LIMIT_S = 2.0
MOST_BYTES = 8192
RATE_FRAMES = 64  # the frame rate is that of so many frames
NOT_TOLD: dict[str, Any] = {}  # an agent runs, and does not say more to this user


class Live:
    """The facts of this run, told to whoever asks between ``with`` and its end.

    ``frame`` and ``sighted`` are for the main thread. ``paused`` tells whether nobody is looked at now;
    ``stalled_s`` is the time without a frame after which the camera is said to be stalled; ``accelerator`` tells what
    ``Accelerator.status`` does, None where there is none.
    """

    def __init__(
        self,
        data: Path,
        stalled_s: float,
        paused: Callable[[], bool] = lambda: False,
        accelerator: Callable[[], dict[str, Any] | None] = lambda: None,
    ) -> None:
        self._data = data
        self._stalled_s = stalled_s
        self._paused = paused
        self._accelerator = accelerator
        self._begun_s = time.monotonic()
        self._frames_s: deque[float] = deque(maxlen=RATE_FRAMES)
        self._frames = 0
        self._sighting: Sighting | None = None
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="live", daemon=True)
        self._ending = False

    def __enter__(self) -> "Live":
        """Begin to answer; where that is not possible, one event says so and the agent runs all the same."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(_address(self._data))
            listener.listen(8)
        except OSError as error:
            listener.close()
            log_event(logger, "live.unavailable", logging.WARNING, reason=error)
        else:
            self._listener = listener
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
            self._thread.join(LIMIT_S)
            self._listener.close()

    def frame(self) -> None:
        """Count a frame."""
        self._frames += 1
        self._frames_s.append(time.monotonic())

    def sighted(self, sighting: Sighting) -> None:
        """Keep the newest sighting."""
        self._sighting = sighting

    def facts(self) -> dict[str, Any]:
        """Return what is told."""
        now_s = time.monotonic()
        last_s = self._frames_s[-1] if self._frames_s else None
        stalled = now_s - (last_s or self._begun_s) > self._stalled_s
        seen = self._sighting
        return {
            "v": 1,
            "pid": os.getpid(),
            "running_s": round(now_s - self._begun_s, 1),
            "camera": "stalled" if stalled else "starting" if last_s is None else "watching",
            "frames": self._frames,
            "fps": 0.0 if stalled else self._rate(),
            "last_frame_s": None if last_s is None else round(now_s - last_s, 2),
            "paused": self._paused(),
            "accelerator": self._accelerator(),
            "last_sighting": seen and _told(seen),
        }

    def _rate(self) -> float:
        count = len(self._frames_s)
        if count < 2:
            return 0.0
        return round((count - 1) / max(self._frames_s[-1] - self._frames_s[0], 1e-3), 2)

    def _serve(self) -> None:
        assert self._listener is not None
        while not self._ending:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return  # shut down
            with peer, contextlib.suppress(OSError):
                peer.settimeout(LIMIT_S)
                if _uid(peer) in (0, os.geteuid()):
                    peer.sendall(json.dumps(self.facts()).encode())


def _told(seen: Sighting) -> dict[str, Any]:
    name = {} if seen.name is None else {"name": seen.name}
    return {"label": seen.label, **name, "confidence": seen.confidence, "time": seen.end or seen.start}


def ask(data: Path) -> dict[str, Any] | None:
    """Return what the agent that runs on ``data`` says of itself; None when none runs, NOT_TOLD when it is mute."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(LIMIT_S)
            asking.connect(_address(data))
            ours = _uid(asking) in (0, os.geteuid(), data.stat().st_uid)
            return _answer(asking) if ours else None  # anybody may take a name that is free
    except TimeoutError:
        return NOT_TOLD
    except OSError:
        return None


def _answer(asking: socket.socket) -> dict[str, Any]:
    answer = b""
    while len(answer) <= MOST_BYTES and (piece := asking.recv(MOST_BYTES)):
        answer += piece
    try:
        return _checked(Fields(parse_object(answer, "live"), "live"))
    except InputError:
        return NOT_TOLD


def _checked(fields: Fields) -> dict[str, Any]:
    """Return the facts, each of its kind: another version of the agent may answer."""
    for key in ("v", "pid", "frames"):
        fields.integer(key)
    for key in ("running_s", "fps") + ("last_frame_s",) * (fields.value.get("last_frame_s") is not None):
        fields.number(key)
    fields.text("camera", 40)
    fields.boolean("paused")
    if fields.value.get("last_sighting") is not None:
        seen = fields.object("last_sighting")
        seen.text("label", 64), seen.number("confidence"), seen.text("time", 40)
        if "name" in seen.value:
            display_name(seen.text("name"), seen.where)
    if fields.value.get("accelerator") is not None:
        _check_accelerator(fields.object("accelerator"))
    return {"last_frame_s": None, "last_sighting": None, "accelerator": None, **fields.value}


def _check_accelerator(told: Fields) -> None:
    told.text("state", 40), told.text("reason", 1000), told.integer("faults"), told.number("since_s")
    if told.value.get("next_try_s") is not None:
        told.number("next_try_s")


def _address(data: Path) -> str:
    """Return the socket's name; OSError without a data folder."""
    stat = data.stat()
    return f"\0kinwatch-agent-{stat.st_dev:x}-{stat.st_ino:x}"


def _uid(peer: socket.socket) -> int:
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)
