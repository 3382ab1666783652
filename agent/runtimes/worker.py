"""Owns the accelerator's child: loads a delegate and models, answers until its stdin ends. Refuses everything else.

    python -m agent.runtimes.worker LIBRARY [MODEL ...]

It may crash or hang at any moment, for a delegate runs in it; ``agent.runtimes.child`` starts and ends it. Without a
model it loads a small one, to tell whether the delegate can be had at all.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.runtimes import frames
from agent.runtimes.frames import End, Ends, FrameError, Kind
from agent.runtimes.interpreters import PROBE, build_interpreter
from contract.bundle_runner import MODEL_FAULTS, Interpreter
from contract.errors import ReleaseError, one_line

CPU_S = 60  # for loading, and again for each answer: a child that spins while nobody watches ends by itself
EXIT_DONE, EXIT_FAILED = 0, 1


class Model:
    """A loaded model: ``run`` takes the bytes of its input and gives those of its outputs."""

    def __init__(self, interpreter: Interpreter) -> None:
        """Take an interpreter; ReleaseError when it has other ends than one input."""
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or not outputs:
            raise ReleaseError(f"{len(inputs)} inputs and {len(outputs)} outputs; one input is needed")
        self.ends = Ends(_end(inputs[0]), tuple(_end(found) for found in outputs))
        self._interpreter = interpreter
        self._into, self._out_of = inputs[0]["index"], [found["index"] for found in outputs]

    def run(self, values: memoryview) -> list[NDArray[Any]]:
        """Return the outputs; ValueError or RuntimeError when it does not run."""
        end = self.ends.input
        self._interpreter.set_tensor(self._into, np.frombuffer(values, end.dtype).reshape(end.shape))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(number) for number in self._out_of]


def _end(found: dict[str, Any]) -> End:
    scale, zero_point = found["quantization"]
    shape = tuple(int(side) for side in found["shape"])
    return End(shape, np.dtype(found["dtype"]).name, float(scale), int(zero_point))


def serve(models: list[Model], stdin: int, stdout: int) -> None:
    """Answer frames until they end.

    Raises:
        FrameError: what came is no RUN of a model.
        ValueError, RuntimeError: the model, or the delegate in it, does not run.
    """
    while header := _read(stdin, frames.HEADER.size):
        asked = frames.parse_head(header)
        if asked.kind is not Kind.RUN or asked.model >= len(models):
            raise FrameError(f"{asked.kind.name} of model {asked.model} is not for a child")
        model = models[asked.model]
        if asked.length != model.ends.input.size:
            raise FrameError(f"{asked.length} bytes for model {asked.model}, which takes {model.ends.input.size}")
        values = _read(stdin, asked.length)
        if len(values) != asked.length:
            return
        _allow_processor_time()
        outputs = model.run(values)
        answer = b"".join(output.tobytes() for output in outputs)
        _write(stdout, frames.head(Kind.ANSWER, asked.model, model.ends.answer_size) + answer)


def _read(stdin: int, length: int) -> memoryview:
    """Return ``length`` bytes, or fewer before the end."""
    buffer = memoryview(bytearray(length))
    filled = 0
    while filled < length and (count := os.readv(stdin, [buffer[filled:]])):
        filled += count
    return buffer[:filled]


def _write(stdout: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(stdout, left) :]


def _allow_processor_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = int(used.ru_utime + used.ru_stime) + CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _load(library: str, paths: list[str]) -> list[Model]:
    contents = [(Path(path).name, Path(path).read_bytes()) for path in paths] or [("the probe", PROBE)]
    return [Model(build_interpreter(name, content, library)) for name, content in contents]


def main(arguments: list[str]) -> int:
    """Run as the child: READY, then an answer for each question, until stdin ends; ERROR tells what went wrong."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # a delegate that prints must not write into our frames
    _allow_processor_time()
    try:
        models = _load(arguments[0], arguments[1:])
        body = frames.ready([model.ends for model in models])
        _write(stdout, frames.head(Kind.READY, 0, len(body)) + body)
        serve(models, 0, stdout)
    except (FrameError, ReleaseError, OSError, MemoryError, *MODEL_FAULTS) as error:
        words = one_line(error).encode()[: frames.MOST_WORDS_BYTES]
        with contextlib.suppress(OSError):  # nobody may be there to hear it
            _write(stdout, frames.head(Kind.ERROR, 0, len(words)) + words)
        return EXIT_FAILED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
