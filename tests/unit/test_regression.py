"""Who may take whose place: the judgement on two accounts, and the gate of publishing."""

import json
from pathlib import Path

import pytest

from cloud_tools.commands.terminal import option_name, options_named
from cloud_tools.publishing.publish import Order, Outcome, publish
from cloud_tools.publishing.regression import compare_people
from cloud_tools.publishing.repository import Repository
from cloud_tools.publishing.site_folder import SiteFolder
from contract.errors import InputError
from contract.manifest import NAME
from tests.sites import Site


def entry(accuracy: float, held_out: str = "a" * 16, crops: int = 50) -> dict[str, object]:
    return {"accuracy": accuracy, "crops": crops, "held_out": held_out}


def test_who_loses_more_than_the_margin_is_named_worst_first() -> None:
    before = {"anna": entry(0.95), "bert": entry(0.90), "carl": entry(0.9), "dora": entry(0.5)}
    now = {"anna": entry(0.92), "bert": entry(0.80), "carl": entry(0.88), "dora": entry(0.9)}
    verdict = compare_people(before, now)
    assert [change.person for change in verdict.worse] == ["bert", "anna"]
    assert [round(change.points, 4) for change in verdict.worse] == [-10.0, -3.0]
    assert [change.person for change in verdict.others] == ["carl", "dora"]
    assert verdict.not_compared == {}


@pytest.mark.parametrize(("now", "worse"), [(0.93, False), (0.9299, True), (0.95, False), (1.0, False)])
def test_the_margin_itself_is_allowed(now: float, worse: bool) -> None:
    assert bool(compare_people({"anna": entry(0.95)}, {"anna": entry(now)}, 2.0).worse) is worse


def test_a_margin_of_zero_refuses_any_loss() -> None:
    assert compare_people({"anna": entry(0.95)}, {"anna": entry(0.9499)}, 0.0).worse
    assert not compare_people({"anna": entry(0.95)}, {"anna": entry(0.95)}, 0.0).worse


def test_other_crops_are_not_compared_and_a_new_person_hides_nobody() -> None:
    before = {"anna": entry(0.95), "bert": entry(0.9), "carl": entry(0.9)}
    now = {"anna": entry(0.5, "b" * 16), "bert": entry(0.7), "emil": entry(0.1)}
    verdict = compare_people(before, now)
    assert [change.person for change in verdict.worse] == ["bert"]
    assert verdict.not_compared == {
        "anna": "was measured on other crops",
        "carl": "is not among the people of the new release",
    }


@pytest.mark.parametrize("strange", [None, 3, [], {}, {"accuracy": "high"}, {"accuracy": 0.9, "crops": 5}])
def test_an_entry_that_is_none_is_not_compared(strange: object) -> None:
    for before, now in (({"anna": strange}, {"anna": entry(0.1)}), ({"anna": entry(0.9)}, {"anna": strange})):
        verdict = compare_people(before, now)
        assert verdict.not_compared == {"anna": "has no held-out crops on record"}
        assert not verdict.worse


class Measured:
    """A site whose bundles carry what they were measured to do."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder).create()
        self.lines: list[str] = []

    def publish(self, version: int, people: dict[str, object], **options: object) -> Outcome:
        bundle = self.site.bundle(version)
        body = json.loads((bundle / NAME).read_text())
        body["metrics"] = {"per_person": people}
        (bundle / NAME).write_text(json.dumps(body))
        order = Order(bundle=bundle, site=self.site.site, keys=self.site.keys, **options)  # type: ignore[arg-type]
        return publish(order, lambda said: self.lines.append(said.named(option_name)), clock=self.site.clock).outcome

    @property
    def channels(self) -> dict[str, int]:
        from cloud_tools.publishing.keys import KeyFolder

        return Repository(SiteFolder(self.site.site), KeyFolder(self.site.keys)).role("household").channels()


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    return Measured(tmp_path)


def test_publish_refuses_a_release_that_is_worse_for_somebody_and_says_who_and_by_how_much(
    measured: Measured,
) -> None:
    measured.publish(1, {"ann": entry(0.96), "ben": entry(0.90)})
    with pytest.raises(InputError) as refused, options_named():
        measured.publish(2, {"ann": entry(0.98), "ben": entry(0.80)})
    assert str(refused.value) == (
        "release 2 of household is worse than release 1, which stable has: ben 90.0 % to 80.0 % (-10.0 points on 50 "
        "held-out crops); the margin is 2 points (--accept-regression publishes it)"
    )
    assert measured.channels == {"stable": 1}
    assert not list((measured.site.site / "targets" / "household").glob("2/*"))


def test_publish_accepts_a_regression_when_told_to_and_says_so(measured: Measured) -> None:
    measured.publish(1, {"ben": entry(0.90)})
    assert measured.publish(2, {"ben": entry(0.80)}, accept_regression=True) is Outcome.NEW
    assert any(line.startswith("accepted: release 2 of household is worse") for line in measured.lines)
    assert measured.channels == {"stable": 2}


def test_publish_takes_a_wider_margin(measured: Measured) -> None:
    measured.publish(1, {"ben": entry(0.90)})
    assert measured.publish(2, {"ben": entry(0.80)}, margin_points=10.0) is Outcome.NEW


@pytest.mark.slow
def test_a_release_is_compared_with_what_its_own_channel_has(measured: Measured) -> None:
    measured.publish(1, {"ben": entry(0.90)}, channel="stable")
    measured.publish(2, {"ben": entry(0.70)}, channel="beta")
    assert measured.publish(3, {"ben": entry(0.71)}, channel="beta") is Outcome.NEW
    with pytest.raises(InputError, match="release 3 of household is worse than release 1, which stable has: ben"):
        measured.publish(3, {"ben": entry(0.71)}, channel="stable")
    assert measured.channels == {"stable": 1, "beta": 3}


@pytest.mark.slow
def test_publish_says_whom_it_could_not_compare(measured: Measured) -> None:
    measured.publish(1, {"ann": entry(0.90), "ben": entry(0.9)})
    assert measured.publish(2, {"ann": entry(0.1, "c" * 16), "ben": entry(0.9)}) is Outcome.NEW
    assert (
        "not compared with release 1: ann was measured on other crops; --held-out DATASET measures both anew"
        in measured.lines
    )
    measured.publish(3, {})
    assert measured.publish(4, {"ann": entry(0.1)}) is Outcome.NEW
    assert "not compared with release 3: it records nobody's held-out accuracy" in measured.lines


def test_publishing_the_same_again_asks_nothing(measured: Measured) -> None:
    measured.publish(1, {"ben": entry(0.90)})
    measured.publish(2, {"ben": entry(0.80)}, accept_regression=True)
    assert measured.publish(2, {"ben": entry(0.80)}) is Outcome.NOTHING


def test_a_manifest_that_is_not_what_was_signed_is_refused(measured: Measured) -> None:
    measured.publish(1, {"ben": entry(0.90)})
    (path,) = (measured.site.site / "targets" / "household" / "1").iterdir()
    path.write_text(path.read_text().replace("0.9", "0.1"))
    with pytest.raises(InputError, match="not the manifest's"):
        measured.publish(2, {"ben": entry(0.80)})
    path.unlink()
    with pytest.raises(InputError, match="missing from the site"):
        measured.publish(2, {"ben": entry(0.80)})
