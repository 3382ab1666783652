"""Owns loading the bundle in a slot, to name who is on a crop. Refuses to find crops, to vote, and to trust digests.

Whoever owns the slot verifies digests (``updates.slots``); what a bundle answers is checked by ``contract``.
"""

from pathlib import Path

from agent.vision.runtime import build_interpreter
from contract.bundle_runner import BundleRunner, Interpreter, load_bundle_runner
from contract.errors import InputError, ReleaseError
from contract.manifest import Stage, load_bundle


def load_classifier(folder: Path, *, edge_tpu: bool = False) -> BundleRunner:
    """Load the bundle in ``folder``; its digests are not checked here.

    Args:
        edge_tpu: run the stages that the manifest marks so on an Edge TPU.

    Raises:
        ReleaseError: no bundle, a missing file, or a model that does not load or is not the manifest's.
        NoRuntimeError: no runtime works here.
    """
    try:
        manifest = load_bundle(folder, verify=False)
    except InputError as error:
        raise ReleaseError(str(error)) from error

    def interpreter(stage: Stage, content: bytes) -> Interpreter:
        return build_interpreter(stage.file, content, edge_tpu=edge_tpu and stage.edge_tpu)

    return load_bundle_runner(folder, manifest, interpreter)
