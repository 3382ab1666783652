"""Owns an accelerator for tests: a real external delegate, compiled from ``delegate.c``, and what is made for it."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contract.manifest import NAME, Compiled, Manifest, Stage, load_bundle
from tests.site_builder import sha256

SOURCE = Path(__file__).with_name("delegate.c")
COMPILED = "head_edgetpu.tflite"
CUSTOM_OPERATOR = "edgetpu-custom-op"
_MODE = "KINWATCH_TEST_DELEGATE"


class TestDelegate:
    """A delegate's library that works, or fails as ``mode`` says (the texts are in delegate.c)."""

    __test__ = False

    def __init__(self, folder: Path, library: Path) -> None:
        self.library = str(library)
        self._mode = folder / "mode"
        self.environment = {_MODE: str(self._mode)}
        self.mode("works")

    def mode(self, text: str) -> None:
        """Work or fail so from now on."""
        self._mode.write_text(text)


def compile_delegate(folder: Path) -> Path:
    """Compile the delegate and return its library."""
    library = folder / "libtestdelegate.so"
    command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return library


def compiled_model(content: bytes) -> bytes:
    """Return the model with its dense layer made into the custom operator of a compiled model, of the same inputs."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    dense = schema.BuiltinOperator.FULLY_CONNECTED
    (number,) = (i for i, code in enumerate(model.operatorCodes) if code.builtinCode == dense)
    code = model.operatorCodes[number]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = CUSTOM_OPERATOR
    for operator in model.subgraphs[0].operators:
        if operator.opcodeIndex == number:
            operator.builtinOptionsType, operator.builtinOptions = 0, None
    builder = flatbuffers.Builder(len(content) + 1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def add_compiled_head(folder: Path) -> Manifest:
    """Add the compiled head to the bundle in ``folder``."""
    manifest = load_bundle(folder, verify=False)
    data = compiled_model((folder / "head.tflite").read_bytes())
    (folder / COMPILED).write_bytes(data)
    head = replace(manifest.stages[-1], edge_tpu=True, compiled=Compiled(COMPILED, sha256(data), len(data)))
    return write_stages(folder, manifest, lambda stages: (*stages[:-1], head))


def write_stages(
    folder: Path, manifest: Manifest, change: Callable[[tuple[Stage, ...]], tuple[Stage, ...]]
) -> Manifest:
    """Write the manifest with other stages."""
    changed = replace(manifest, stages=change(manifest.stages))
    (folder / NAME).write_bytes(changed.to_bytes())
    return changed


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
    """Wait until ``condition`` holds."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"no {what} within {limit_s:g} s"
        time.sleep(0.01)


def children() -> set[int]:
    """Return the children of this process, zombies included."""
    while True:
        # A thread that ends while we look leaves its children to another one, which may have been read already.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lists = [(task / "children").read_text() for task in Path("/proc/self/task").iterdir()]
            return {int(pid) for pid in " ".join(lists).split()}


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def compiled_bundle(folder: Path, bundle: Path) -> Manifest:
    """Copy ``bundle`` to ``folder`` and add a compiled head."""
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    return add_compiled_head(folder)
