"""Owns reading raw pictures and their times out of NUT, as an ffmpeg child writes it; refuses every other use of NUT.

NUT is ffmpeg's own container: of those that it writes to a pipe, the one that hands a picture over at once, with its
true time. The child decodes foreign bytes and may be in a stranger's hands: whatever comes is checked, and a length
over ``MOST_PIXELS`` is refused before it is read. Written after https://ffmpeg.org/~michael/nut.txt (version 3).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from contract.errors import PeerError

ID = b"nut/multimedia container\0"
MAIN, STREAM, SYNC = 0x4E4D7A561F5F04AD, 0x4E5311405BF2F9DB, 0x4E4BE4ADEECA4569
MOST_HEADER_BYTES = 1 << 16
MOST_PIXELS = 64_000_000  # 8K is 33 million
BYTES_A_PIXEL = 3
ELISION_BELOW = 4096  # larger frames are written whole

# Flags of a frame.
CODED_PTS, STREAM_ID, SIZE_MSB, CHECKSUM, RESERVED = 8, 16, 32, 64, 128
HEADER_INDEX, MATCH_TIME, CODED, INVALID = 1024, 2048, 4096, 8192


class NutError(PeerError):
    """The bytes are no NUT of one stream of raw pictures."""


@dataclass(frozen=True)
class FrameHead:
    """What stands before a picture: its bytes are ``prefix`` and ``size`` more; its time in seconds."""

    time_s: float
    prefix: bytes
    size: int


@dataclass(frozen=True)
class _Code:
    """What a frame's first byte stands for."""

    flags: int
    size_mul: int
    size_lsb: int
    pts_delta: int
    reserved: int
    header_index: int


