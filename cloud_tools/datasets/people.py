"""Owns who is in the next release and what they are called: forgetting, renaming, in a dataset and a base's labels.

Refuses to touch files: pictures on disk stay where they are. What is given back has none of the forgotten, so that
whatever is made from it (head, means, thresholds, metrics, digest) cannot have any either.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from cloud_tools.datasets.dataset import Crop, Dataset
from cloud_tools.datasets.person_ids import label_of, person_of
from cloud_tools.setting_errors import Setting, SettingError
from contract.checks import safe_name
from contract.errors import InputError
from contract.manifest import UNKNOWN
from contract.names import check_apart, display_name


def forget_people(dataset: Dataset, labels: Sequence[str], names: Sequence[str]) -> tuple[Dataset, tuple[str, ...]]:
    """Return ``dataset`` and a base's ``labels`` without ``names``.

    Raises:
        InputError: a name that neither of them has: a typing error would keep the person.
    """
    for name in names:
        if name not in dataset.people and name not in labels:
            raise SettingError(Setting.FORGET, f" {name}: nobody of that name is in the base or in {dataset.folder}")
    crops = tuple(crop for crop in dataset.crops if crop.person not in names)
    return dataclasses.replace(dataset, crops=crops), tuple(label for label in labels if label not in names)


def rename_people(
    dataset: Dataset, labels: Sequence[str], names: Mapping[str, str]
) -> tuple[Dataset, tuple[str, ...]]:
    """Return ``dataset`` and a base's ``labels`` with the new names; a label keeps its place, and so its weights.

    Raises:
        InputError: nobody has the old name, or the new one is somebody's already (two people would become one).
    """
    there = {*dataset.people, *labels}
    sides = (dataset.people, labels)
    for old, new in names.items():
        if old not in there:
            raise _refuse_rename(f"{old}={new}", f"nobody called {old} is in the base or in {dataset.folder}")
        # In the dataset they may have the new name already.
        both = old != new and any(old in side and new in side for side in sides)
        if both or list(names.values()).count(new) > 1:
            raise _refuse_rename(f"{old}={new}", f"{new} is somebody already; two people would become one")
        _check_plain(new)
        if new == UNKNOWN:
            raise _refuse_rename(f"{old}={new}", f"nobody may be called {UNKNOWN!r}: it is what strangers are called")
    crops = tuple(
        sorted((_renamed(crop, names) for crop in dataset.crops), key=lambda c: (c.person, c.frame, c.file))
    )
    return dataclasses.replace(dataset, crops=crops), tuple(names.get(label, label) for label in labels)


def read_renames(words: Sequence[str], names: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the new label of each old one, as ``OLD=NEW`` words say, and ``names`` (by label) afterwards.

    OLD is a label or a name. NEW is any name; the label is what a folder of that name would have.

    Raises:
        InputError: no such word, or no name.
    """
    labels: dict[str, str] = {}
    called: dict[str, str] = {}
    for word, new in parse_renames(words).items():
        try:
            label, name = person_of(new, "")
        except InputError as error:  # its text starts with the colon after the place that was given: none
            raise SettingError(Setting.RENAME, str(error)) from error
        labels[label_of(word, names)] = label
        called |= {label: name} if name else {}
    return labels, {label: name for label, name in names.items() if label not in labels} | called


def call_people(dataset: Dataset, names: Mapping[str, str], words: Sequence[str]) -> Dataset:
    """Return ``dataset`` with its people called by ``names`` (by label), and where ``LABEL=NAME`` words say by these.

    Raises:
        InputError: no such word, nobody of that label, no name, or two who would be called the same.
    """
    called = {label: name for label, name in names.items() if label in dataset.people}
    for word in words:
        text, equals, name = word.partition("=")
        label = label_of(text, called)
        if not equals or label not in dataset.people:
            raise SettingError(Setting.NAME, f" {word}: must be LABEL=NAME, of one of {', '.join(dataset.people)}")
        try:
            called[label] = display_name(name, f" {label}")
        except InputError as error:
            raise SettingError(Setting.NAME, str(error)) from error
    check_apart(called, dataset.people, UNKNOWN, str(dataset.folder))
    return dataclasses.replace(dataset, names=called)


def parse_renames(words: Sequence[str]) -> dict[str, str]:
    """Read ``OLD=NEW`` words; InputError when one is not, or an old name comes twice."""
    names: dict[str, str] = {}
    for word in words:
        old, equals, new = word.partition("=")
        if not (old and equals and new) or old in names:
            raise _refuse_rename(word, "must be OLD=NEW, each OLD once")
        names[old] = new
    return names


def _refuse_rename(word: str, reason: str) -> SettingError:
    return SettingError(Setting.RENAME, f" {word}: {reason}")


def _check_plain(name: str) -> None:
    try:
        safe_name(name, "")
    except InputError as error:  # its text starts with the colon after the place that was given: none
        raise SettingError(Setting.RENAME, str(error)) from error


def _renamed(crop: Crop, names: Mapping[str, str]) -> Crop:
    new = names.get(crop.person)
    if new is None:
        return crop
    # A visit is called after its person; the digest becomes that of a dataset made under the new name.
    owner, slash, number = crop.visit.rpartition("/")
    visit = f"{new}/{number}" if slash and owner == crop.person else crop.visit
    return dataclasses.replace(crop, person=new, visit=visit)
