"""contract.video: what files give, picture by picture; what is refused; what a child may do."""

import contextlib
import io
import os
import random
import re
import signal
import struct
import subprocess
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from contract.errors import InputError
from contract.video import child, inputs
from contract.video.child import Child, Complaints, StalledError
from contract.video.nut import NutError, NutReader
from contract.video.reader import DecoderDiedError, Picture, VideoReader, open_video, pictures
from contract.video.version import check_ffmpeg
from tests.vision_scenes import number_of, numbered, write_video

WIDTH, HEIGHT = 64, 48
MOVING = f"testsrc2=d=2:r=10:s={WIDTH * 2}x{HEIGHT * 2}"


def encode(path: Path, *options: str, source: str = f"testsrc2=d=1:r=10:s={WIDTH}x{HEIGHT}") -> Path:
    """Write a video of ten pictures as ffmpeg's ``options`` say."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, *options, "-y", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


def bottom_up_avi(path: Path) -> Path:
    """Write ten uncompressed pictures whose rows are stored from the bottom: valid, and deadly for OpenCV 5.0."""
    size, count = WIDTH * HEIGHT * 3, 10

    def chunk(tag: bytes, data: bytes) -> bytes:
        return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    header = struct.pack("<14I", 66666, size * 15, 0, 16, count, 0, 1, size, WIDTH, HEIGHT, 0, 0, 0, 0)
    rates = struct.pack("<IHHIIIIIIiI4H", 0, 0, 0, 0, 100, 1500, 0, count, size, -1, 0, 0, 0, WIDTH, HEIGHT)
    bitmap = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 24, 0, size, 0, 0, 0, 0)
    stream = chunk(b"LIST", b"strl" + chunk(b"strh", b"vidsDIB " + rates) + chunk(b"strf", bitmap))
    rows = [bytes((y * 5,)) * WIDTH * 3 for y in range(HEIGHT)]
    movie = b"".join(chunk(b"00db", b"".join(rows)) for _ in range(count))
    body = chunk(b"LIST", b"hdrl" + chunk(b"avih", header) + stream) + chunk(b"LIST", b"movi" + movie)
    path.write_bytes(chunk(b"RIFF", b"AVI " + body))
    return path


def numbers(path: Path) -> list[int]:
    return [picture.number for picture in pictures(path)]


def test_a_file_gives_its_pictures_with_their_numbers_and_times(tmp_path: Path) -> None:
    seen = list(pictures(write_video(tmp_path / "numbers.avi", numbered(20))))
    assert [(number_of(picture.pixels), picture.number) for picture in seen] == [(n, n) for n in range(20)]
    assert [picture.time_s for picture in seen] == pytest.approx([n / 10 for n in range(20)])


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "msmpeg4v2"])
def test_pixels_are_those_that_opencv_gave_to_the_bit(tmp_path: Path, codec: str) -> None:
    path = encode(tmp_path / "video.avi", "-c:v", codec, "-q:v", "5")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    for picture in pictures(path):
        assert np.array_equal(capture.read()[1], picture.pixels)
    assert not capture.read()[0]


def test_rows_from_the_bottom_are_read_upright_and_kill_nobody(tmp_path: Path) -> None:
    seen = list(pictures(bottom_up_avi(tmp_path / "bottom-up.avi")))
    assert len(seen) == 10
    assert seen[0].pixels[:, 0, 0].tolist() == [(HEIGHT - 1 - y) * 5 for y in range(HEIGHT)]


@pytest.mark.parametrize("codec", [("mpeg2video", "-flags", "+ildct+ilme"), ("libx264", "-flags", "+ildct+ilme")])
def test_interlaced_video_is_pictures_without_combs(tmp_path: Path, codec: tuple[str, ...]) -> None:
    path = encode(tmp_path / "interlaced.mkv", "-vf", "interlace", "-t", "2", "-c:v", *codec, source=MOVING)
    with open_video(path) as reader:
        assert reader.info
        assert reader.info.interlaced
    seen = list(pictures(path))
    assert [picture.number for picture in seen] == list(range(10))
    assert all(picture.pixels.std() > 20 for picture in seen), "no constant buffers"


@pytest.mark.parametrize("pixels", ["gray", "gray16le", "yuv444p", "yuv420p10le", "bgra"])
def test_every_kind_of_pixel_becomes_bgr(tmp_path: Path, pixels: str) -> None:
    seen = list(pictures(encode(tmp_path / "video.mkv", "-c:v", "ffv1", "-pix_fmt", pixels)))
    assert len(seen) == 10
    assert seen[0].pixels.shape == (HEIGHT, WIDTH, 3)
    assert seen[0].pixels.std() > 20


def test_odd_sizes_and_a_phone_held_upright(tmp_path: Path) -> None:
    odd = encode(tmp_path / "odd.mp4", "-c:v", "mpeg4", source="testsrc=d=1:r=10:s=63x47")
    turned = tmp_path / "turned.mp4"
    command = ["ffmpeg", "-v", "error", "-i", str(odd), "-c", "copy", "-metadata:s:v", "rotate=90", str(turned)]
    subprocess.run(command, check=True, timeout=60)
    with open_video(odd) as reader, open_video(turned) as upright:
        assert (reader.size, upright.size) == ((63, 47), (47, 63))


def test_a_rate_that_varies_counts_pictures(tmp_path: Path) -> None:
    choice = f"testsrc2=d=2:r=10:s={WIDTH}x{HEIGHT},select='not(between(n,3,8))'"
    path = encode(tmp_path / "varies.mkv", "-fps_mode", "passthrough", "-c:v", "mpeg4", source=choice)
    seen = list(pictures(path))
    assert [picture.number for picture in seen] == list(range(14))
    assert seen[3].time_s == pytest.approx(0.9, abs=0.01)


def test_a_damaged_picture_is_passed_over_and_keeps_its_number(tmp_path: Path) -> None:
    path = write_video(tmp_path / "damaged.avi", numbered(20))
    data = bytearray(path.read_bytes())
    starts = [at for at in range(data.index(b"movi"), len(data)) if data[at : at + 4] == b"00dc"][:20]
    size = int.from_bytes(data[starts[7] + 4 : starts[7] + 8], "little")
    data[starts[7] + 8 : starts[7] + 8 + size] = bytes(size)
    path.write_bytes(data)
    with open_video(path) as reader:
        seen: list[Picture] = []
        while picture := reader.read(10.0):
            seen.append(picture)
        assert [picture.number for picture in seen] == [n for n in range(20) if n != 7]
        assert [number_of(picture.pixels) for picture in seen] == [n for n in range(20) if n != 7]
        assert reader.said.count, "and the damage is named"


def test_a_file_cut_short_ends_where_it_is_cut(tmp_path: Path) -> None:
    path = bottom_up_avi(tmp_path / "cut.avi")
    path.write_bytes(path.read_bytes()[:50000])
    assert 0 < len(numbers(path)) < 10


@pytest.mark.slow
def test_what_is_no_video_is_refused_with_its_name(tmp_path: Path) -> None:
    picture = encode(tmp_path / "picture.png", "-frames:v", "1")
    sound = tmp_path / "sound.m4a"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=1", str(sound)]
    subprocess.run(command, check=True, timeout=60)
    listed = tmp_path / "list.m3u8"
    listed.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{sound}\n#EXT-X-ENDLIST\n")
    joined = tmp_path / "list.ffconcat"
    joined.write_text(f"ffconcat version 1.0\nfile '{sound}'\n")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty.avi").touch()
    cases = {
        picture: "not a video",
        sound: "no video in it",
        listed: "not a video",
        joined: "not a video",
        tmp_path / "fifo": "not a file",
        tmp_path: "not a file",
        tmp_path / "empty.avi": "the file is empty",
        tmp_path / "none.avi": "No such file",
    }
    for path, text in cases.items():
        with pytest.raises(InputError, match=text) as caught:
            open_video(path)
        assert str(caught.value).startswith(str(path))


def test_ffmpeg_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "video.avi", numbered(2))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt-get install ffmpeg"):
        open_video(path)


@pytest.mark.slow
def test_a_killed_decoder_is_told_from_the_end_and_from_our_own_kill(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.avi", "-c:v", "mpeg4", source="testsrc2=d=10:r=25:s=640x480")
    with open_video(path) as reader:
        assert reader.read(10.0)
        os.kill(process_of(reader), signal.SIGKILL)
        with pytest.raises(DecoderDiedError, match="SIGKILL"):
            while reader.read(10.0):
                pass
    with open_video(path) as reader:
        assert reader.read(10.0)
        reader.kill()
        assert last_of(reader) is None


@pytest.mark.slow
def test_a_decoder_that_hangs_is_a_stall(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.avi", "-c:v", "mpeg4", source="testsrc2=d=10:r=25:s=640x480")
    with open_video(path) as reader:
        os.killpg(process_of(reader), signal.SIGSTOP)
        with pytest.raises(StalledError):
            while reader.read(0.2):
                pass


def process_of(reader: VideoReader) -> int:
    return reader._child._process.pid


def last_of(reader: VideoReader) -> Picture | None:
    picture = reader.read(10.0)
    while picture:
        picture = reader.read(10.0)
    return picture


def test_a_child_has_bounded_memory_writes_no_file_and_gets_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    running = Child(["sh", "-c", f"ulimit -v; env; echo x > {tmp_path}/file; echo done"])
    buffer = bytearray(4000)
    length = running.read_into(memoryview(buffer), 2.0**40)
    running.close()
    said = bytes(buffer[:length]).decode().split()
    assert said[0] == str(child.ADDRESS_SPACE_BYTES // 1024)
    assert "proxy" not in " ".join(said)
    assert not (tmp_path / "file").exists() or not (tmp_path / "file").read_bytes()


def test_complaints_are_counted_and_tell_no_password() -> None:
    said = Complaints()
    said.add("[h264 @ 0x55b6d9e8f1c0] error while decoding\nrtsp://cam:hush@host/1: refused\n\n")
    assert (said.count, said.first) == (2, "error while decoding")
    other = Complaints()
    other.add("tried http://cam:hush@host/1")
    assert other.first == "tried http://host/1"


def test_a_stream_is_named_and_asked_for_without_its_password() -> None:
    source = inputs.stream_input("rtsp://old:one@camera/1?token=hush", "cam", "p'ss\n/@")
    line = " ".join(inputs.command(source))
    assert source.name == "rtsp://camera/1"
    assert "p%27ss%0A%2F%40" in source.words.decode()
    assert not any(secret in line + repr(source) for secret in ("hush", "ss%0A", "one@"))


# --- the pipe ---


@pytest.fixture(scope="module")
def nut(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("nut") / "pictures.nut"
    return encode(path, "-c:v", "rawvideo", "-pix_fmt", "bgr24", source="testsrc2=d=1:r=10:s=16x12").read_bytes()


def read_all(data: bytes) -> list[tuple[float, bytes]]:
    """Return times and pixels of everything in ``data``."""
    file = io.BytesIO(data)
    reader = NutReader(file.read)
    found = []
    if reader.begin():
        while head := reader.next_frame():
            found.append((head.time_s, head.prefix + file.read(head.size)))
    return found


def test_nut_is_read_as_it_was_written(nut: bytes) -> None:
    found = read_all(nut)
    assert [time_s for time_s, _ in found] == pytest.approx([n / 10 for n in range(10)])
    assert {len(pixels) for _, pixels in found} == {16 * 12 * 3}


def test_pictures_whose_beginning_is_left_out_are_whole(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "v.nut",
        "-c:v",
        "rawvideo",
        "-pix_fmt",
        "bgr24",
        source="color=c=0x010000:d=1:r=5:s=16x12,format=bgr24",
    )
    assert {pixels for _, pixels in read_all(path.read_bytes())} == {b"\0\0\1" * (16 * 12)}


@pytest.mark.slow
def test_damaged_nut_is_an_error_and_nothing_else(nut: bytes) -> None:
    draw = random.Random(1)
    for _ in range(3000):
        data = bytearray(nut[: draw.randrange(1, len(nut))] if draw.random() < 0.3 else nut)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
        with contextlib.suppress(NutError):
            read_all(bytes(data))


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("4.4.2-0ubuntu0.22.04.1", "ffmpeg 4.4.2-0ubuntu0.22.04.1 is installed, and 5.1 or newer is needed"),
        ("5.0", "5.1 or newer"),
        ("5.1.9-0+deb12u1", ""),
        ("n7.1", ""),
        ("N-113007-g8d24a28d06", ""),
    ],
)
def test_an_ffmpeg_that_is_too_old_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, problem: str
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\necho 'ffmpeg version {version} Copyright (c) the FFmpeg developers'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if problem:
        with pytest.raises(InputError, match=re.escape(problem)):
            check_ffmpeg()
    else:
        assert check_ffmpeg() == version


def test_a_reader_that_was_read_keeps_no_picture(tmp_path: Path) -> None:
    with open_video(encode(tmp_path / "video.avi")) as reader:
        picture = reader.read(10.0)
        assert picture is not None
        pixels = weakref.ref(picture.pixels)
        del picture
        assert pixels() is None, (
            "at once, not when garbage is collected: a camera that is begun anew often has no time"
        )
