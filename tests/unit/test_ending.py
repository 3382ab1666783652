"""The end that a signal asks for: at any moment of the main thread, once in order, the second time at once."""

import io
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.commands import _ended_by_signals
from contract.events import log_event

LIMIT_S = 10
logger = logging.getLogger("agent.test_ending")


class Stderr(io.StringIO):
    """A stream that, as the real one, cannot be written to by a thread that is writing to it already.

    A signal comes while the first line is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._writer: int | None = None
        self._signalled = False

    def write(self, text: str) -> int:
        if self._writer == threading.get_ident():
            raise RuntimeError("reentrant call")
        if self._signalled:
            return super().write(text)
        self._writer, self._signalled = threading.get_ident(), True
        try:
            signal.raise_signal(signal.SIGTERM)
            return super().write(text)
        finally:
            self._writer = None


@pytest.fixture
def stderr() -> Iterator[Stderr]:
    stream = Stderr()
    handler = logging.StreamHandler(stream)
    logging.getLogger("agent").addHandler(handler)
    yield stream
    logging.getLogger("agent").removeHandler(handler)


def test_a_signal_in_the_middle_of_a_log_line_ends_the_run_and_is_told(
    stderr: Stderr, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ending, stopped = threading.Event(), threading.Event()
    with _ended_by_signals(ending, stopped.set):
        log_event(logger, "slot.committed", slot="a")
        assert stopped.wait(LIMIT_S)
        assert ending.is_set()
    assert "slot.committed slot=a" in stderr.getvalue()
    assert "agent.ending signal=SIGTERM" in stderr.getvalue()


def test_a_signal_while_the_lock_is_held_that_ending_needs_does_not_block() -> None:
    ending, lock, stopped = threading.Event(), threading.Lock(), threading.Event()

    def stop() -> None:
        with lock:
            stopped.set()

    with _ended_by_signals(ending, stop):
        with lock:
            signal.raise_signal(signal.SIGINT)
        assert stopped.wait(LIMIT_S)


def test_a_second_signal_ends_it_at_once() -> None:
    ending = threading.Event()
    with _ended_by_signals(ending, lambda: None):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_without_a_signal_nothing_is_left_behind() -> None:
    before, open_files = signal.getsignal(signal.SIGTERM), open_file_count()
    with _ended_by_signals(threading.Event(), lambda: None):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert open_file_count() == open_files
    assert "signals" not in [thread.name for thread in threading.enumerate()]


def open_file_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
