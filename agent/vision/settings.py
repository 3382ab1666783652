"""Owns the settings of everything between a frame and a sighting, once: as tables of agent.toml, and for a pipeline.

Refuses values of its own: each part has its defaults and its checks beside it.
"""

from dataclasses import dataclass, field

from agent.vision.cadence import DetectionSettings
from agent.vision.consensus import ConsensusSettings
from agent.vision.gate import GateSettings
from agent.vision.motion import MotionSettings
from agent.vision.tracking import TrackSettings
from agent.vision.zones import Zone


@dataclass(frozen=True, kw_only=True)
class VisionSettings:
    """The settings of every part."""

    gate: GateSettings = field(default_factory=GateSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    tracking: TrackSettings = field(default_factory=TrackSettings)
    consensus: ConsensusSettings = field(default_factory=ConsensusSettings)
    zones: tuple[Zone, ...] = ()
