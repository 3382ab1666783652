"""Owns the table [camera] of agent.toml and what kind of source it names. Refuses addresses that cannot be one.

No text that leaves this module holds a password; ``shown`` is the source as a person may see it.
"""

import re
import shlex
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from contract.video.inputs import STREAM_FORMATS, without_credentials

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
LAST_CAMERA = 15


class SourceKind(StrEnum):
    """What a source is; a file ends, the others are begun anew for ever."""

    FILE = "file"
    DEVICE = "device"
    STREAM = "stream"
    CSI = "csi"
    JETSON = "jetson"
    GSTREAMER = "gst"


@dataclass(frozen=True)
class CameraSettings:
    """Where frames come from. ``width``, ``height`` and ``fps`` are wishes to a device; 0 leaves them to it."""

    # An address (rtsp, rtsps, http, https), csi:N, jetson:N, gst:PIPELINE, a device, or a video file.
    source: str = field(default="/dev/video0", repr=False)
    user: str = ""  # of a stream
    password: str = field(default="", repr=False)  # likewise; any signs
    ca: str = ""  # of https: a file of certificates that vouch for the camera's; without it any will do
    pace: float = 1.0  # files only: times real time; 0 is as fast as the consumer takes them, none dropped
    loop: bool = False  # files only
    width: int = 0
    height: int = 0
    fps: float = 0.0
    stalled_s: float = 5.0  # without a frame for so long, say so
    give_up_s: float = 10.0  # and then let go of the camera and begin anew
    frozen_s: float = 8.0  # the same picture, or a black one, for so long: likewise

    def __post_init__(self) -> None:
        """Refuse what no camera can do."""
        if not self.source:
            raise ValueError("source must not be empty")
        if not 0 <= self.pace <= 1000:
            raise ValueError("pace must be from 0 to 1000")
        if self.width < 0 or self.height < 0 or not 0 <= self.fps <= 1000:
            raise ValueError("width, height and fps must not be negative, fps not over 1000")
        if not 0 < self.stalled_s <= self.give_up_s:
            raise ValueError("stalled_s must be above 0 and at most give_up_s")
        if self.frozen_s <= 0:
            raise ValueError("frozen_s must be above 0")
        if self.kind is SourceKind.STREAM:
            _check_address(self.source)
        if self.kind is SourceKind.GSTREAMER:
            _check_pipeline(self.place)
        if self.kind in (SourceKind.CSI, SourceKind.JETSON):
            _check_number(self.source, self.place)
        if self.user and (self.kind is not SourceKind.STREAM or "@" in urlsplit(self.source).netloc):
            raise ValueError(
                "user and password are for a stream, and stand in its address or in their keys, not both"
            )
        if self.ca and not self.source.lower().startswith("https://"):
            raise ValueError("ca is for https: ffmpeg does not look at the certificate of an rtsps camera")
        if self.ca and not (self.ca.startswith("/") and self.ca.isprintable()):
            raise ValueError("ca must be the whole path of a file, from / on")
        if self.password and not self.user:
            raise ValueError("password needs user")

    @property
    def kind(self) -> SourceKind:
        """What the source is: csi:, jetson:, gst:, an address, a path below /dev, or any other path."""
        before = self.source.partition(":")[0]
        if before in (SourceKind.CSI, SourceKind.JETSON, SourceKind.GSTREAMER):
            return SourceKind(before)
        if _SCHEME.match(self.source):
            return SourceKind.STREAM
        return SourceKind.DEVICE if Path(self.source).is_relative_to("/dev") else SourceKind.FILE

    @property
    def place(self) -> str:
        """What stands after csi:, jetson: or gst:."""
        return self.source.partition(":")[2]

    @property
    def shown(self) -> str:
        """The source without its password; of a pipeline its first element, for any word of it may hold one."""
        if self.kind is SourceKind.GSTREAMER:
            return f"gst:{self.place.split()[0]}"
        return without_credentials(self.source) if self.kind is SourceKind.STREAM else self.source

    @property
    def credentials(self) -> tuple[str, str]:
        """User and password of a stream, from their keys or out of the address, as they are and not as URLs write."""
        secret = urlsplit(self.source).netloc.rpartition("@")[0] if self.kind is SourceKind.STREAM else ""
        user, _, password = secret.partition(":")
        return (unquote(user), unquote(password)) if user else (self.user, self.password)


def _check_number(source: str, number: str) -> None:
    """Refuse what is no number of a camera; ValueError."""
    if not (number.isascii() and number.isdigit() and int(number) <= LAST_CAMERA):
        raise ValueError(
            f"source: {source} is no camera: {source.partition(':')[0]}: and its number, 0 for the first"
        )


def _check_pipeline(pipeline: str) -> None:
    """Refuse what no shell could split into words; ValueError, never with what may be a password."""
    try:
        words = shlex.split(pipeline)
    except ValueError:
        words = []
    if not words or not pipeline.isprintable():
        raise ValueError("source: gst: and a GStreamer pipeline without its sink, quoted as in a shell")


def _check_address(source: str) -> None:
    """Refuse an address that no camera can have; ValueError, never with what may be a password."""
    scheme = source.split("://")[0].lower()
    if scheme not in STREAM_FORMATS:
        raise ValueError(
            f"source: a camera's address begins with {', '.join(f'{known}://' for known in STREAM_FORMATS)}"
        )
    signs = "a user and password with signs are written in the keys user and password"
    try:
        parts = urlsplit(source)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # else only connecting finds that it can be no host name
    except ValueError:
        raise ValueError(f"source is no address {scheme}://host[:port]/path ({signs})") from None
    if not host or port == 0 or not source.isprintable() or " " in source or "@" in parts.path + parts.fragment:
        raise ValueError(f"source is no address {scheme}://host[:port]/path ({signs})")
