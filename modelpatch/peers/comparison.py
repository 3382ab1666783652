"""Owns measuring a pair of files or folders: our patch at each effort, and every peer that is installed.

Refuses to trust a patch that it has not applied: each one is, and the result is compared byte by byte. In a folder
a peer makes one patch per file; an unchanged file, wherever it moved, and an empty one cost it nothing.
"""

import io
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelpatch.apply.folder import apply_folder
from modelpatch.apply.stream import apply_stream
from modelpatch.apply.tree import scan
from modelpatch.diff.folder import diff_folder
from modelpatch.diff.inputs import Contents, DiffInput, DiffSettings
from modelpatch.diff.make import smallest_patch
from modelpatch.errors import FolderError
from modelpatch.format.header import DEFAULT_FEATURES, VERSION, DecoderFeatures
from modelpatch.installed.engine import InstalledEngine
from modelpatch.peers import COMPARABLE, Peer, PeerError, all_peers

PathLike = str | os.PathLike[str]
OURS = "modelpatch"
# Is told how far a comparison is: steps done, steps in all, what comes next.
StepListener = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One tool with one setting: bytes of its patches, CPU seconds (user and system) to make and to apply them.

    `exact` tells whether all results were the target, byte by byte. `measured` is `in process` or `child process`.
    """

    tool: str
    version: str
    setting: str
    patch_bytes: int
    diff_cpu_s: float
    apply_cpu_s: float
    exact: bool
    measured: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured. `rows` has every setting, `missing` the peers not installed, `failed` why others failed."""

    old: str
    new: str
    old_bytes: int
    new_bytes: int
    files: int
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def tools(self) -> list[str]:
        """Return the names of the peers measured, in the order of their smallest patches."""
        names = {row.tool for row in self.rows} - {OURS}
        return sorted(names, key=lambda name: self.smallest(name).patch_bytes)

    def smallest(self, tool: str) -> Row:
        """Return the row of `tool` with the smallest patch, the one with the least CPU where several have it."""
        return min((r for r in self.rows if r.tool == tool), key=lambda r: (r.patch_bytes, r.diff_cpu_s))

    def fastest_comparable(self, tool: str) -> Row:
        """Return the row of `tool` with the least CPU among those within `COMPARABLE` of its smallest."""
        limit = COMPARABLE * self.smallest(tool).patch_bytes
        rows = (r for r in self.rows if r.tool == tool and r.patch_bytes <= limit)
        return min(rows, key=lambda r: r.diff_cpu_s)

    def chosen(self) -> list[Row]:
        """Return the rows worth showing: all of ours, then the smallest of each peer, by size."""
        return [r for r in self.rows if r.tool == OURS] + [self.smallest(tool) for tool in self.tools()]

    def ratio(self, row: Row) -> float:
        """Return the bytes of `row` as a multiple of our smallest patch."""
        return row.patch_bytes / self.smallest(OURS).patch_bytes

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, each row with its `ratio`."""
        return asdict(self) | {"rows": [asdict(row) | {"ratio": round(self.ratio(row), 4)} for row in self.rows]}


def compare(
    old: PathLike,
    new: PathLike,
    *,
    effort: str = "best",
    features: DecoderFeatures = DEFAULT_FEATURES,
    peers: Sequence[Peer] | None = None,
    progress: StepListener = lambda done, steps, what: None,
) -> Comparison:
    """Return sizes and times of our patch and of every peer's; see `modelpatch.compare`."""
    pairs = _pairs(Path(old), Path(new))
    found = [_chosen(peer, effort) for peer in (all_peers() if peers is None else peers)]
    able = [peer for peer in found if peer.available()]
    out = Comparison(str(old), str(new), _total(Path(old)), _total(Path(new)), len(pairs))
    out.missing.extend(peer.name for peer in found if not peer.available())
    efforts = ("best", "fast") if effort == "best" else ("fast",)
    steps = _StepCount(progress, len(efforts) + len(pairs) * sum(len(p.usable_settings()) for p in able))
    for name in efforts:
        steps.next(f"{OURS} {name}")
        out.rows.append(_measure_ours(Path(old), Path(new), DiffSettings(name, features)))
    for peer in able:
        try:
            out.rows.extend(_measure_peer(peer, pairs, steps))
        except PeerError as e:
            out.failed[peer.name] = str(e)
    return out


