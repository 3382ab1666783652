"""The bytes between the agent and the accelerator's child: whatever comes is a frame, or one error on either side."""

import contextlib
import os
import resource
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.runtimes import child, frames
from agent.runtimes.child import AcceleratorChild, AcceleratorError
from agent.runtimes.frames import End, Ends, FrameError, Kind
from agent.runtimes.worker import Model, serve
from tests.accelerators import descriptors

ENDS = Ends(End((1, 4), "int8", 0.5, -3), (End((1, 2), "float32", 0.0, 0), End((3,), "uint8", 0.25, 7)))
READY = frames.ready([ENDS])
HEADER = frames.head(Kind.READY, 0, len(READY))


class Echo(Model):
    """Answers with what it was asked, in its own way."""

    def __init__(self) -> None:
        self.ends = ENDS

    def run(self, values: memoryview) -> list[NDArray[Any]]:
        return [np.ones((1, 2), np.float32), np.frombuffer(values, np.uint8)[:3]]


@pytest.fixture(autouse=True)
def _processor_time() -> Iterator[None]:
    """A child bounds its own time; here it is served in the process of the tests."""
    before = resource.getrlimit(resource.RLIMIT_CPU)
    yield
    resource.setrlimit(resource.RLIMIT_CPU, before)


def served(data: bytes) -> bytes:
    """Return what a child with one model answers to ``data``."""
    (asked, asking), (answered, answering) = os.pipe(), os.pipe()
    try:
        os.write(asking, data)
        os.close(asking)
        serve([Echo()], asked, answering)
    finally:
        os.close(answering)
        said = os.read(answered, 1 << 16)
        os.close(asked), os.close(answered)
    return said


def test_what_a_model_is_comes_over_as_it_was() -> None:
    assert frames.parse_ready(READY) == [ENDS]
    assert frames.parse_head(HEADER) == frames.Head(Kind.READY, 0, len(READY))


def test_a_child_answers_each_question_until_there_are_no_more() -> None:
    question = frames.head(Kind.RUN, 0, 4) + b"\x01\x02\x03\x04"
    answer = served(question * 2)
    body = np.ones(2, np.float32).tobytes() + b"\x01\x02\x03"
    assert answer == (frames.head(Kind.ANSWER, 0, 11) + body) * 2
    first, second = frames.split(body, ENDS)
    assert (first.shape, first.dtype, second.tolist()) == ((1, 2), np.float32, [1, 2, 3])


def test_a_question_that_is_cut_off_ends_the_child_in_order() -> None:
    assert served(frames.head(Kind.RUN, 0, 4) + b"\x01") == b""


@pytest.mark.parametrize(
    "data",
    [
        b"KA",
        b"XX" + frames.head(Kind.RUN, 0, 4)[2:],
        frames.head(Kind.RUN, 1, 4),
        frames.head(Kind.RUN, 0, 5),
        frames.head(Kind.ANSWER, 0, 4),
        struct.pack("<2sBBI", b"KA", 9, 0, 4),
        struct.pack("<2sBBI", b"KA", 2, 200, 4),
        struct.pack("<2sBBI", b"KA", 2, 0, 0xFFFFFFFF),
    ],
)
def test_a_child_refuses_what_is_no_question_of_its_models(data: bytes) -> None:
    with pytest.raises(FrameError):
        served(data)


@given(st.binary(max_size=64) | st.binary(max_size=24).map(lambda rest: frames.head(Kind.RUN, 0, 4) + rest))
def test_any_bytes_are_answered_or_refused_by_the_child(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert len(served(data)) % (frames.HEADER.size + 11) == 0


@given(st.binary(max_size=16))
def test_any_header_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert frames.parse_head(data).length <= frames.MOST_BYTES


def mutated(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(READY)
    change(data)
    return bytes(data)


@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(READY) - 1), st.integers(0, 255)))
def test_any_description_of_models_is_read_or_refused(data: bytes | tuple[int, int]) -> None:
    if isinstance(data, tuple):
        at, value = data
        data = mutated(lambda body: body.__setitem__(at, value))
    try:
        models = frames.parse_ready(data)
    except FrameError:
        return
    assert all(0 < ends.input.size <= frames.MOST_BYTES for ends in models)
    assert all(ends.answer_size <= frames.MOST_BYTES for ends in models)


