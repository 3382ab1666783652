"""Owns the self-test of a bundle in a child process: a model that crashes, hangs or eats memory harms only the child.

Refuses to judge more than what the manifest expects, to write anything, to use a network, and to use an accelerator,
whose faults are no fault of a release. The bundle's pictures are public or seeded, never the household's.
"""

import contextlib
import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.checks import Fields, parse_object
from contract.errors import InputError, KinwatchError, ReleaseError

TIME_LIMIT_S = 60.0
# Address space, not memory: the interpreter with numpy and the runtime maps about 0.5 GiB, mostly never touched.
ADDRESS_SPACE_BYTES = 2 << 30
EXIT_PASSED, EXIT_FAILED, EXIT_CANNOT, EXIT_TIMED_OUT = 0, 1, 3, 124
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # a service manager that stops us stops the child too


class SelfTestImpossibleError(KinwatchError):
    """The self-test could not be made; this says nothing about the release."""


@dataclass(frozen=True)
class SelfTestResult:
    """``worst``: the largest difference from an expected answer; ``run_ms``: for all inputs together."""

    worst: float
    run_ms: float


def run_selftest(folder: Path, *, time_limit_s: float = TIME_LIMIT_S) -> SelfTestResult:
    """Run the self-test of the bundle in ``folder`` in a child process.

    Raises:
        ReleaseError: the model does not load, crashed, hung, or gave other answers; the text says which.
        SelfTestImpossibleError: the child could not start or was ended from outside.
    """
    code, out, error = _run_child(folder, time_limit_s)
    # Killed by a person or for want of memory, or slow on a busy board: the second time it is the release's fault.
    if code in (-signal.SIGKILL, EXIT_TIMED_OUT):
        code, out, error = _run_child(folder, time_limit_s)
    last = error.strip().splitlines()[-1][:300] if error.strip() else ""
    if code == EXIT_PASSED:
        return _result(out)
    if code == EXIT_CANNOT or -code in _FROM_OUTSIDE:
        raise SelfTestImpossibleError(f"the self-test could not run: {last or _signal_name(code)}")
    raise ReleaseError(f"self-test: {last or 'failed'}" if code > 0 else f"self-test: crashed ({_signal_name(code)})")


def _run_child(folder: Path, time_limit_s: float) -> tuple[int, bytes, str]:
    command = [sys.executable, "-B", "-m", "agent.updates.selftest", str(folder), str(time_limit_s)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=time_limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return EXIT_TIMED_OUT, b"", f"not done in {time_limit_s:g} s"
    except OSError as error:
        raise SelfTestImpossibleError(f"the self-test could not start: {error.strerror}") from error
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def _result(out: bytes) -> SelfTestResult:
    try:
        fields = Fields(parse_object(out, "result"), "result")
        return SelfTestResult(fields.number("worst", 0), fields.number("run_ms", 0))
    except InputError as error:
        raise ReleaseError("self-test: ended without a result") from error


def _signal_name(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"


def check_bundle(folder: Path) -> SelfTestResult:
    """Run the self-test of the bundle in ``folder`` in this process.

    Raises:
        ReleaseError: the model does not load or run, or an answer is off by more than the manifest's tolerance.
        InputError: the bundle is damaged.
        SelfTestImpossibleError: no runtime works here.
    """
    from agent.runtimes.interpreters import NoRuntimeError
    from agent.vision.classifier import load_model
    from agent.vision.expected import check_answers

    try:
        model = load_model(folder)
    except NoRuntimeError as error:
        raise SelfTestImpossibleError(str(error)) from error
    begin = time.monotonic()
    worst = check_answers(folder, model.manifest, model.classifier, model.detector)
    return SelfTestResult(worst, (time.monotonic() - begin) * 1000)


def _limit_this_process(time_limit_s: float) -> None:
    """Bound time and memory, and forbid files and sockets; limits only ever go down, so all of them hold."""
    seconds = max(1, int(time_limit_s))
    signal.alarm(seconds + 1)  # if the parent is killed, nobody else would end a child that hangs
    limits = {resource.RLIMIT_AS: ADDRESS_SPACE_BYTES, resource.RLIMIT_CPU: seconds + 1}
    for kind, value in {**limits, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}.items():
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    sys.addaudithook(_refuse_sockets)


def _refuse_sockets(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith("socket."):
        raise PermissionError("a self-test uses no network")


def main(arguments: list[str]) -> int:
    """Run as the child: one line of JSON on stdout when it passed, one line on stderr when not."""
    folder, time_limit_s = Path(arguments[0]), float(arguments[1]) if len(arguments) > 1 else TIME_LIMIT_S
    _limit_this_process(time_limit_s)
    try:
        result = check_bundle(folder)
    except (ImportError, SelfTestImpossibleError) as error:
        print(error, file=sys.stderr)
        return EXIT_CANNOT
    except (ReleaseError, InputError, MemoryError, ValueError, KeyError, OSError) as error:
        print(f"{type(error).__name__}: " * (not isinstance(error, KinwatchError)) + str(error), file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps({"worst": result.worst, "run_ms": result.run_ms}))
    return EXIT_PASSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