@dataclass(frozen=True, slots=True)
class _Pair:
    """A target file and what it is patched from; nothing where its name is new."""

    name: str
    old: Path | None
    new: Path


class _StepCount:
    """Counts the steps of a comparison and tells of each."""

    def __init__(self, listener: StepListener, steps: int) -> None:
        self._listener, self._steps, self._done = listener, steps, 0

    def next(self, what: str) -> None:
        self._listener(self._done, self._steps, what)
        self._done += 1


def _chosen(peer: Peer, effort: str) -> Peer:
    if effort == "best":
        return peer
    return type(peer)([s for s in peer.settings if s not in peer.slow_settings])


def _pairs(old: Path, new: Path) -> list[_Pair]:
    if old.is_dir() != new.is_dir():
        raise FolderError(f"{new}: one of OLD and NEW is a folder, the other is not")
    if not new.is_dir():
        return [_Pair(new.name, old, new)]
    there = scan(old)
    names, contents = {file.name for file in there}, {file.sha256 for file in there}
    return [
        _Pair(file.path, old / file.path if file.name in names else None, new / file.path)
        for file in scan(new)
        if file.length and file.sha256 not in contents
    ]


def _total(path: Path) -> int:
    return sum(file.length for file in scan(path)) if path.is_dir() else path.stat().st_size


def _measure_ours(old: Path, new: Path, settings: DiffSettings) -> Row:
    measure = _ours_folder if new.is_dir() else _ours_file
    size, diff_s, apply_s, exact = measure(old, new, settings)
    return Row(OURS, modelpatch_version(), settings.effort, size, diff_s, apply_s, exact, "in process")


def modelpatch_version() -> str:
    """Return the version of the patch format, which is the one that users of patches need to know."""
    return f"format {VERSION}"


def _ours_file(old: Path, new: Path, settings: DiffSettings) -> tuple[int, float, float, bool]:
    a, b = old.read_bytes(), new.read_bytes()
    start = time.process_time()
    patch = smallest_patch(DiffInput(Contents(a), Contents(b), settings))
    made = time.process_time()
    out = io.BytesIO()
    apply_stream(io.BytesIO(a), io.BytesIO(patch), out, engine=InstalledEngine())
    return len(patch), made - start, time.process_time() - made, out.getvalue() == b


def _ours_folder(old: Path, new: Path, settings: DiffSettings) -> tuple[int, float, float, bool]:
    with tempfile.TemporaryDirectory(prefix="modelpatch-compare-") as folder:
        patch, target = Path(folder) / "patch", Path(folder) / "target"
        start = time.process_time()
        diff_folder(old, new, patch, settings)
        made = time.process_time()
        apply_folder(old, patch, target, engine=InstalledEngine())
        applied = time.process_time()
        return patch.stat().st_size, made - start, applied - made, scan(target) == scan(new)


@dataclass(slots=True)
class _Sum:
    """What one setting of a peer took for all files."""

    patch_bytes: int = 0
    diff_cpu_s: float = 0.0
    apply_cpu_s: float = 0.0
    exact: bool = True


def _measure_peer(peer: Peer, pairs: list[_Pair], steps: _StepCount) -> list[Row]:
    """Return a row for each setting: sums over the files."""
    sums = {setting: _Sum() for setting in peer.usable_settings()}
    for pair in pairs:
        old, new = pair.old.read_bytes() if pair.old else b"", pair.new.read_bytes()
        measurements = peer.measure(old, new)
        for setting, total in sums.items():
            steps.next(f"{peer.name} {setting}" + (f", {pair.name}" if len(pairs) > 1 else ""))
            measured = next(measurements)
            made, apply_cpu_s = peer.timed_apply(old, measured.patch)
            total.patch_bytes += len(measured.patch)
            total.diff_cpu_s += measured.diff_cpu_s
            total.apply_cpu_s += apply_cpu_s
            total.exact &= made == new
    version = peer.version() or ""
    return [
        Row(peer.name, version, setting, s.patch_bytes, s.diff_cpu_s, s.apply_cpu_s, s.exact, peer.measured)
        for setting, s in sums.items()
    ]
