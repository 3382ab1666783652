"""Owns what opens each kind of source. Refuses to read from it."""

from collections.abc import Callable
from pathlib import Path

from agent.camera.frame import FrameSource
from agent.camera.settings import CameraSettings, SourceKind
from contract.errors import PeerError
from contract.video.inputs import device_input, stream_input
from contract.video.reader import VideoReader, open_video

Opener = Callable[[], FrameSource]


def opener(settings: CameraSettings) -> Opener:
    """Return what opens the source, at its beginning; each call is a new connection."""
    match settings.kind:
        case SourceKind.FILE:
            return lambda: open_video(Path(settings.source))
        case SourceKind.DEVICE:
            return lambda: _device(settings)
        case _:
            return lambda: VideoReader(stream_input(settings.source, *settings.credentials))


def _device(settings: CameraSettings) -> FrameSource:
    if not Path(settings.source).exists():
        raise PeerError(f"{settings.source}: no such camera (is it plugged in?)")
    return VideoReader(device_input(settings.source, settings.width, settings.height, settings.fps))
