"""What an update fetches for a release, and which releases it leaves alone."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.updates.plan import How, InstallPlan, Policy, Reason, Refusal, glance, make_plan, preflight
from agent.updates.record import BadRelease, Held, Phase, Record, Slot, Trial
from contract.manifest import Manifest, Stage, parse_manifest
from contract.release import Patch
from contract.trust import VerifiedRelease
from tests.devices import make_release

POLICY = Policy("household", "porch", reserve_bytes=1000)
PLENTY = 10**9


@pytest.fixture
def release(tmp_path: Path) -> VerifiedRelease:
    """A release with three files."""
    return make_release(tmp_path, 2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> VerifiedRelease:
    """The same for all examples of a property: making it is slower than planning."""
    return make_release(tmp_path_factory.mktemp("shared"), 2)


def with_target(release: VerifiedRelease, **changes: object) -> VerifiedRelease:
    """Return ``release`` with other signed data."""
    return replace(release, target=replace(release.target, **changes))  # type: ignore[arg-type]


def with_stages(release: VerifiedRelease, *stages: Stage) -> VerifiedRelease:
    """Return ``release`` with a manifest of other stages."""
    manifest: Manifest = replace(parse_manifest(release.manifest), stages=stages)
    return replace(release, manifest=manifest.to_bytes())


def planned(release: VerifiedRelease, on_disk: Mapping[str, Path]) -> InstallPlan:
    """Plan a release that must be possible."""
    plan = make_plan(release, on_disk)
    assert isinstance(plan, InstallPlan)
    return plan


def ways(plan: InstallPlan) -> dict[str, How]:
    """Return the way of each file."""
    return {file.name: file.how for file in plan.files}


def test_a_new_device_fetches_every_file_whole(release: VerifiedRelease) -> None:
    plan = planned(release, {})
    assert set(ways(plan).values()) == {How.WHOLE}
    assert plan.fetch_bytes == sum(entry.size for entry in release.target.files.values())


def test_a_file_that_is_on_the_disk_costs_nothing(release: VerifiedRelease) -> None:
    entry = release.target.files["backbone.tflite"]
    plan = planned(release, {entry.sha256: Path("there")})
    assert ways(plan)["backbone.tflite"] is How.REUSE
    assert plan.fetch_bytes == sum(e.size for e in release.target.files.values()) - entry.size


def test_the_smallest_patch_whose_base_is_here_is_taken(release: VerifiedRelease) -> None:
    patches = (
        Patch("head.tflite", "1" * 64, "a" * 64, 500),
        Patch("head.tflite", "2" * 64, "b" * 64, 300),
        Patch("head.tflite", "3" * 64, "c" * 64, 100),
        Patch("backbone.tflite", "1" * 64, "d" * 64, 10**6),
    )
    plan = planned(with_target(release, patches=patches), {"1" * 64: Path("one"), "2" * 64: Path("two")})
    head = next(file for file in plan.files if file.name == "head.tflite")
    assert (head.how, head.source, head.fetch_bytes) == (How.PATCH, Path("two"), 300)
    assert ways(plan)["backbone.tflite"] is How.WHOLE


@given(
    offers=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40_000)), max_size=8),
    here=st.sets(st.integers(0, 5)),
)
def test_no_way_costs_more_than_the_whole_file(
    shared: VerifiedRelease, offers: list[tuple[int, int]], here: set[int]
) -> None:
    patches = tuple(
        Patch("head.tflite", f"{base:064x}", f"{i + 99:064x}", size) for i, (base, size) in enumerate(offers)
    )
    on_disk = {f"{base:064x}": Path(str(base)) for base in here}
    plan = planned(with_target(shared, patches=patches), on_disk)
    head = next(file for file in plan.files if file.name == "head.tflite")
    usable = [size for base, size in offers if base in here]
    assert head.fetch_bytes == min([*usable, head.entry.size])


def refusal_of(
    release: VerifiedRelease, record: Record, policy: Policy = POLICY, free: int = PLENTY
) -> Reason | None:
    """Return why a release is refused, with everything on the way looked at."""
    refusal = glance(record, release.target.version)
    plan = make_plan(release, {}) if refusal is None else refusal
    found = plan if isinstance(plan, Refusal) else preflight(plan, record, policy, free)
    return found.reason if found else None


def test_a_fit_release_is_not_refused(release: VerifiedRelease) -> None:
    assert refusal_of(release, Record("household")) is None


def test_a_release_that_runs_here_is_current(release: VerifiedRelease) -> None:
    record = Record("household", Slot.A, a=Held(2, release.digest, proven=True), highest=2)
    assert refusal_of(release, record) is Reason.CURRENT


def test_an_older_release_is_refused(release: VerifiedRelease) -> None:
    record = Record("household", Slot.A, a=Held(3, "a" * 64, proven=True), highest=3)
    assert refusal_of(release, record) is Reason.OLDER


def test_the_committed_release_is_fetched_again_when_the_disk_lost_it(release: VerifiedRelease) -> None:
    record = Record("household", Slot.B, b=Held(1, "a" * 64, proven=True), highest=2)
    assert refusal_of(release, record) is None


def test_nothing_is_planned_during_a_trial(release: VerifiedRelease) -> None:
    held = Held(1, "a" * 64)
    record = Record("household", None, a=held, trial=Trial(Slot.A, 1, held.digest, Phase.TRIAL, 2))
    assert refusal_of(release, record) is Reason.BUSY


def test_a_bad_release_is_refused_by_version_and_by_digest(release: VerifiedRelease) -> None:
    record = Record("household", bad=(BadRelease(2, release.digest, "crashed"),))
    assert refusal_of(release, record) is Reason.BAD
    refusal = preflight(planned(release, {}), record, POLICY, PLENTY)
    assert refusal is not None
    assert "crashed" in refusal.text
    assert refusal_of(release, Record("household", refused_up_to=2)) is Reason.BAD


def test_a_withdrawn_release_is_refused(release: VerifiedRelease) -> None:
    assert refusal_of(with_target(release, withdrawn=True), Record("household")) is Reason.WITHDRAWN


def test_a_disk_that_does_not_suffice_is_refused_before_a_byte_is_fetched(release: VerifiedRelease) -> None:
    needed = planned(release, {}).disk_bytes + POLICY.reserve_bytes
    assert refusal_of(release, Record("household"), free=needed - 1) is Reason.DISK
    assert refusal_of(release, Record("household"), free=needed) is None


def test_a_release_of_another_model_is_refused(release: VerifiedRelease) -> None:
    assert refusal_of(release, Record("garden"), Policy("garden", "porch")) is Reason.CONTRACT


@pytest.mark.parametrize("name", ["FlexMatMul", "edgetpu-custom-op", "TFLite_Detection_PostProcess"])
def test_an_operator_that_the_runtime_lacks_is_refused_unless_the_device_has_it(
    release: VerifiedRelease, name: str
) -> None:
    first, *rest = parse_manifest(release.manifest).stages
    changed = with_stages(release, replace(first, operators=("CONV_2D", name)), *rest)
    assert refusal_of(changed, Record("household")) is Reason.CONTRACT
    assert refusal_of(changed, Record("household"), replace(POLICY, operators=frozenset({name}))) is None


def test_a_release_that_was_compiled_for_an_accelerator_alone_is_told_what_it_lacks(release: VerifiedRelease) -> None:
    first, *rest = parse_manifest(release.manifest).stages
    plan = make_plan(with_stages(release, replace(first, operators=("edgetpu-custom-op",)), *rest), {})
    assert isinstance(plan, InstallPlan)
    refusal = preflight(plan, Record("household"), POLICY, 10**9)
    assert refusal
    assert refusal.text.endswith(
        "edgetpu-custom-op; a compiled file belongs beside the processor's, not in its place"
    )


def test_a_manifest_that_is_not_what_was_signed_for_is_refused(release: VerifiedRelease) -> None:
    files = dict(release.target.files)
    files["head.tflite"] = replace(files["head.tflite"], size=files["head.tflite"].size + 1)
    assert refusal_of(with_target(release, files=files), Record("household")) is Reason.CONTRACT
    assert refusal_of(with_target(release, version=3), Record("household")) is Reason.CONTRACT
    assert refusal_of(replace(release, manifest=b'{"schema": 2}'), Record("household")) is Reason.CONTRACT


def test_a_device_outside_the_rollout_waits(release: VerifiedRelease) -> None:
    assert refusal_of(with_target(release, rollout_percent=0), Record("household")) is Reason.ROLLOUT
