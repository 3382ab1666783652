"""Owns the question whether a release may take the place of the one that a channel has: is anybody worse off?

Refuses to let a regression pass unsaid. Both releases carry, signed, how often each person was rightly named on that
person's held-out crops, and which crops those were; where they were the same, the two manifests decide alone. Where
they were not, ``held_out`` (a dataset) has both releases measured anew, by the files that devices run.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cloud_tools.progress import Say, say_nothing
from cloud_tools.publishing.model_role import ListedRelease
from cloud_tools.publishing.regression import MARGIN_POINTS, Account, Change, Verdict, compare_people
from cloud_tools.publishing.site_folder import SiteFolder
from cloud_tools.setting_errors import Sentence, Setting, SettingError
from contract.checks import safe_name
from contract.errors import InputError
from contract.files import atomic_write
from contract.manifest import NAME, FileEntry, Manifest, check_file, parse_manifest
from contract.release import release_path


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What may become the release of ``channel``. ``margin_points``: percentage points that anybody may lose.

    ``held_out``: a dataset to measure both releases on instead of what they recorded. ``accept``: say what is worse,
    and go on.
    """

    channel: str
    margin_points: float = MARGIN_POINTS
    held_out: Path | None = None
    accept: bool = False


def check_regression(
    rule: Rule,
    bundle: Path,
    manifest: Manifest,
    current: ListedRelease,
    site: SiteFolder,
    say: Say = say_nothing,
) -> Verdict:
    """Compare the bundle with ``current``, what the channel has; call it with the site's lock held.

    Raises:
        InputError: somebody loses more than the margin and that is not accepted (the text says who, and by how much),
            the current release is not on the site as it was signed, or ``held_out`` is no usable dataset.
    """
    old = current_manifest(site, current)
    what = f"release {manifest.version} of {manifest.model}"
    if rule.held_out is None:
        before, now = _recorded(old), _recorded(manifest)
    else:
        say(Sentence(f"measuring releases {old.version} and {manifest.version} on {rule.held_out}"))
        with site.workspace() as work:
            before, now = _measured(rule.held_out, _rebuilt(site, old, work / "current"), bundle)
    verdict = compare_people(before, now, rule.margin_points)
    names = {**old.names, **manifest.names}
    not_compared = f"not compared with release {old.version}: "
    if not before:
        say(Sentence(not_compared, "it records nobody's held-out accuracy"))
    for person, reason in verdict.not_compared.items():
        again = () if rule.held_out else ("; ", Setting.HELD_OUT, " DATASET measures both anew")
        say(Sentence(not_compared, f"{names.get(person, person)} {reason}", *again))
    if verdict.worse:
        line = f"{what} is worse than release {old.version}, which {rule.channel} has: {_list(verdict.worse, names)}"
        if not rule.accept:
            margin = f"{line}; the margin is {rule.margin_points:g} points ("
            raise SettingError(margin, Setting.ACCEPT_REGRESSION, " publishes it)")
        say(Sentence(f"accepted: {line}"))
    return verdict


def current_manifest(site: SiteFolder, current: ListedRelease) -> Manifest:
    """Read the manifest of a listed release from the site; InputError when it is not what was signed."""
    target = current.target
    folder, _, name = release_path(target.model, target.version).rpartition("/")
    path = site.path / "targets" / folder / f"{current.digest}.{name}"
    try:
        check_file(path, FileEntry(current.digest, path.stat().st_size))
        return parse_manifest(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing from the site") from error


def _recorded(manifest: Manifest) -> Account:
    people = manifest.metrics.get("per_person")
    return people if isinstance(people, dict) else {}


def _measured(dataset: Path, current: Path, new: Path) -> tuple[Account, Account]:
    """Measure both bundles on the test side; who is not in a model is not in its account."""
    from cloud_tools.datasets.dataset import load_dataset
    from cloud_tools.evaluation.evaluation import evaluate_bundle

    held_out = load_dataset(dataset)
    found = []
    for bundle in (current, new):
        people = evaluate_bundle(bundle, held_out, with_baseline=False).per_person
        found.append({name: asdict(part) for name, part in people.items() if part.in_model})
    return found[0], found[1]


def _rebuilt(site: SiteFolder, manifest: Manifest, folder: Path) -> Path:
    """Put the files of a published release together as a bundle again."""
    folder.mkdir()
    for name, entry in manifest.files().items():
        if not site.has_content(entry):
            raise InputError(
                f"{site.content(entry.sha256)}: {name} of release {manifest.version} is missing or damaged"
            )
        shutil.copyfile(site.content(entry.sha256), folder / safe_name(name, NAME))
    atomic_write(folder / NAME, manifest.to_bytes())
    return folder


def _list(changes: tuple[Change, ...], names: Mapping[str, str]) -> str:
    return ", ".join(str(replace(change, person=names.get(change.person, change.person))) for change in changes)
