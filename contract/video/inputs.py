"""Owns how ffmpeg is asked for each kind of source: a file, a stream, a device. Refuses what could lead elsewhere.

A file may name other files and addresses (playlists, references): only kinds that hold the pictures themselves are
opened, and by a child that knows files alone. An address leads to its own protocol alone, wherever it redirects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from contract.video.child import program

# Containers that hold the pictures: no playlists, no numbered pictures, no text that FFmpeg plays as on a terminal.
CONTAINERS = (
    "asf,av1,avi,dhav,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,"
    "webm,wtv,yuv4mpegpipe"
)
DEINTERLACE = "yadif=deint=interlaced"  # pictures that say that they are: one picture in, one out
# A row more than the picture has: a size that changes to another, or to the same on its side, is seen by its bytes.
MARK_SIZE = "format=bgr24,pad=iw:ih+1"
MARKED_ROWS = 1
THREADS = ("-threads", "2")  # more only take memory; 1080p at 30 a second needs less than one on a small board
STREAM_FORMATS = {
    "rtsp": "rtsp,rtp,mpegts",
    "rtsps": "rtsp,rtp,mpegts",
    "http": "mpjpeg,mjpeg,mpegts,flv,matroska,webm",
    "https": "mpjpeg,mjpeg,mpegts,flv,matroska,webm",
}
STREAM_PROTOCOLS = {"rtsp": "tcp", "rtsps": "tls,tcp", "http": "http,tcp", "https": "https,tls,tcp"}


@dataclass(frozen=True)
class VideoInput:
    """What ffmpeg is asked for, and what a person is told: ``name`` has no password."""

    name: str
    options: tuple[str, ...]
    filters: tuple[str, ...] = ()
    words: bytes = field(default=b"", repr=False)  # for its stdin
    resizes: bool = False  # a change of size ends it; else pictures are brought to the size of the first


def file_options(path: Path) -> tuple[str, ...]:
    """Return what opens a file for ffmpeg and ffprobe alike, and nothing but it."""
    return ("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i", f"file:{path.absolute()}")


def file_input(path: Path, *, interlaced: bool) -> VideoInput:
    """Return the input of a file; its decoder is asked for the same bytes on every machine."""
    options = ("-flags", "bitexact", *THREADS, *file_options(path))
    return VideoInput(str(path), options, (DEINTERLACE,) * interlaced)


def stream_input(url: str, user: str = "", password: str = "", ca: str = "") -> VideoInput:
    """Return the input of a camera's address (rtsp, rtsps, http, https), with late pictures thrown away.

    ``ca``: a file of certificates, one of which must vouch for an https camera's; "": any will do.
    """
    scheme = urlsplit(url).scheme
    protocols, formats = f"pipe,{STREAM_PROTOCOLS[scheme]}", f"concat,{STREAM_FORMATS[scheme]}"
    allowed = ("-protocol_whitelist", protocols, "-format_whitelist", formats)
    options = ("-flags", "low_delay", *THREADS, *allowed, "-f", "concat", "-safe", "0", "-i", "pipe:0")
    how = "rtsp_transport tcp" if scheme.startswith("rtsp") else "use_wallclock_as_timestamps 1"
    address = with_credentials(url, user, password).replace("'", "%27")
    # A list of one address: on a command line every user of the machine could read its password.
    words = f"ffconcat version 1.0\nfile '{address}'\noption {how}\noption fflags nobuffer\noption fpsprobesize 0\n"
    if ca:
        words += f"option tls_verify 1\noption ca_file {_quoted(ca)}\n"
    return VideoInput(without_credentials(url), options, (DEINTERLACE, MARK_SIZE), words.encode(), resizes=True)


def _quoted(text: str) -> str:
    """Return ``text`` as one word of an ffconcat line."""
    return "'" + text.replace("'", "'\\''") + "'"


def device_input(device: str, width: int, height: int, fps: float) -> VideoInput:
    """Return the input of a V4L2 device; wishes of 0 are left to it."""
    size = ("-video_size", f"{width}x{height}") if width and height else ()
    rate = ("-framerate", f"{fps:g}") if fps else ()
    return VideoInput(device, ("-f", "v4l2", *size, *rate, *THREADS, "-i", device), (MARK_SIZE,), resizes=True)


def with_credentials(url: str, user: str, password: str) -> str:
    """Return ``url`` with user and password, whatever signs they have; unchanged without a user."""
    if not user:
        return url
    parts = urlsplit(url)
    secret = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{secret}@{parts.netloc.rpartition('@')[2]}"))


def without_credentials(url: str) -> str:
    """Return ``url`` as a person may see it: no user, no password, no query, which may hold them as well."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def command(source: VideoInput) -> Sequence[str]:
    """Return the command line of the child that writes ``source`` as NUT to its stdout."""
    start = (program("ffmpeg"), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "repeat+warning")
    # No picture is doubled or left out to keep a rate: every one comes, with its own time.
    shape = ("-map", "0:V:0", "-fps_mode", "passthrough", *(("-autoscale", "0") if source.resizes else ()))
    filters = ("-vf", ",".join(source.filters)) if source.filters else ()
    # Bicubic as OpenCV's reader converts, so that pictures are those of older datasets to the bit.
    raw = ("-c:v", "rawvideo", "-pix_fmt", "bgr24", "-sws_flags", "bicubic", "-flush_packets", "1", "-f", "nut")
    return (*start, *source.options, *shape, *filters, *raw, "pipe:1")
