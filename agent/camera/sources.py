"""Owns what opens each kind of source. Refuses to read from it."""

from collections.abc import Callable
from pathlib import Path

from agent.camera.csi import csi_source
from agent.camera.frame import FrameSource
from agent.camera.gstreamer import gstreamer_source, jetson_pipeline
from agent.camera.settings import CameraSettings, SourceKind
from contract.errors import PeerError
from contract.video.inputs import device_input, stream_input
from contract.video.reader import VideoReader, open_video

Opener = Callable[[], FrameSource]
DECODED = (SourceKind.FILE, SourceKind.DEVICE, SourceKind.STREAM)  # by ffmpeg


def opener(settings: CameraSettings) -> Opener:
    """Return what opens the source, at its beginning; each call is a new connection."""
    match settings.kind:
        case SourceKind.FILE:
            return lambda: open_video(Path(settings.source))
        case SourceKind.DEVICE:
            return lambda: _device(settings)
        case SourceKind.CSI:
            number, wishes = int(settings.place), (settings.width, settings.height, settings.fps)
            return lambda: csi_source(settings.shown, number, *wishes)
        case SourceKind.JETSON:
            pipeline = jetson_pipeline(int(settings.place), settings.width, settings.height, settings.fps)
            return lambda: gstreamer_source(settings.shown, pipeline)
        case SourceKind.GSTREAMER:
            return lambda: gstreamer_source(settings.shown, settings.place)
        case SourceKind.STREAM:
            return lambda: VideoReader(stream_input(settings.source, *settings.credentials, settings.ca))


def _device(settings: CameraSettings) -> FrameSource:
    if not Path(settings.source).exists():
        raise PeerError(f"{settings.source}: no such camera (is it plugged in?)")
    return VideoReader(device_input(settings.source, settings.width, settings.height, settings.fps))
