"""Owns the list of the other tools that `compare` and the benchmarks measure.

Refuses to need any of them: a peer that is not installed has no version and is left out. Sizes are of a peer's own
format as it writes it.
"""

from modelpatch.peers.base import COMPARABLE, Measurement, Peer, PeerError, fastest_comparable, smallest
from modelpatch.peers.packages import Bsdiff, CompressedWhole, Detools, HDiffPatch, HPatchLite
from modelpatch.peers.programs import Xdelta3, ZstdPackage, ZstdProgram

__all__ = [
    "COMPARABLE",
    "Bsdiff",
    "CompressedWhole",
    "Detools",
    "HDiffPatch",
    "HPatchLite",
    "Measurement",
    "Peer",
    "PeerError",
    "Xdelta3",
    "ZstdPackage",
    "ZstdProgram",
    "all_peers",
    "fastest_comparable",
    "smallest",
]


def all_peers() -> list[Peer]:
    """Return one of every peer with all its settings, installed or not; of zstd its program before its package."""
    zstd = ZstdProgram() if ZstdProgram().available() else ZstdPackage()
    return [HDiffPatch(), HPatchLite(), Bsdiff(), Xdelta3(), zstd, Detools(), CompressedWhole()]
