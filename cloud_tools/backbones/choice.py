"""Owns which backbone a release gets: the base's own file, or one made from what a person chose. Refuses to change
the backbone of a release that has a base.

The base's backbone is never made again: other converters, other calibration pictures or another download would be
other bytes, and devices would fetch megabytes for nothing. What a person names must be what the base has.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cloud_tools.backbones.backbone import Backbone, check_precision, make_backbone
from cloud_tools.backbones.networks import NETWORKS, SCRATCH, network
from cloud_tools.backbones.weight_sources import SOURCES, backbone_weights
from cloud_tools.datasets.dataset import Dataset
from cloud_tools.tflite.quantisation import Calibration, household_calibration, sample_calibration
from contract.errors import InputError
from contract.manifest import Preprocess

DEFAULT = "mobilenetv2"
HOUSEHOLD, SAMPLE = "household", "sample"  # whose crops give an int8 backbone its scales


@dataclass(frozen=True)
class BackboneChoice:
    """What a person named; None: the base's, or the default."""

    backbone: str | None = None
    weights: str | None = None
    precision: str | None = None
    pixels: str | None = None
    calibrate_on: str = HOUSEHOLD
    seed: int = 0


def check_choice(choice: BackboneChoice) -> None:
    """Refuse what cannot be before anything is fetched; InputError names it."""
    if choice.precision is not None:
        check_precision(choice.precision)
    if choice.calibrate_on not in (HOUSEHOLD, SAMPLE):
        raise InputError(f"--calibrate {choice.calibrate_on!r} is not known (known: {HOUSEHOLD}, {SAMPLE})")
    if choice.backbone not in (None, SCRATCH):
        network(choice.backbone, choice.pixels)


def choose_backbone(choice: BackboneChoice, dataset: Dataset, kept: Backbone | None = None) -> Backbone:
    """Return the backbone: ``kept`` (the base's) where there is one, else made for ``choice``.

    Raises:
        InputError: an unknown name, or something named that the base's backbone is not.
        PeerError: weights that cannot be fetched. ExportError, OSError: as ``make_backbone``.
    """
    if kept is not None:
        _check_same(choice, kept)
        return kept
    name = choice.backbone or DEFAULT
    chosen, precision = network(name, choice.pixels), choice.precision or "float32"
    weights = backbone_weights(choice.weights, name, choice.seed)

    def calibration() -> Calibration:
        how = Preprocess(chosen.size)
        return household_calibration(dataset, how) if choice.calibrate_on == HOUSEHOLD else sample_calibration(how)

    return make_backbone(chosen, weights, precision, calibration() if precision == "int8" else None)


def _check_same(choice: BackboneChoice, kept: Backbone) -> None:
    origin = kept.origin
    checks: list[tuple[str, str | None, object, Callable[[str], object]]] = [
        ("--backbone", choice.backbone, origin.get("name"), lambda name: network(name, choice.pixels).name),
        ("--precision", choice.precision, origin.get("precision"), str),
        ("--weights", choice.weights, origin.get("weights_sha256"), lambda named: _digest(named, choice, kept)),
    ]
    for option, named, has, meaning in checks:
        if named is not None and meaning(named) != has:
            raise InputError(
                f"{option} {named}: the base's backbone is another ({origin.get('name')}, {origin.get('precision')}, "
                f"weights {origin.get('weights')}), and a release keeps that of its base; train without --base"
            )


def _digest(named: str, choice: BackboneChoice, kept: Backbone) -> str:
    of = [name for name in SOURCES if NETWORKS[name].name == kept.origin.get("name")]
    return backbone_weights(named, of[0] if of else "the base's", choice.seed).sha256
