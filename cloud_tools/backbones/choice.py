"""Owns which backbone a release gets: the base's own file, or one made from what a person chose. Refuses to change
the backbone of a release that has a base.

The base's backbone is never made again: other converters, other calibration pictures or another download would be
other bytes, and devices would fetch megabytes for nothing. What a person names must be what the base has.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud_tools.backbones.backbone import Backbone, check_precision, make_backbone
from cloud_tools.backbones.model_file import network_from_file
from cloud_tools.backbones.networks import NETWORKS, SCRATCH, Network
from cloud_tools.backbones.weight_sources import SOURCES, backbone_weights
from cloud_tools.datasets.dataset import Dataset
from cloud_tools.setting_errors import Setting, SettingError
from cloud_tools.tflite.quantisation import Calibration, household_calibration, sample_calibration
from contract.errors import InputError
from contract.manifest import Preprocess

DEFAULT = "mobilenetv2"
HOUSEHOLD, SAMPLE = "household", "sample"  # whose crops give an int8 backbone its scales


@dataclass(frozen=True, kw_only=True)
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
        raise SettingError(Setting.CALIBRATE, f" {choice.calibrate_on!r} is not known (known: {HOUSEHOLD}, {SAMPLE})")
    if choice.backbone not in (None, SCRATCH):
        network(choice.backbone, choice.pixels)


def network(choice: str, pixels: str | None = None) -> Network:
    """Return the network that ``choice`` names: one of ``NETWORKS``, or a Keras model in a file.

    ``pixels`` is for a file that does not normalise: ``0..255``, ``0..1`` or ``-1..1``.

    Raises:
        InputError: no such network or file, or a file that is no network for pictures.
    """
    if choice in NETWORKS:
        if pixels is not None:
            raise SettingError(Setting.PIXELS, f" is for a network from a file; {choice} has its own rule")
        return NETWORKS[choice]
    if Path(choice).is_file():
        return network_from_file(Path(choice), pixels)
    names = (*NETWORKS, SCRATCH)
    near = difflib.get_close_matches(choice, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}, or a .keras or .h5 file"
    raise InputError(f"no backbone {choice!r}, and no file of that name ({hint})")


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
    checks: list[tuple[Setting, str | None, object, Callable[[str], object]]] = [
        (Setting.BACKBONE, choice.backbone, origin.get("name"), lambda name: network(name, choice.pixels).name),
        (Setting.PRECISION, choice.precision, origin.get("precision"), str),
        (Setting.WEIGHTS, choice.weights, origin.get("weights_sha256"), lambda named: _digest(named, choice, kept)),
    ]
    for setting, named, has, meaning in checks:
        if named is not None and meaning(named) != has:
            raise SettingError(
                setting,
                f" {named}: the base's backbone is another ({origin.get('name')}, {origin.get('precision')}, "
                f"weights {origin.get('weights')}), and a release keeps that of its base; train without ",
                Setting.BASE,
            )


def _digest(named: str, choice: BackboneChoice, kept: Backbone) -> str:
    of = [name for name in SOURCES if NETWORKS[name].name == kept.origin.get("name")]
    return backbone_weights(named, of[0] if of else "the base's", choice.seed).sha256
