"""Who is forgotten is nowhere, and who is renamed stays the same person."""

from pathlib import Path

import pytest

from cloud_tools.commands.terminal import options_named
from cloud_tools.datasets.dataset import Crop, Dataset
from cloud_tools.datasets.people import forget_people, parse_renames, rename_people
from contract.errors import InputError

BASE = ("carl", "anna", "bert")


def household(*names: str) -> Dataset:
    crops = [
        Crop(
            file=f"crops/{name}/{i}.png",
            person=name,
            frame=i,
            time_s=i / 10,
            visit=f"{name}/0",
            split="train",
            pixels=f"{name}{i}",
        )
        for name in sorted(names)
        for i in range(3)
    ]
    return Dataset(Path("pictures"), {}, tuple(crops))


def test_a_dataset_without_a_person_has_the_digest_of_one_that_never_had_them() -> None:
    dataset, labels = forget_people(household("anna", "bert", "carl"), BASE, ["anna"])
    assert dataset.digest == household("bert", "carl").digest
    assert dataset.people == ("bert", "carl")
    assert labels == ("carl", "bert")


def test_a_person_of_the_base_alone_can_be_forgotten() -> None:
    assert forget_people(household("anna", "bert"), BASE, ["carl"])[1] == ("anna", "bert")


def test_forgetting_nobody_there_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="--forget ana: nobody of that name"), options_named():
        forget_people(household("anna", "bert"), BASE, ["ana"])


def test_a_renamed_person_keeps_crops_and_place_among_the_labels() -> None:
    dataset, labels = rename_people(household("anna", "bert", "carl"), BASE, {"anna": "zoe"})
    assert labels == ("carl", "zoe", "bert")
    assert dataset.people == ("bert", "carl", "zoe")
    assert {crop.file for crop in dataset.crops if crop.person == "zoe"} == {f"crops/anna/{i}.png" for i in range(3)}
    assert {crop.visit for crop in dataset.crops if crop.person == "zoe"} == {"zoe/0"}
    assert [crop.person for crop in dataset.crops] == sorted(crop.person for crop in dataset.crops)


def test_crops_that_have_the_new_name_already_need_only_the_label_renamed() -> None:
    dataset, labels = rename_people(household("bert", "carl"), BASE, {"anna": "zoe"})
    assert dataset == household("bert", "carl")
    assert labels == ("carl", "zoe", "bert")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"ana": "zoe"}, "nobody called ana"),
        ({"anna": "bert"}, "bert is somebody already"),
        ({"anna": "zoe", "bert": "zoe"}, "zoe is somebody already"),
        ({"anna": "unknown"}, "may be called 'unknown'"),
        ({"anna": "../x"}, "--rename"),
    ],
)
def test_a_rename_that_would_mix_people_up_is_refused(names: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said), options_named():
        rename_people(household("anna", "bert"), BASE, names)


@pytest.mark.parametrize("words", [["anna"], ["=zoe"], ["anna="], ["anna=zoe", "anna=eva"]])
def test_a_rename_that_cannot_be_read_is_refused(words: list[str]) -> None:
    with pytest.raises(InputError, match="must be OLD=NEW"):
        parse_renames(words)


def test_renames_are_read() -> None:
    assert parse_renames(["anna=zoe", "bert=max"]) == {"anna": "zoe", "bert": "max"}
