"""Owns one child with an accelerator: its limits, questions, answers in time, its end. Refuses to start it again.

A delegate drives a device: it may abort on a USB fault, or wait for ever. So it is loaded there alone, in a process
with bounded memory that ends with the thread that started it.
"""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.runtimes import frames
from agent.runtimes.frames import Ends, FrameError, Head, Kind
from contract.errors import KinwatchError, one_line
from contract.video.child import kill_all, limited

PIPE_BYTES = 1 << 20  # a picture in one write
END_LIMIT_S = 2.0  # for a killed child, which may wait for a driver
LAST_LIMIT_S = 0.5  # for one that has said its last
MOST_WORDS_BYTES = 4096  # of the last thing it said
MOST_REASON = 300  # characters
_CHATTER = ("INFO:", "WARNING:", "W0000")  # of the runtime


class AcceleratorError(KinwatchError):
    """The accelerator, its delegate or its child failed; what it was to run runs on the processor."""


class AcceleratorChild:
    """A running child; ``ask`` is for one thread at a time, ``kill`` for any.

    ``limit_s``: how long an answer may take, which its owner may change; ``answers``: how many came.
    """

    def __init__(self, library: str, models: Sequence[Path], limit_s: float) -> None:
        """Start it; AcceleratorError when that is not possible."""
        command = [sys.executable, "-B", "-m", "agent.runtimes.worker", library, *map(str, models)]
        try:
            self._process = subprocess.Popen(
                limited(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "MALLOC_ARENA_MAX": "2"},
                bufsize=0,
                start_new_session=True,
            )
        except (KinwatchError, OSError) as error:
            raise AcceleratorError(f"no child could be started: {one_line(error)}") from error
        self.limit_s = limit_s
        self.answers = 0
        self._count = max(1, len(models))  # without any, the child loads one of its own
        self._models: list[Ends] = []
        self._words = b""
        self._in, self._out, self._err = (_prepared(pipe) for pipe in self._pipes())
        self._hearing = True

    def __enter__(self) -> "AcceleratorChild":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pipes(self) -> list[Any]:
        return [self._process.stdin, self._process.stdout, self._process.stderr]

    @property
    def pid(self) -> int:
        """The child's process."""
        return self._process.pid

    def begin(self) -> None:
        """Wait until every model is loaded.

        Raises:
            AcceleratorError: one did not load, the delegate could not be had, or it took too long.
        """
        until_s = time.monotonic() + self.limit_s
        head = self._head(until_s, Kind.READY)
        try:
            self._models = frames.parse_ready(bytes(self._body(head, until_s)))
        except FrameError as error:
            raise AcceleratorError(f"its child said what is no answer: {error}") from error
        if len(self._models) != self._count:
            raise AcceleratorError(f"its child loaded {len(self._models)} models where {self._count} were due")

    def interpreter(self, model: int) -> "RemoteInterpreter":
        """Return what runs the ``model``-th of its models there."""
        return RemoteInterpreter(self, model, self._models[model])

    def ask(self, model: int, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the outputs of a model for one input of its size.

        Raises:
            AcceleratorError: it crashed, hung, said that it does not run, or what is no answer.
        """
        until_s, ends = time.monotonic() + self.limit_s, self._models[model]
        self._send(frames.head(Kind.RUN, model, ends.input.size), until_s)
        self._send(np.ascontiguousarray(values).data.cast("B"), until_s)
        head = self._head(until_s, Kind.ANSWER)
        if (head.model, head.length) != (model, ends.answer_size):
            raise AcceleratorError(f"its child answered for model {head.model} in {head.length} bytes")
        outputs = frames.split(self._body(head, until_s), ends)
        self.answers += 1
        return outputs

    def _head(self, until_s: float, wanted: Kind) -> Head:
        """Return the next header, of the kind ``wanted``."""
        try:
            head = frames.parse_head(self._receive(frames.HEADER.size, until_s))
        except FrameError as error:
            raise AcceleratorError(f"its child said what is no answer: {error}") from error
        if head.kind is Kind.ERROR:
            words = " ".join(self._body(head, until_s).decode(errors="replace").split())
            raise AcceleratorError(words[:MOST_REASON])
        if head.kind is not wanted:
            raise AcceleratorError(f"its child said {head.kind.name} where {wanted.name} was due")
        return head

    def _body(self, head: Head, until_s: float) -> bytearray:
        return self._receive(head.length, until_s)

    def _send(self, data: bytes | memoryview, until_s: float) -> None:
        left = memoryview(data)
        while left:
            self._wait(self._in, select.POLLOUT, until_s)
            try:
                left = left[os.write(self._in, left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise self._ended() from error

    def _receive(self, length: int, until_s: float) -> bytearray:
        buffer = bytearray(length)
        left = memoryview(buffer)
        while left:
            self._wait(self._out, select.POLLIN, until_s)
            try:
                count = os.readv(self._out, [left])
            except BlockingIOError:
                continue
            if not count:
                raise self._ended()
            left = left[count:]
        return buffer

    def _wait(self, pipe: int, event: int, until_s: float) -> None:
        """Wait until ``pipe`` is ready, taking what the child says meanwhile."""
        poll = select.poll()
        poll.register(pipe, event)
        if self._hearing:
            poll.register(self._err, select.POLLIN)
        while True:
            left_s = until_s - time.monotonic()
            ready = dict(poll.poll(max(0.0, left_s) * 1000))
            if self._err in ready and not self._listen():
                poll.unregister(self._err)
            if pipe in ready:
                return
            if left_s <= 0:
                raise AcceleratorError(f"no answer in {self.limit_s:g} s")

    def _listen(self) -> bool:
        """Take what the child says on stderr; False when it says no more."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._err, 1 << 16)
            self._words = (self._words + data)[-MOST_WORDS_BYTES:]
            self._hearing = bool(data)
        return self._hearing

    def _ended(self) -> AcceleratorError:
        """Return what to say of a child that has ended by itself."""
        try:
            code = self._process.wait(LAST_LIMIT_S)
        except subprocess.TimeoutExpired:
            return AcceleratorError("its child closed its pipes")
        self._listen()
        lines = [line.strip() for line in self._words.decode(errors="replace").splitlines()]
        words = [line for line in lines if line and not line.startswith(_CHATTER)]
        return AcceleratorError(_end_of(code) + (f": {words[-1][:MOST_REASON]}" if words else ""))

    def check(self) -> None:
        """Look whether it still runs, while nobody asks it; AcceleratorError says how it ended."""
        if self._process.poll() is not None:
            raise self._ended()

    def kill(self) -> None:
        """End the child and whatever it started, now."""
        kill_all(self._process)

    def close(self) -> None:
        """Kill the child, wait for its end and let go of its pipes."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # in a driver: the kernel ends it when it comes out
            self._process.wait(END_LIMIT_S)
        for pipe in self._pipes():
            pipe.close()


class RemoteInterpreter:
    """A model of a child, as ``contract.bundle_runner.Interpreter``; ``invoke`` raises AcceleratorError."""

    def __init__(self, child: AcceleratorChild, model: int, ends: Ends) -> None:
        self._child = child
        self._model = model
        self._ends = ends
        self._values: NDArray[Any] | None = None
        self._outputs: list[NDArray[Any]] = []

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return what goes in."""
        return [self._ends.input.details(0)]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return what comes out."""
        return [end.details(number) for number, end in enumerate(self._ends.outputs)]

    def set_tensor(self, tensor_index: int, value: NDArray[Any]) -> None:
        """Keep the input; ValueError when it is of another form."""
        wanted = self._ends.input
        if tensor_index or (value.shape, value.dtype.name) != (wanted.shape, wanted.dtype):
            raise ValueError(f"an input of {value.shape} of {value.dtype}, {wanted.shape} of {wanted.dtype} is due")
        self._values = value

    def invoke(self) -> None:
        """Run it there."""
        if self._values is None:
            raise ValueError("there is no input")
        self._outputs = self._child.ask(self._model, self._values)

    def get_tensor(self, tensor_index: int) -> NDArray[Any]:
        """Return an output of the last run, which nobody else holds."""
        return self._outputs[tensor_index]


def _prepared(pipe: Any) -> int:
    """Return the number of a pipe that does not block, and holds much where the user may have that."""
    number = int(pipe.fileno())
    os.set_blocking(number, False)
    with contextlib.suppress(OSError):  # a user may have used up his pipes
        fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return number


def _end_of(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"its child ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"its child crashed ({signal.Signals(-code).name})"
    return f"its child crashed (signal {-code})"
