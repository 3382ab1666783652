"""What the import contracts of setup.cfg cannot see: on the device one module alone renames or activates a slot."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

AGENT = Path(__file__).parents[2] / "agent"
OWNER = AGENT / "updates" / "slots.py"
RENAMES = frozenset({"rename", "renames", "replace", "move", "atomic_folder"})


def modules() -> list[Path]:
    """Return every module of the agent but the one that may rename."""
    return sorted(path for path in AGENT.rglob("*.py") if path != OWNER)


def renames(source: str) -> Iterator[str]:
    """Return what renames a file or a folder in a module's ``source``: calls, and imports of what would.

    ``text.replace(old, new)`` and ``dataclasses.replace(record, field=...)`` are no renames: a path's ``replace``
    takes one argument. Of a name imported from ``os`` or ``shutil`` the import itself is told.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil", "contract.files"):
            yield from (f"line {node.lineno}: import {alias.name}" for alias in node.names if alias.name in RENAMES)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _renames(node, node.func):
            yield f"line {node.lineno}: {ast.unparse(node.func)}"


def _renames(call: ast.Call, function: ast.Attribute) -> bool:
    if function.attr not in RENAMES:
        return False
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if function.attr != "replace":
        return function.attr != "move" or owner == "shutil"
    return owner == "os" or (owner != "dataclasses" and len(call.args) == 1 and not call.keywords)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(AGENT)))
def test_only_slots_renames_and_the_rest_write_by_the_helpers_for_files(path: Path) -> None:
    assert list(renames(path.read_text())) == []


def test_slots_is_seen_to_rename() -> None:
    assert list(renames(OWNER.read_text()))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("os.rename(a, b)", True),
        ("os.replace(a, b)", True),
        ("path.rename(b)", True),
        ("(folder / 'a').replace(folder / 'b')", True),
        ("shutil.move(a, b)", True),
        ("from os import replace", True),
        ("from contract.files import atomic_folder", True),
        ("text.replace('a', 'b')", False),
        ("dataclasses.replace(record)", False),
        ("replace(record, trial=None)", False),
        ("moment.replace(tzinfo=None)", False),
        ("atomic_rename(part, path)", False),
    ],
)
def test_a_rename_is_told_from_what_only_has_its_name(line: str, found: bool) -> None:
    assert bool(list(renames(line))) is found
