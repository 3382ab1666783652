"""Owns one child that gives pictures, ffmpeg mostly: limits, pipes, waits, its end. Refuses to know of pictures.

Whoever fills a camera's stream writes to ffmpeg's decoders. So they run here alone: in a process without a way to
write files, with bounded memory, which ends with the thread that started it and costs nothing but a new one.
"""

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from contract.errors import InputError, PeerError

ADDRESS_SPACE_BYTES = 2 << 30  # ffmpeg maps 0.5 GB before it reads a byte; 4K in two threads took 0.9
PIPE_BYTES = 1 << 20  # a picture in a few reads
MOST_WORDS_BYTES = 4096  # of the last thing it said
# Of what decodes foreign bytes; of what is a camera's own driver, which maps and writes memory as files.
DECODER_LIMITS = (f"--as={ADDRESS_SPACE_BYTES}", "--core=0", "--fsize=0", "--nofile=256")
DRIVER_LIMITS = ("--core=0", "--nofile=1024")
LONGEST_POLL_S = 3600.0
END_LIMIT_S = 2.0  # for a killed child, which may wait for a driver
_SECRET = re.compile(r"//[^/@\s]*@")  # a user and a password in an address
_SOURCE = re.compile(r"^(file|rtsps?|https?):\S.*?: (?=\S)")
_HARMLESS = re.compile(r"deprecated pixel format used")  # of every Motion JPEG; its range is set right
_REFUSED = re.compile(r"(failed:|returned) 40[13]\b")  # RTSP, HTTP
_WHERE = re.compile(r"^\[[^\]]* @ 0x[0-9a-f]+\] ")


class StalledError(PeerError):
    """Nothing came in time."""


@dataclass
class Complaints:
    """What a child said on stderr: how many lines, and the first of them, of which the others mostly follow.

    ``refused``: a server wanted another user or password.
    """

    count: int = 0
    first: str = ""
    refused: bool = False
    _taken: int = 0
    _news: str = ""

    def add(self, text: str) -> None:
        """Count the lines of ``text``."""
        for line in filter(None, map(str.strip, text.splitlines())):
            if not _HARMLESS.search(line):
                self.count += 1
                self.first = self.first or _plain(line)[:200]
                self._news = self._news or _plain(line)[:200]
                self.refused = self.refused or bool(_REFUSED.search(line))

    def take(self) -> tuple[int, str]:
        """Return how many lines came since the last call, and the first of them."""
        count, first = self.count - self._taken, self._news
        self._taken, self._news = self.count, ""
        return count, first


def _plain(line: str) -> str:
    """Return ``line`` without what says it: the address of a part, the source's name with its password."""
    return _SECRET.sub("//", _SOURCE.sub("", _WHERE.sub("", line)))


def program(name: str, package: str = "ffmpeg") -> str:
    """Return where the program ``name`` of the apt package is; InputError when it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise InputError(f"{name} is not installed: apt-get install {package}")
    return path


def limited(command: Sequence[str], limits: Sequence[str] = DECODER_LIMITS) -> list[str]:
    """Return ``command`` under limits: memory, no files written, and an end with the thread that starts it.

    util-linux's own programs set them: code of ours between fork and exec may hang in a program with threads.
    """
    setpriv, prlimit = program("setpriv", "util-linux"), program("prlimit", "util-linux")
    return [setpriv, "--pdeathsig", "KILL", prlimit, *limits, *command]


def environment() -> dict[str, str]:
    """Return the environment of a child: nothing of ours, no proxy, little memory set aside for each thread."""
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "MALLOC_ARENA_MAX": "2", "AV_LOG_FORCE_NOCOLOR": "1"}


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """End a child that leads a session of its own, and whatever it started, now."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Child:
    """A running child; ``read_into`` is for one thread, ``kill`` for any.

    ``said``: its complaints so far. ``words`` goes to its stdin, and then the end.
    """

    def __init__(self, command: Sequence[str], words: bytes = b"", *, limits: Sequence[str] = DECODER_LIMITS) -> None:
        self.said = Complaints()
        self._rest = b""
        self._killed = False
        self._process = subprocess.Popen(
            limited(command, limits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(words)  # less than a pipe holds
        self._out, self._err = self._process.stdout.fileno(), self._process.stderr.fileno()
        with contextlib.suppress(OSError):  # a user may have used up his pipes
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._err, False)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._err, select.POLLIN)

    def read_into(self, buffer: memoryview, until_s: float) -> int:
        """Fill ``buffer`` and return how many bytes came before the end: all, if it has not ended.

        Raises:
            StalledError: they have not come at ``until_s`` (monotonic).
        """
        filled = 0
        while filled < len(buffer):
            if not self._wait(until_s):
                continue
            count = os.readv(self._out, [buffer[filled:]])
            if not count:
                break
            filled += count
        return filled

    def _wait(self, until_s: float) -> bool:
        """Wait for the child; return whether pictures, or their end, are there."""
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise StalledError("no picture in time")
        ready = dict(self._poll.poll(min(left_s, LONGEST_POLL_S) * 1000))
        if self._err in ready and not self._listen():
            self._poll.unregister(self._err)  # closed; the pictures go on
        return self._out in ready

    def _listen(self) -> bool:
        """Take what the child says on stderr; False when it says no more."""
        try:
            data = os.read(self._err, 1 << 16)
        except BlockingIOError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.said.add(b"\n".join(lines).decode(errors="replace"))
        self._rest = self._rest[-MOST_WORDS_BYTES:]
        return bool(data)

    def end(self) -> int:
        """Wait for a child whose pictures have ended; return its exit code, negative for a signal.

        One that lingers is killed.
        """
        try:
            code = self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        while self._listen():
            pass
        self.said.add(self._rest.decode(errors="replace"))
        self._rest = b""
        return code

    @property
    def killed(self) -> bool:
        """Whether ``kill`` was called."""
        return self._killed

    def kill(self) -> None:
        """End the child and whatever it started, now."""
        self._killed = True
        kill_all(self._process)

    def close(self) -> None:
        """Kill the child, wait for its end and let go of its pipes."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # in a driver: the kernel ends it when it comes out
            self._process.wait(END_LIMIT_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
