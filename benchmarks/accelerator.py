"""Measures what it costs to run a model in the accelerator's child, as docs/accelerators.md reports it.

    python -m benchmarks.accelerator

The delegate is the tests', told to claim nothing, so that the very same kernels run on both sides and the difference
is the way there and back. Milliseconds are wall time, the median of runs in which both sides take turns.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from agent.runtimes.child import AcceleratorChild
from agent.runtimes.interpreters import build_interpreter
from cloud_tools.detectors.choice import choose_detector
from contract.bundle_runner import Interpreter
from tests.accelerators import TestDelegate, compile_delegate

TINY = Path(__file__).parents[1] / "tests" / "vectors" / "bundle_tiny"
ROUNDS = 200
START_LIMIT_S = 60.0


def invoke_ms(interpreter: Interpreter) -> float:
    """Return how long one answer took, the input's copy included."""
    (entry,) = interpreter.get_input_details()
    values = np.zeros(entry["shape"], entry["dtype"])
    begun_s = time.perf_counter()
    interpreter.set_tensor(entry["index"], values)
    interpreter.invoke()
    for output in interpreter.get_output_details():
        interpreter.get_tensor(output["index"])
    return (time.perf_counter() - begun_s) * 1000


def compare(name: str, path: Path, library: str) -> None:
    """Print both sides' times of the model in ``path``."""
    here = build_interpreter(name, path.read_bytes())
    begun_s = time.perf_counter()
    with AcceleratorChild(library, [path], START_LIMIT_S) as child:
        child.begin()
        start_s = time.perf_counter() - begun_s
        there = child.interpreter(0)
        times = [(invoke_ms(here), invoke_ms(there)) for _ in range(ROUNDS)]
        status = Path(f"/proc/{child.pid}/status").read_text()
    resident_mb = int(status.split("VmRSS:")[1].split()[0]) / 1000
    in_process, in_child = (statistics.median(side) for side in zip(*times, strict=True))
    print(
        f"{name:24} {in_process:7.3f} ms here, {in_child:7.3f} ms there: +{in_child - in_process:.3f} ms, "
        f"{in_child / in_process:.2f} times; start {start_s:.2f} s, {resident_mb:.0f} MB"
    )


def main() -> None:
    """Print a line a model."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        delegate = TestDelegate(folder, compile_delegate(folder))
        delegate.mode("claims nothing")
        os.environ.update(delegate.environment)
        for file in ("head.tflite", "backbone.tflite"):
            compare(f"tiny {file}", TINY / file, delegate.library)
        for name in ("nanodet-384", "nanodet-384-int8"):
            made = choose_detector(name, None, has_base=False)
            assert made is not None
            detector = folder / "detector.tflite"
            detector.write_bytes(made.data)
            compare(name, detector, delegate.library)


if __name__ == "__main__":
    main()
