"""Owns what a person chooses for a training, and refuses what cannot be before anything is computed."""

from dataclasses import dataclass
from pathlib import Path

from cloud_tools.backbones.choice import HOUSEHOLD, BackboneChoice, check_choice
from cloud_tools.backbones.networks import SCRATCH
from cloud_tools.detectors.choice import check_detector
from cloud_tools.setting_errors import Setting, SettingError
from cloud_tools.training.heads import KINDS, PAPER_HEAD
from contract.errors import InputError
from contract.release import check_model_name


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a person chooses; None takes the default that the text of the command states."""

    model: str = "household"
    head: str = "pooled"
    backbone: str | None = None
    precision: str | None = None
    weights: str | None = None
    pixels: str | None = None
    calibrate: str = HOUSEHOLD
    detector: str | None = None
    version: int | None = None
    seed: int = 0
    epochs: int | None = None
    augment: int = 0  # variants of each train crop
    fine_tune: int | None = None  # last layers of the backbone that are trained too
    forget: tuple[str, ...] = ()
    rename: tuple[str, ...] = ()  # OLD=NEW
    name: tuple[str, ...] = ()  # LABEL=NAME, what people see
    max_update_bytes: int | None = None  # what a device with the base downloads, release.json included

    @property
    def choice(self) -> BackboneChoice:
        """What was named of the backbone."""
        return BackboneChoice(
            backbone=self.backbone,
            weights=self.weights,
            precision=self.precision,
            pixels=self.pixels,
            calibrate_on=self.calibrate,
            seed=self.seed,
        )


def check_settings(settings: Settings, base: Path | None) -> None:
    """Refuse what cannot be; a base's backbone would hide a precision that there is not.

    Raises:
        InputError: an unknown name, settings that contradict each other, or one that needs a base without one.
    """
    if settings.head not in KINDS:
        raise InputError(f"no head {settings.head!r} (known: {', '.join(KINDS)})")
    check_choice(settings.choice)
    check_detector(settings.detector)
    check_model_name(settings.model)
    _check_together(settings, base)


def _check_together(settings: Settings, base: Path | None) -> None:
    if settings.fine_tune is not None and settings.max_update_bytes is not None:
        raise SettingError(
            *(Setting.MAX_UPDATE_BYTES, " chooses a head for the base's backbone; "),
            *(Setting.FINE_TUNE, " changes the backbone"),
        )
    if settings.backbone == SCRATCH:
        _check_scratch(settings, base)
    asked = {
        Setting.FORGET: settings.forget,
        Setting.RENAME: settings.rename,
        Setting.MAX_UPDATE_BYTES: settings.max_update_bytes,
    }
    for setting, value in asked.items():
        if value and base is None:
            raise SettingError(setting, " needs ", Setting.BASE, ": the release that it is about")


def _check_scratch(settings: Settings, base: Path | None) -> None:
    """Refuse what a network without a backbone cannot have."""
    asked: dict[Setting, object] = {
        Setting.BASE: base,
        Setting.WEIGHTS: settings.weights,
        Setting.PRECISION: settings.precision,
        Setting.AUGMENT: settings.augment,
        Setting.FINE_TUNE: settings.fine_tune,
    }
    for setting, value in asked.items():
        if value:
            raise SettingError(setting, f": {SCRATCH} is trained from nothing, as float32, and shipped whole")
    if settings.head != PAPER_HEAD:
        need = f" {SCRATCH} is the paper's whole network: it needs "
        raise SettingError(Setting.BACKBONE, need, Setting.HEAD, f" {PAPER_HEAD}")