@dataclass
class _Body:
    """A header packet's bytes, taken one number after another."""

    data: bytes
    at: int = 0

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise NutError("a header that ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        return _number(self.byte)

    def signed(self) -> int:
        value = self.number() + 1
        return -(value >> 1) if value & 1 else value >> 1

    def bytes(self) -> bytes:
        length = self.number()
        self.at += length
        if self.at > len(self.data):
            raise NutError("a header that ends too early")
        return self.data[self.at - length : self.at]


def _number(byte: Callable[[], int]) -> int:
    """Read a number of 7 bits a byte."""
    value = 0
    for _ in range(9):
        part = byte()
        value = value << 7 | part & 0x7F
        if not part & 0x80:
            return value
    raise NutError("a number that is too long")


@dataclass
class NutReader:
    """Reads one NUT; ``exactly`` returns that many bytes, and fewer at the end alone."""

    exactly: Callable[[int], bytes]
    width: int = 0
    height: int = 0
    _codes: list[_Code] = field(default_factory=list)
    _time_bases: list[Fraction] = field(default_factory=list)
    _elided: list[bytes] = field(default_factory=list)
    _time_base: Fraction = Fraction(1)
    _shift: int = 0
    _last_pts: int = 0

    def begin(self) -> bool:
        """Read what stands before the first picture: afterwards ``width`` and ``height`` are known.

        Returns:
            False when nothing came at all.

        Raises:
            NutError: no NUT, or no pictures of a possible size.
        """
        start = self.exactly(len(ID))
        if not start:
            return False
        if start != ID:
            raise NutError("no NUT")
        while not self.width:
            self._packet(self._byte())
        return True

    def next_frame(self) -> FrameHead | None:
        """Return the head of the next picture, whose bytes must be read before the next call; None at the end.

        Raises:
            NutError: what came is no NUT, or a picture larger than any.
        """
        while first := self.exactly(1):
            if first == b"N":
                self._packet(first[0])
            else:
                return self._frame(self._codes[first[0]])
        return None

    def _byte(self) -> int:
        return self._all(1)[0]

    def _all(self, count: int) -> bytes:
        data = self.exactly(count)
        if len(data) < count:
            raise NutError("the pictures end in the middle of one")
        return data

    def _frame(self, code: _Code) -> FrameHead:
        flags = code.flags
        if flags & CODED:
            flags ^= _number(self._byte)
        if flags & INVALID:
            raise NutError("no frame where one should be")
        if flags & STREAM_ID:
            _number(self._byte)
        pts = self._pts(_number(self._byte)) if flags & CODED_PTS else self._last_pts + code.pts_delta
        size = code.size_lsb + (code.size_mul * _number(self._byte) if flags & SIZE_MSB else 0)
        if flags & MATCH_TIME:
            _number(self._byte)
        index = _number(self._byte) if flags & HEADER_INDEX else code.header_index
        for _ in range(min(_number(self._byte), 64) if flags & RESERVED else code.reserved):
            _number(self._byte)
        if flags & CHECKSUM:
            self._all(4)
        if size > MOST_PIXELS * BYTES_A_PIXEL:
            raise NutError("a picture larger than any")
        self._last_pts = pts
        prefix = self._elided[index] if size <= ELISION_BELOW and index < len(self._elided) else b""
        if size < len(prefix):
            raise NutError("a picture smaller than its beginning")
        return FrameHead(float(pts * self._time_base), prefix, size - len(prefix))

    def _pts(self, coded: int) -> int:
        """Return the time that ``coded`` stands for: its low bits, or all of it."""
        if coded >= 1 << self._shift:
            return coded - (1 << self._shift)
        mask = (1 << self._shift) - 1
        least = self._last_pts - mask // 2
        return ((coded - least) & mask) + least

    def _packet(self, first: int) -> None:
        """Read a header, a syncpoint, or what may be passed over; ``first`` is its first byte."""
        kind = int.from_bytes(bytes((first,)) + self._all(7))
        length = _number(self._byte)
        if length > MOST_HEADER_BYTES:
            raise NutError("a header that is too long")
        if length > 4096:
            self._all(4)  # a checksum of its own
        body = _Body(self._all(length)[:-4])
        if kind == MAIN:
            self._main_header(body)
        elif kind == STREAM:
            self._stream_header(body)
        elif kind == SYNC:
            self._syncpoint(body)

    def _syncpoint(self, body: _Body) -> None:
        value = body.number()
        if not self._time_bases:
            raise NutError("a time before there is a time base")
        base = self._time_bases[value % len(self._time_bases)]
        self._last_pts = int(value // len(self._time_bases) * base / self._time_base)

    def _main_header(self, body: _Body) -> None:
        if body.number() != 3 or body.number() != 1:
            raise NutError("a NUT of another version, or of many streams")
        body.number()
        self._time_bases = [self._fraction(body) for _ in range(min(body.number(), 16))]
        self._codes = _frame_codes(body)
        count = body.number() + 1
        self._elided = [b"", *(body.bytes() for _ in range(min(count, 128) - 1))]
        if not self._time_bases:
            raise NutError("no time base")

    @staticmethod
    def _fraction(body: _Body) -> Fraction:
        above, below = body.number(), body.number()
        if not above or not below:
            raise NutError("a time base of nothing")
        return Fraction(above, below)

    def _stream_header(self, body: _Body) -> None:
        body.number()  # which stream: there is one
        kind, coding, base, self._shift = body.number(), body.bytes(), body.number(), body.number()
        body.number()
        body.number()
        body.number()
        body.bytes()
        width, height = body.number(), body.number()
        if kind != 0 or coding != b"BGR\x18" or base >= len(self._time_bases) or self._shift > 32:
            raise NutError("no stream of raw pictures")
        if not 0 < width * height <= MOST_PIXELS:
            raise NutError(f"pictures of {width}x{height}")
        self._time_base, self.width, self.height = self._time_bases[base], width, height


def _frame_codes(body: _Body) -> list[_Code]:
    """Read what each of the 256 first bytes of a frame stands for."""
    codes: list[_Code] = []
    pts, mul, header_index = 0, 1, 0
    while len(codes) < 256:
        flags, fields = body.number(), body.number()
        pts = body.signed() if fields > 0 else pts
        mul = body.number() if fields > 1 else mul
        if fields > 2:
            body.number()  # which stream
        size = body.number() if fields > 3 else 0
        reserved = body.number() if fields > 4 else 0
        count = body.number() if fields > 5 else mul - size
        if fields > 6:
            body.signed()
        header_index = body.number() if fields > 7 else header_index
        for _ in range(8, min(fields, 64)):
            body.number()
        if not 0 < count <= 256 or reserved > 64:
            raise NutError("a table of frames that makes no sense")
        for offset in range(count):
            if len(codes) == ord("N"):  # begins a header
                codes.append(_Code(INVALID, 0, 0, 0, 0, 0))
            if len(codes) < 256:
                codes.append(_Code(flags, mul, size + offset, pts, reserved, header_index))
    return codes
