"""Owns the report of a demo run: the page with pictures, the JSON, the lines on screen. Refuses to run anything."""

import datetime as dt
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console
from rich.table import Table

from contract.files import atomic_write, json_bytes
from demo import pictures
from demo.house import HouseSettings
from demo.story import SIXTH, Story, update_bytes
from demo.truth import judge

SHOWN = 12  # crops a release
FAULTS = {
    3: "its outputs are not those that its manifest promises",
    4: "it ends the process on any picture but those of its self-test",
}


def write_report(story: Story, settings: HouseSettings, labels: Path, out: Path) -> dict[str, Any]:
    """Write ``report.html`` and ``report.json`` into ``out``; return the figures that the screen shows."""
    truth = json.loads(labels.read_text(encoding="utf-8"))
    for items in story.sightings.values():
        judge(items, truth)
    figures = _figures(story)
    atomic_write(out / "report.json", json_bytes({"schema": 1, **asdict(story), "figures": figures}))
    atomic_write(out / "report.html", _page(story, settings, figures).encode())
    return figures


def show(story: Story, figures: dict[str, Any], out: Path, console: Console) -> None:
    """Print the short report."""
    table = Table(title="What was measured", title_justify="left", show_header=False, box=None)
    worst = figures["worst_update_bytes"]
    table.add_row("full model", f"{story.full_bytes:,} bytes")
    table.add_row(
        "update of a device, metadata included", f"{worst:,} bytes ({100 * worst / story.full_bytes:.2f} %)"
    )
    table.add_row("publish to both devices committed", f"{figures['update_s']:.1f} s")
    for version in (1, 2):
        overall = story.evaluations[version]["overall"]["accuracy"]
        table.add_row(f"accuracy of release {version}, six people", f"{100 * overall:.1f} % (time split)")
    for row in figures["sighting_counts"]:
        text = f"{row['right']} right, {row['wrong']} wrong, {row['unknown']} unknown of {row['labelled']} labelled"
        table.add_row(f"sightings with release {row['version']}", text)
    for version, devices in story.verdicts.items():
        table.add_row(f"broken release {version}", ", ".join(f"{name}: {v['state']}" for name, v in devices.items()))
    table.add_row("files in slots that are their signed release's", f"{figures['files_same']} of {len(story.files)}")
    console.print(table)
    console.print(f"Page with pictures: {out / 'report.html'}", soft_wrap=True)


def _figures(story: Story) -> dict[str, Any]:
    update = {device: update_bytes(kinds["2"]) for device, kinds in story.traffic.items()}
    steps = [step for step in story.steps if pictures.is_deployment(step, 2)]
    return {
        "update_bytes": update,
        "worst_update_bytes": max(sum(kinds.values()) for kinds in update.values()),
        "update_s": max(step.end_s for step in steps) - min(step.begin_s for step in steps),
        "total_s": max(step.end_s for step in story.steps),
        "files_same": sum(item["same"] for item in story.files),
        "sighting_counts": [_count(version, items) for version, items in sorted(story.sightings.items())],
    }


def _count(version: int, items: list[dict[str, Any]]) -> dict[str, int]:
    labelled = [item for item in items if item["truth"]]
    right = sum(item["right"] for item in labelled)
    unknown = sum(item["label"] == "unknown" and not item["right"] for item in labelled)
    wrong = len(labelled) - right - unknown
    return {
        "version": version,
        "all": len(items),
        "labelled": len(labelled),
        "right": right,
        "wrong": wrong,
        "unknown": unknown,
    }


def _choose(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose crops to show: every label at least once, then in order of time; wrong ones are not hidden."""
    first: dict[str, dict[str, Any]] = {}
    for item in sorted(items, key=lambda item: item["truth"] is None):  # those that can be judged come first
        first.setdefault(item["label"], item)
    rest = [item for item in items if item["truth"] and item not in first.values()]
    return [*first.values(), *rest][:SHOWN]


def _page(story: Story, settings: HouseSettings, figures: dict[str, Any]) -> str:
    crops = {}
    for version, items in sorted(story.sightings.items()):
        chosen = _choose(items)
        cut = pictures.sighting_crops(settings.video, chosen)
        crops[version] = [item | {"picture": picture} for item, picture in zip(chosen, cut, strict=True)]
    verdicts = [
        {
            "version": version,
            "fault": FAULTS[version],
            "device": device,
            "state": v["state"],
            "error": v.get("error", ""),
        }
        for version, devices in story.verdicts.items()
        for device, v in devices.items()
    ]
    people, names = sorted(story.evaluations[2]["per_person"]), story.evaluations[2]["names"]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["shown"] = lambda label: names.get(label, label)
    return environment.get_template("report.html").render(
        when=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        story=story,
        devices=settings.devices,
        broker=settings.broker,
        pace=f"{settings.pace:g}",
        sixth=SIXTH,
        trial_crops=settings.trial_crops,
        probation_s=f"{settings.probation_s:g}",
        worst_share=figures["worst_update_bytes"] / story.full_bytes,
        kinds=sorted({kind for row in figures["update_bytes"].values() for kind in row}),
        crops=crops,
        verdicts=verdicts,
        overview=pictures.overview(story),
        timeline=pictures.timeline(story, 2),
        bytes_plot=pictures.bytes_sent(story, figures["update_bytes"]),
        accuracy=pictures.accuracy(story.evaluations, people, names),
        **figures,
    )
