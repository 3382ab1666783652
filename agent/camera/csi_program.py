"""Owns a Raspberry Pi's CSI camera, by picamera2; refuses to know of Kinwatch: the system's Python runs it as a file.

    python3 csi_program.py CAMERA WIDTH HEIGHT FPS

picamera2 is an apt package, built for the system's own Python and seldom to be had in a virtual environment. Of each
request both pictures go to stdout, after a head that ``agent.camera.csi`` knows: the small one as I420 without the
padding of its rows, the main one as BGR. What cannot be begins with ``REFUSED`` and is one line of text.
"""

import os
import struct
import sys
from typing import Any, BinaryIO

HEAD = struct.Struct("<4sQHHHH")  # PICTURE, nanoseconds, width and height of the small and of the main picture
TEXT = struct.Struct("<4sH")  # REFUSED, bytes of text
PICTURE, REFUSED = b"KWCP", b"KWCR"
SMALL_WIDTH = 640
MAIN_SIZE = (1280, 720)


def small_size(width: int, height: int) -> tuple[int, int]:
    """Return the size of the small picture of a main one: even sides, and never the larger."""
    if width <= SMALL_WIDTH:
        return width // 2 * 2, height // 2 * 2
    return SMALL_WIDTH, max(2, round(height * SMALL_WIDTH / width / 2) * 2)


def configured(number: int, width: int, height: int, fps: float) -> Any:
    """Return the camera, running."""
    from picamera2 import Picamera2

    known = len(Picamera2.global_camera_info())
    if number >= known:
        raise LookupError(f"no CSI camera {number}: {known} found (is its cable in, and is it in config.txt?)")
    camera = Picamera2(number)
    main = (width, height) if width and height else MAIN_SIZE
    controls = {"FrameRate": fps} if fps else {}
    # RGB888 is libcamera's name for bytes in the order blue, green, red.
    camera.configure(
        camera.create_video_configuration(
            main={"size": main, "format": "RGB888"},
            lores={"size": small_size(*main), "format": "YUV420"},
            controls=controls,
        )
    )
    camera.start()
    return camera


def without_padding(planes: Any, width: int, height: int) -> bytes:
    """Return I420 of which ``planes`` are rows as wide as the hardware wants them."""
    stride = planes.shape[1]
    colours = planes[height:].reshape(-1, stride // 2)[:, : width // 2]
    return bytes(planes[:height, :width].tobytes() + colours.tobytes())


def give(camera: Any, out: BinaryIO) -> None:
    """Write pictures for ever."""
    sizes = camera.camera_configuration()
    small, main = sizes["lores"]["size"], sizes["main"]["size"]
    while True:
        request = camera.capture_request()
        try:
            planes, image = request.make_array("lores"), request.make_array("main")
            time_ns = int(request.get_metadata().get("SensorTimestamp", 0))
        finally:
            request.release()
        out.write(HEAD.pack(PICTURE, time_ns, *small, *main))
        out.write(without_padding(planes, *small))
        out.write(image[:, : main[0]].tobytes())
        out.flush()


def main(words: list[str]) -> int:
    """Run until nobody reads any more."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
    number, width, height, fps = int(words[0]), int(words[1]), int(words[2]), float(words[3])
    try:
        give(configured(number, width, height, fps), out)
    except ImportError as error:
        reason = f"picamera2 cannot be loaded ({error}): apt-get install python3-picamera2"
    except BrokenPipeError:
        return 0
    except Exception as error:  # noqa: BLE001 - libcamera's faults have no tree; whoever reads is told of each alike
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, LookupError) else str(error.args[0])
    text = " ".join(reason.split()).encode()[:1000]
    out.write(TEXT.pack(REFUSED, len(text)) + text)
    out.flush()
    os._exit(1)  # a camera that hangs does not come to its end in order


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
