"""What people may be called, the label that a name gets, and a name's way from a folder to a page."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agent.live import Live
from agent.status import table
from cloud_tools.commands.dataset import stats_lines
from cloud_tools.datasets.dataset import Dataset, dataset_stats, load_dataset
from cloud_tools.datasets.from_folder import import_folder
from cloud_tools.datasets.labels import parse_labels
from cloud_tools.datasets.people import call_people, read_renames, rename_people
from cloud_tools.datasets.person_ids import cut, fitted, label_of, person_of
from contract.checks import is_plain
from contract.errors import InputError
from contract.manifest import load_bundle, parse_manifest
from contract.messages import Sighting
from contract.names import MOST_BYTES, MOST_CHARACTERS, display_name
from tests.unit.test_from_folder import save, scene
from tests.unit.test_people import household
from tests.vision_scenes import BUNDLE

ZOE, LI, MINA = "Zoë Müller", "李雷", "می\u200cنا"
TINY = load_bundle(BUNDLE)
# In every script, and with everything that could do harm.
TEXTS = st.text(st.characters(), max_size=80)
NAMES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("\u200c\u200d"), max_size=50)


def named(text: str) -> str:
    """Return the name; a text that is none is passed over."""
    try:
        return display_name(text, "here")
    except InputError:
        assume(False)
        raise


@pytest.mark.parametrize(
    "name", [ZOE, LI, MINA, "ශ්\u200dරී", "O'Brien-Núñez, Jr.", "<b>&\"'$x$", "👩\u200d🦰 Mum", "a"]
)
def test_a_name_of_any_script_stays_as_it_is(name: str) -> None:
    assert display_name(name, "here") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [("Zoe\u0308 Mu\u0308ller", ZOE), ("  Zoë \u00a0 Müller ", ZOE), ("山田\u3000太郎", "山田 太郎")],
)
def test_a_name_is_composed_and_has_single_blanks(text: str, name: str) -> None:
    assert display_name(text, "here") == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \u2003 ", "empty"),
        ("\u200d", "empty"),
        ("an\nna", "does not show"),
        ("an\0na", "does not show"),
        ("anna\u202etxt.exe", "does not show"),
        ("\u2066anna\u2069", "does not show"),
        ("anna\u200f", "does not show"),
        ("an\u200bna", "does not show"),
        ("an\u00adna", "does not show"),
        ("\ufeffanna", "does not show"),
        ("\ue000", "does not show"),
        ("\udcff", "does not show"),
        ("\u3164", "does not show"),
        ("anna\u2028", "does not show"),
        ("anna\u200d", "joins nothing"),
        ("an\u200c\u200dna", "joins nothing"),
        ("\u0301anna", "begins with a mark"),
        ("a" * (MOST_CHARACTERS + 1), "longer than"),
        ("\U00020000" * (MOST_BYTES // 4 + 1), "longer than"),
    ],
)
def test_what_could_deceive_is_no_name_and_one_plain_line_says_so(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        display_name(text, "here")
    assert str(caught.value).isprintable()


@given(TEXTS | NAMES)
def test_a_name_is_kept_in_one_form_however_often_it_is_read(text: str) -> None:
    name = named(text)
    assert display_name(name, "here") == name == unicodedata.normalize("NFC", name).strip()
    assert 0 < len(name) <= MOST_CHARACTERS
    assert len(name.encode()) <= MOST_BYTES
    assert display_name(unicodedata.normalize("NFD", name), "here") == name


@given(NAMES, NAMES)
@example(ZOE, "Zoe Muller")
@example("an na", "an  na")
@example("an na", "an-na")
def test_a_label_is_plain_and_two_names_have_the_same_one_only_if_they_are_the_same(one: str, other: str) -> None:
    first, second = person_of(named(one), "here"), person_of(named(other), "here")
    assert is_plain(first[0])
    assert is_plain(second[0])
    assert (first[0] == second[0]) == (named(one) == named(other))
    assert (first[1] or first[0]) == named(one)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
def test_a_plain_name_is_its_own_label(name: str) -> None:
    assert person_of(name, "here") == (name, "")


def test_the_labels_of_names_never_change() -> None:
    assert [person_of(name, "here")[0] for name in (ZOE, LI, MINA, "an na")] == [
        "zoe-muller-d6e575a6b5",
        "person-3a47328a60",
        "person-a5d3cffdf0",
        "an-na-d6520c9a40",
    ]


def test_columns_of_a_terminal_are_counted() -> None:
    assert [fitted(LI, 6), fitted("Zoe\u0308", 6), fitted(LI, -6)] == ["李雷  ", "Zoe\u0308   ", "  李雷"]
    assert cut("李雷雷", 5) == LI


# --- on their way ---------------------------------------------------------------------------------------------------


def tiny_manifest(**names: str) -> bytes:
    """Return the manifest of the small bundle with names."""
    return replace(TINY, names=names).to_bytes()


@given(st.dictionaries(st.sampled_from(TINY.labels), NAMES))
def test_names_come_back_from_a_manifest(texts: dict[str, str]) -> None:
    names = {label: named(text) for label, text in texts.items()}
    shown = [names.get(label, label) for label in TINY.labels]
    assume(len({*shown, "unknown"}) == len(shown) + 1)
    assert parse_manifest(tiny_manifest(**names)).names == names


def test_a_manifest_without_names_has_the_bytes_that_it_ever_had() -> None:
    data = (BUNDLE / "release.json").read_bytes()
    assert b'"names"' not in data
    assert json.loads(parse_manifest(data).to_bytes()) == json.loads(data)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"nobody": "Nobody"}, "nobody's label"),
        ({0: "unknown"}, "would both be called 'unknown'"),
        ({0: "Anna", 1: "Anna"}, "would both be called 'Anna'"),
        ({0: "A\u202e"}, "does not show"),
        ({0: ""}, "is empty"),
    ],
)
def test_a_manifest_with_names_that_mix_people_up_is_refused(names: dict[str | int, str], reason: str) -> None:
    labels = TINY.labels
    with pytest.raises(InputError, match=reason):
        parse_manifest(tiny_manifest(**{labels[key] if isinstance(key, int) else key: v for key, v in names.items()}))


SIGHTING = Sighting(
    device="porch", visit="a-1", track=1, label="zoe", confidence=0.9, version=1, frame=5, box=(1, 2, 3, 4), crops=5,
    picture=(64, 48), first_frame=1, last_frame=9, start="2026-11-25T08:00:00Z", name=ZOE,
)  # fmt: skip


def test_a_sighting_tells_a_name_and_is_as_before_without_one() -> None:
    assert Sighting.parse(SIGHTING.encode()) == SIGHTING
    assert b"name" not in replace(SIGHTING, name=None).encode()
    with pytest.raises(InputError, match="does not show"):
        Sighting.parse(replace(SIGHTING, name="\u202eeoZ").encode())


def test_status_shows_the_name(tmp_path: Path) -> None:
    with Live(tmp_path, stalled_s=5.0) as running:
        running.sighted(SIGHTING)
        assert f"last seen   {ZOE} at 2026-11-25T08:00:00Z" in table(tmp_path)


def test_a_folder_of_any_name_becomes_a_label_and_a_name(tmp_path: Path) -> None:
    for name in (ZOE, LI, "anna"):
        for number in range(10):
            save(tmp_path / "pictures" / name / f"{number}.png", scene(hash_of(name) + number))
    made = import_folder(tmp_path / "pictures", tmp_path / "out").dataset
    zoe, li = person_of(ZOE, "")[0], person_of(LI, "")[0]
    assert made.names == {zoe: ZOE, li: LI}
    assert set(made.people) == {"anna", zoe, li}
    assert load_dataset(tmp_path / "out") == made
    assert any(ZOE in line and f"(label {zoe})" in line for line in stats_lines(dataset_stats(made)))


def hash_of(name: str) -> int:
    """Return a number that is another for each name."""
    return 100 * sum(map(ord, name))


def test_two_folders_of_one_label_are_refused_by_their_names(tmp_path: Path) -> None:
    for name in (ZOE, person_of(ZOE, "")[0]):
        save(tmp_path / "pictures" / name / "a.png", scene(1))
    with pytest.raises(InputError, match="have the same label"):
        import_folder(tmp_path / "pictures", tmp_path / "out")


def test_a_folder_that_cannot_be_a_name_is_one_line(tmp_path: Path) -> None:
    save(tmp_path / "pictures" / "anna\u202e" / "a.png", scene(1))
    with pytest.raises(InputError, match="the folder of a person: 'anna.u202e' is no name"):
        import_folder(tmp_path / "pictures", tmp_path / "out")


LABELS = b"""{"schema": 1, "video": {"width": 64, "height": 48, "frames": 9},
 "household": {"zoe": [[0, 1, 1, 9, 9]], "anna": [[0, 1, 1, 9, 9]]}, "names": %s}"""


def test_a_labels_file_may_say_what_people_are_called() -> None:
    assert parse_labels(LABELS % f'{{"zoe": "{ZOE}"}}'.encode(), "labels").names == {"zoe": ZOE}
    with pytest.raises(InputError, match="labels: names: 'eva' is nobody's label"):
        parse_labels(LABELS % b'{"eva": "Eva"}', "labels")


def test_people_are_renamed_by_what_they_are_called() -> None:
    names = {"anna": "Änne", "bert": "Bertl"}
    labels, after = read_renames([f"Änne={ZOE}", "bert=max"], names)
    zoe = person_of(ZOE, "")[0]
    assert labels == {"anna": zoe, "bert": "max"}
    assert after == {zoe: ZOE}
    dataset, _ = rename_people(household("anna", "bert"), ("anna", "bert"), labels)
    assert call_people(dataset, after, []).names == {zoe: ZOE}


def test_a_person_who_has_the_new_name_in_the_dataset_already_is_renamed_in_the_base() -> None:
    dataset, labels = rename_people(household("zoe", "bert"), ("anna", "bert"), {"anna": "zoe"})
    assert (dataset, labels) == (household("zoe", "bert"), ("zoe", "bert"))


def test_a_person_is_called_otherwise_and_keeps_the_label() -> None:
    called = call_people(
        household("anna", "bert"), {"anna": "Änne", "gone": "Gone"}, [f"Änne={ZOE}", "bert= Bert  B. "]
    )
    assert called.names == {"anna": ZOE, "bert": "Bert B."}


@pytest.mark.parametrize(
    ("word", "reason"),
    [("anna", "LABEL=NAME"), ("eva=Eva", "LABEL=NAME"), ("anna=", "empty"), ("anna=bert", "would both be called")],
)
def test_a_name_that_is_given_wrongly_is_refused(word: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        call_people(household("anna", "bert"), {}, [word])


def test_a_label_is_found_by_its_name_however_it_is_composed() -> None:
    assert label_of("Zoe\u0308  Müller", {"zoe": ZOE}) == "zoe"
    assert label_of("zoe", {"zoe": ZOE}) == "zoe"


def test_names_are_no_part_of_a_datasets_digest() -> None:
    dataset = household("anna", "bert")
    assert replace(dataset, names={"anna": ZOE}).digest == dataset.digest
    assert b'"names"' not in Dataset(Path(), {}, ()).to_bytes()
