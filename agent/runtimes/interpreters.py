"""Owns which TFLite runtime works on this device, and loading a delegate. Refuses to know what a model is for.

To import a runtime is no proof: tflite-runtime 2.14 imports beside numpy 2 and fails only when an interpreter is
built. One thread: with two, one busy core beside them costs 400 ms instead of 5.
"""

import base64
import ctypes
import importlib
import logging
from typing import Any, cast

import numpy as np

from contract.bundle_runner import MODEL_FAULTS, Interpreter, ModelRunner
from contract.errors import ReleaseError, one_line
from contract.events import log_event

logger = logging.getLogger("agent.runtime")
RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")  # the new name first: up to 20 times as fast
# A whole model of one operator: RELU of one float32. The smallest that must load, and whose answer is known.
PROBE = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAAtAAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQAEAAMAAgABAAMAAAA"
    "EAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEAAAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAA"
    "IAAAAAQAAADu////BAAAAAEAAAABAAAAAAAGAAgABAAGAAAABAAAAAEAAAABAAAAAQAAABAAAAAMAAwACwAAAAAABAAMAAAAEwAAAAAAABM="
)


class NoRuntimeError(ReleaseError):
    """No runtime works on this device: no release runs, and none is to blame."""


def build_interpreter(name: str, content: bytes, delegate: str | None = None) -> Interpreter:
    """Return an interpreter of the model ``content``, by the first runtime that works, tensors allocated.

    Args:
        name: of the model, for errors.
        delegate: the library of a delegate that may take parts of the model. Its faults are this process's: only a
            child that may die loads one (``agent.runtimes.worker``).

    Raises:
        ReleaseError: no model that loads here, or no such delegate.
        NoRuntimeError: no runtime works here.
    """
    return _built(name, content, delegate)[1]


def working_runtime() -> str:
    """Return the name of the runtime that works here, proved by a model that was built and run.

    Raises:
        NoRuntimeError: none is installed, or none works; the text says what each did.
        ReleaseError: one loads models, and does not run this one or answers wrongly.
    """
    runtime, interpreter = _built("the probe", PROBE)
    probe = ModelRunner("the probe", interpreter)
    answers = [float(probe.run(np.array([value], np.float32))[0]) for value in (-1.0, 2.0)]
    if answers != [0.0, 2.0]:
        raise ReleaseError(f"{runtime} answers {answers} where [0.0, 2.0] is right: install it again")
    return runtime


def _built(name: str, content: bytes, delegate: str | None = None) -> tuple[str, Interpreter]:
    """Return the name of the first runtime that works, and what it built."""
    problems = []
    for module_name in RUNTIMES:
        package = module_name.partition(".")[0]
        try:
            return package, _build(importlib.import_module(module_name), content, delegate)
        except MODEL_FAULTS as error:
            raise ReleaseError(f"{name}: not a model that loads here: {one_line(error)}") from error
        except (ImportError, AttributeError, SystemError) as error:
            problems.append(f"{package}: {one_line(error)}")
    log_event(logger, "runtime.missing", logging.ERROR, problems="; ".join(problems))
    raise NoRuntimeError(f"no TFLite runtime works here ({'; '.join(problems)}): install ai-edge-litert")


def _build(runtime: Any, content: bytes, delegate: str | None) -> Interpreter:
    delegates = [_loaded(runtime, delegate)] if delegate else None
    try:
        interpreter = runtime.Interpreter(model_content=content, num_threads=1, experimental_delegates=delegates)
    except TypeError as error:  # what some builds raise for a model without a single subgraph
        raise ValueError(str(error)) from error
    interpreter.allocate_tensors()
    return cast("Interpreter", interpreter)


def _loaded(runtime: Any, library: str) -> Any:
    """Return a delegate, as Google's own pycoral loads that of the Edge TPU (PyPI's pycoral is another package)."""
    try:
        ctypes.CDLL(library)  # first: where it is missing, load_delegate leaves half an object behind
        return runtime.load_delegate(library)
    except (OSError, ValueError, AttributeError) as error:  # AttributeError: a library that is no delegate
        raise ReleaseError(f"no delegate: {one_line(error)}") from error
