"""Owns the paper's Table 1, measured again: sizes of files and patches, times, and whether bytes came back the same.

Refuses to state a figure that was not measured in this run, or that is not the paper's own (Hsu, Wang and See,
Electronics 2022, 11, 2255, Table 1). Each patch is applied, and the SHA-256 of what came out compared.

hdiffz as the paper ran it: no compression (PyPI ``hdiffpatch``), on SavedModels that hold Adam's variables.
"""

import hashlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import modelpatch
from cloud_tools.paper.paper_models import NO_SLOTS, WITH_SLOTS, Deployment, first_deployment
from cloud_tools.paper.paper_networks import PARAMETERS
from cloud_tools.progress import Progress, no_progress
from contract.errors import InputError
from contract.files import sha256_file

NETWORKS = ("mobilenetv2", "vgg19")
VARIABLES = "variables/variables.data-00000-of-00001"
PAPER_PATCH = {"mobilenetv2": 4_464_323, "vgg19": 1_778_387}  # bytes
PAPER_SENT = {"mobilenetv2": 0.271, "vgg19": 0.022}  # share of the model that the patch is
HDIFFZ, OURS = "hdiffz, uncompressed", "modelpatch"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tool on one pair of files. Sizes in bytes, times in CPU seconds; ``same``: the SHA-256 came out right."""

    network: str
    files: str
    tool: str
    whole: int
    patch: int
    diff_s: float
    apply_s: float
    same: bool

    @property
    def saved(self) -> float:
        """Share of the bytes that need not be sent."""
        return 1 - self.patch / self.whole


@dataclass(frozen=True)
class Table:
    """All rows, the counted parameters of each network (all, head, frozen), and the versions that made them."""

    rows: tuple[Row, ...]
    parameters: dict[str, tuple[int, int, int]]
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, the paper's figures beside it."""
        rows = [{**asdict(row), "saved": round(row.saved, 4)} for row in self.rows]
        paper = {name: {"patch": PAPER_PATCH[name], "sent": PAPER_SENT[name]} for name in NETWORKS}
        return {"rows": rows, "parameters": self.parameters, "versions": self.versions, "paper": paper}


def reproduce_table1(networks: tuple[str, ...] = NETWORKS, progress: Progress = no_progress) -> Table:
    """Make the models (or take them from the cache) and measure every row.

    Raises:
        InputError: ``hdiffpatch`` is not installed, or the inputs cannot be had.
        KinwatchError: a network has not the paper's parameters.
    """
    _hdiffpatch()
    rows: list[Row] = []
    for name in networks:
        deployment = first_deployment(name, progress)
        for number, row in enumerate(_measure(deployment), 1):
            rows.append(row)
            progress(f"{name} patches", number, 4)
    # `first_deployment` refused any other count when the models were made.
    return Table(tuple(rows), {name: PARAMETERS[name] for name in networks}, _versions())


def _measure(deployment: Deployment) -> Iterator[Row]:
    for slots, what in ((WITH_SLOTS, "variables with Adam slots"), (NO_SLOTS, "variables alone")):
        old, new = (folder / VARIABLES for folder in deployment.pair(slots))
        for tool, run in ((HDIFFZ, _hdiffz), (OURS, _ours)):
            patch, diff_s, apply_s, same = run(old, new)
            yield Row(
                network=deployment.network,
                files=what,
                tool=tool,
                whole=new.stat().st_size,
                patch=patch,
                diff_s=diff_s,
                apply_s=apply_s,
                same=same,
            )


def _hdiffz(old: Path, new: Path) -> tuple[int, float, float, bool]:
    module = _hdiffpatch()
    before, after = old.read_bytes(), new.read_bytes()
    start = time.process_time()
    patch = module.diff(before, after, compression="none", validate=False)
    middle = time.process_time()
    result = module.apply(before, patch)
    end = time.process_time()
    return len(patch), middle - start, end - middle, hashlib.sha256(result).hexdigest() == sha256_file(new)


def _ours(old: Path, new: Path) -> tuple[int, float, float, bool]:
    """Diff and apply as a device would: files, with the index of the variables beside them."""
    with tempfile.TemporaryDirectory(prefix="table1-") as name:
        work = Path(name)
        start = time.process_time()
        modelpatch.diff_file(old, new, work / "patch")
        middle = time.process_time()
        modelpatch.apply_file(old, work / "patch", work / "result")
        end = time.process_time()
        same = sha256_file(work / "result") == sha256_file(new)
        size = (work / "patch").stat().st_size
    return size, middle - start, end - middle, same


def _hdiffpatch() -> Any:
    try:
        import hdiffpatch
    except ModuleNotFoundError as error:
        raise InputError("the peer hdiffpatch is not installed: pip install 'kinwatch[test]'") from error
    return hdiffpatch


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from contract import __version__

    names = ("hdiffpatch", "keras", "numpy", "tensorflow")
    return {"kinwatch": __version__, **{name: version(name) for name in names}}