@pytest.mark.parametrize(
    "end",
    [
        {"shape": [1, 1 << 40], "dtype": "int8", "scale": 0, "zero_point": 0},
        {"shape": [1 << 20, 1 << 20], "dtype": "int8", "scale": 0, "zero_point": 0},
        {"shape": [-1], "dtype": "int8", "scale": 0, "zero_point": 0},
        {"shape": [1], "dtype": "O", "scale": 0, "zero_point": 0},
        {"shape": [1], "dtype": "int8", "scale": "1", "zero_point": 0},
    ],
)
def test_an_end_that_nothing_could_have_is_refused(end: dict[str, object]) -> None:
    good = {"shape": [1], "dtype": "int8", "scale": 0, "zero_point": 0}
    for model in ({"input": end, "outputs": [good]}, {"input": good, "outputs": [good, end]}):
        with pytest.raises(FrameError):
            frames.parse_ready(frames.json.dumps({"models": [model]}).encode())


def saying(monkeypatch: pytest.MonkeyPatch, data: bytes, then: str = "") -> AcceleratorChild:
    """Return a child that says ``data`` whatever it is asked, and then runs ``then``."""
    octal = "".join(f"\\{byte:03o}" for byte in data)
    monkeypatch.setattr(child, "limited", lambda command: ["/bin/sh", "-c", f"printf '{octal}'; {then}"])
    return AcceleratorChild("none", ["model"], 2.0)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("data", "then", "text"),
    [
        (b"", "", "ended with code 0"),
        (b"", "kill -SEGV $$", "crashed .SIGSEGV"),
        (b"", "echo 'the device is gone' >&2; exit 3", "code 3: the device is gone"),
        (b"no frame of ours", "", "no answer: no header"),
        (frames.head(Kind.ANSWER, 0, 4), "", "said ANSWER where READY was due"),
        (frames.head(Kind.READY, 0, 4) + b"{}[]", "", "no answer"),
        (frames.head(Kind.READY, 0, 1 << 17), "", "131072 bytes"),
        (frames.head(Kind.ERROR, 0, 9) + b"no\ndevice", "", "^no device$"),
        (frames.head(Kind.READY, 0, 13) + b'{"models":[]}', "", "loaded 0 models where 1 were due"),
    ],
)
def test_whatever_a_child_says_is_one_error(
    monkeypatch: pytest.MonkeyPatch, data: bytes, then: str, text: str
) -> None:
    with saying(monkeypatch, data, then) as running, pytest.raises(AcceleratorError, match=text):
        running.begin()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (frames.head(Kind.ANSWER, 0, 4) + b"1234", "answered for model 0 in 4 bytes"),
        (frames.head(Kind.ANSWER, 3, 11) + b"x" * 11, "answered for model 3"),
        (frames.head(Kind.ANSWER, 0, 11) + b"x", "ended with code 0"),
        (b"", "ended with code 0"),
    ],
)
def test_a_wrong_answer_is_one_error(monkeypatch: pytest.MonkeyPatch, answer: bytes, text: str) -> None:
    with saying(monkeypatch, HEADER + READY + answer, "head -c 12 >/dev/null") as running:  # it hears the question
        running.begin()
        with pytest.raises(AcceleratorError, match=text):
            running.ask(0, np.zeros((1, 4), np.int8))


@pytest.mark.slow
def test_random_bytes_of_a_child_are_one_error_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(11)
    before = descriptors()
    for _ in range(100):
        data = random.bytes(int(random.integers(0, 40)))
        kept = HEADER[: int(random.integers(0, 9))]
        with saying(monkeypatch, kept + data) as running, pytest.raises(AcceleratorError):
            running.begin()
    assert descriptors() == before


def test_a_child_that_reads_nothing_and_says_nothing_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Ends(End((1, 1 << 22), "int8", 0.0, 0), ENDS.outputs)
    body = frames.ready([large])
    with saying(monkeypatch, frames.head(Kind.READY, 0, len(body)) + body, "exec sleep 60") as running:
        running.begin()
        running.limit_s = 0.1
        with pytest.raises(AcceleratorError, match=r"no answer in 0\.1 s"):
            running.ask(0, np.zeros((1, 1 << 22), np.int8))  # more than a pipe holds


def test_an_input_of_another_form_is_the_callers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with saying(monkeypatch, HEADER + READY, "exec sleep 60") as running:
        running.begin()
        interpreter = running.interpreter(0)
        with pytest.raises(ValueError, match="is due"):
            interpreter.set_tensor(0, np.zeros((1, 4), np.float32))
        with pytest.raises(ValueError, match="no input"):
            interpreter.invoke()
