"""Owns training the paper's other branch: a whole network from random weights. Refuses backbones and bases.

It is there to compare with: every release is sent whole (10 MB), and a household's few hundred crops teach it less
than a backbone that has seen a million pictures. A run of the default 15 epochs takes about a minute of CPU for 30
crops.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloud_tools.backbones.networks import SIZE, build_scratch, deployable
from cloud_tools.datasets.dataset import Crop, Dataset, label_numbers
from cloud_tools.datasets.splits import TRAIN
from cloud_tools.progress import Ticks
from cloud_tools.tflite.export import export_tflite
from cloud_tools.training.heads import fit_balanced
from contract.manifest import Preprocess
from contract.preprocess import prepare

COMPARED = 8  # crops on which the file is compared with Keras
TOLERANCE = 1e-3  # probabilities; sixty layers of float32 differ by more than a head alone


def train_scratch(dataset: Dataset, labels: Sequence[str], epochs: int, seed: int, ticks: Ticks) -> bytes:
    """Train ``networks.build_scratch`` on the train side of ``dataset``; return the TFLite file, float32.

    Raises:
        InputError: a picture is missing or was changed.
        ExportError: TFLite and Keras disagree. OSError: the disk is full.
    """
    crops = dataset.side(TRAIN)
    pictures = _pictures(dataset, crops)
    numbers = label_numbers(crops, labels)
    model = build_scratch(len(labels), seed)
    fit_balanced(
        model, pictures, numbers, count=len(labels), epochs=epochs, told=lambda epoch, _: ticks(epoch + 1, epochs)
    )
    samples = pictures[:COMPARED].astype(np.float32)
    return export_tflite(deployable(model), samples, TOLERANCE)


def _pictures(dataset: Dataset, crops: Sequence[Crop]) -> NDArray[np.uint8]:
    """Return the crops as the network takes them: n x height x width x 3, RGB."""
    return np.stack([prepare(dataset.image(crop), Preprocess(SIZE)) for crop in crops])
