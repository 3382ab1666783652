"""Owns an evaluation as one HTML page with everything in it: no script, no other file, nothing fetched.

Refuses to compute. It holds pictures of the household: whoever has the page has them.
"""

import base64
from pathlib import Path
from typing import Any

import cv2

from cloud_tools.datasets.dataset import Crop, Dataset
from cloud_tools.evaluation.evaluation import Evaluation
from cloud_tools.evaluation.reliability import Reliability
from cloud_tools.reports.evaluation_report import Report
from contract.errors import InputError
from contract.files import atomic_write
from contract.manifest import UNKNOWN

TALLEST = 200  # pixels of a picture on the page
SIDE = 260  # of the reliability diagram, in CSS pixels


def write_page(report: Report, dataset: Dataset, path: Path) -> None:
    """Write the page to ``path``, whole or not at all.

    Raises:
        InputError: a picture of the dataset is missing or was changed. OSError: the disk refused.
    """
    atomic_write(path, render_page(report, dataset).encode())


def render_page(report: Report, dataset: Dataset) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cloud_tools"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = lambda share: "–" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
    return environment.get_template("evaluation.html.j2").render(
        report=report,
        evaluation=report.evaluation,
        people=_people(report),
        matrix=_matrix(report.evaluation),
        diagrams=[
            ("single crops", _diagram(report.confidence), report.confidence),
            ("votes of five", _diagram(report.confidence_vote5), report.confidence_vote5),
        ],
        side=SIDE,
        unknown_label=UNKNOWN,
        galleries=[
            [(mistake, _picture(dataset, mistake.crop), _name(dataset, mistake.crop)) for mistake in mistakes]
            for mistakes in (report.mistakes, report.strangers_named)
        ],
    )


def _people(report: Report) -> list[dict[str, Any]]:
    """Return the rows of the table of people, all members last."""
    evaluation, splits = report.evaluation, report.splits
    base = evaluation.baseline or {}
    rows = []
    for name, part in evaluation.per_person.items():
        rows.append(
            {
                "name": evaluation.shown(name),
                "part": part,
                "baseline": base.get("per_person", {}).get(name),
                "random": splits.random.per_person.get(name) if splits else None,
            }
        )
    everybody = {
        "name": "all",
        "part": evaluation.overall,
        "baseline": base.get("accuracy"),
        "random": splits.random.accuracy if splits else None,
    }
    return [*rows, everybody]


def _matrix(evaluation: Evaluation) -> dict[str, Any]:
    """Return the confusion matrix: columns, and rows of (count, share of the row, is it right)."""
    columns = sorted({label for row in evaluation.confusion.values() for label in row})
    rows = []
    for truth, counts in evaluation.confusion.items():
        total = max(1, sum(counts.values()))
        cells = [(counts.get(name, 0), counts.get(name, 0) / total, name == truth) for name in columns]
        rows.append((evaluation.shown(truth), cells))
    return {"columns": [evaluation.shown(name) for name in columns], "rows": rows}


def _diagram(measured: Reliability) -> list[dict[str, float]]:
    """Return the bars of a reliability diagram in pixels: x, width, height of what was right, y of what was said."""
    most = max((row.count for row in measured.bins), default=1)
    return [
        {
            "x": SIDE * row.low,
            "width": SIDE * (row.high - row.low),
            "right": SIDE * row.accuracy,
            "said": SIDE * (1 - row.confidence),
            "weight": 0.25 + 0.75 * row.count / most,
            "count": row.count,
        }
        for row in measured.bins
    ]


def _name(dataset: Dataset, crop: Crop) -> str:
    """Return the file that a crop was imported from, where the dataset says so, else its own."""
    names = dataset.source.get("names")
    return str(names.get(crop.file, crop.file)) if isinstance(names, dict) else crop.file


def _picture(dataset: Dataset, crop: Crop) -> str:
    """Return a crop as a data URL, shrunk to TALLEST."""
    pixels = dataset.image(crop)
    scale = TALLEST / max(pixels.shape[:2])
    if scale < 1:
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not ok:
        raise InputError(f"{crop.file}: cannot be shown")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
